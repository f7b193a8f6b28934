"""Text from a file, made safe for the place where it is shown or written: one function for each language.

A manifest's licence, a data set's name, a file's name: none of them is ours, and each language has its own way of being
broken out of. Each function returns text that shows, or reads back as, what it was given and nothing else.
"""

import json as json_
import math
import re
from typing import Any

# What acts on a reader instead of being read: C0 and C1 controls (ESC begins a terminal's commands), DEL, line and
# paragraph separators, the marks that turn the direction of text (Unicode TR 36, 3.2; CVE-2021-42574), the byte order
# mark, and halves of surrogate pairs, which cannot be encoded.
# Patterns are kept as text: `re` compiles each when it is first used, which `--help` need not wait for.
_UNSAFE = "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def terminal(text: object) -> str:
    """One line that a terminal shows and does not obey: control characters as `\\n`, `\\x1b`, `\\u202e`.

    A byte of a file name that is not UTF-8 is shown as `\\xe9`.
    """
    return re.sub(_UNSAFE, _escape, str(text))


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # what Python's file names hold in the place of a byte that is not UTF-8 (PEP 383)
        code -= 0xDC00
    return _SHORT.get(match[0]) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def json(value: Any, indent: int | None = None) -> str:
    """JSON that reads back equal, with nothing in it that acts on a terminal or ends an HTML `<script>` element.

    What JSON has no form for, such as a path, is its `str`; NaN and infinities, which it lacks too, are null.
    """
    text = json_.dumps(_finite(value), indent=indent, ensure_ascii=False, allow_nan=False, default=str)
    keep = "\n" if indent is not None else ""  # `json.dumps` escapes those inside strings; these are its own
    return re.sub(f"{_UNSAFE}|[<>&]", lambda m: m[0] if m[0] == keep else f"\\u{ord(m[0]):04x}", text)


def _finite(value: Any) -> Any:
    match value:
        case float() if not math.isfinite(value):
            return None
        case dict():
            return {name: _finite(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_finite(inner) for inner in value]
    return value


def yaml(value: Any) -> str:
    """A value in YAML's flow style on one line, for 1.1 and 1.2: strings in double quotes with JSON's escapes.

    Halves of surrogate pairs become U+FFFD, which YAML can hold. Raises ValueError for NaN and infinities.
    """
    match value:
        case dict():
            return "{" + ", ".join(f"{yaml(str(name))}: {yaml(inner)}" for name, inner in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(yaml, value)) + "]"
        case float() if not math.isfinite(value):
            raise ValueError(f"{value} is not a figure")
        case float():  # YAML 1.1 takes 1e-05 for a string: a float has a point
            digits = repr(value)
            return digits if "." in digits else digits.replace("e", ".0e")
        case bool() | int() | None:
            return json_.dumps(value)
    text = json_.dumps(re.sub("[\ud800-\udfff]", "\ufffd", str(value)), ensure_ascii=False)
    return re.sub(_UNSAFE, lambda match: f"\\u{ord(match[0]):04x}", text)


def pbtxt(text: str) -> str:
    """A string of protobuf's text format, with its quotes: printable ASCII, all else as octal escapes of UTF-8."""
    return '"' + "".join(map(_pbtxt_byte, text.encode("utf-8", "replace"))) + '"'


def _pbtxt_byte(byte: int) -> str:
    return chr(byte) if 0x20 <= byte < 0x7F and byte not in b'"\\' else f"\\{byte:03o}"


def shell(text: str) -> str:
    """One word for a shell, on one line; with control characters in it, in `$'...'` (POSIX.1-2024)."""
    import shlex

    if not re.search(_UNSAFE, text):
        return shlex.quote(text)
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return "$'" + re.sub(_UNSAFE, lambda match: "".join(map(_shell_byte, _utf8(match[0]))), escaped) + "'"


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape" if "\udc80" <= text <= "\udcff" else "replace")


def _shell_byte(byte: int) -> str:
    return f"\\{byte:03o}"


_MARKUP = r"[\\`*\[\]<>|#~$!]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|&(?=[A-Za-z0-9#])"


def markdown(text: object) -> str:
    """Plain text within a paragraph or a table's cell of GitHub's Markdown: no markup, no HTML, no new line."""
    return re.sub(_MARKUP, r"\\\g<0>", _prose(text))


def markdown_code(text: object) -> str:
    """A code span of Markdown: the text as it is, on one line, whatever backticks it holds. Not for a table's cell."""
    line = _prose(text) or " "
    fence = "`" * (max(map(len, re.findall("`+", line)), default=0) + 1)
    pad = " " if line[0] in "` " or line[-1] in "` " else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def _prose(text: object) -> str:
    """As `terminal`, but with line breaks and other white space as single spaces."""
    return terminal(re.sub(r"\s+", " ", str(text))).strip()
