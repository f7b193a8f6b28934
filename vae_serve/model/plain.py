"""Plain data from untrusted JSON: bounded, finite, printable, every key once. Pure."""

import json
import math
from typing import Any

DEPTH = 12  # of lists and objects within each other; a manifest has 6
VALUES = 200_000  # in one document; a manifest has some two thousand
TEXT = 4096  # characters of one text; the longest in a manifest is a command line
INTEGER = (-(1 << 63), (1 << 64) - 1)

Plain = dict[str, Any]


def parse(contents: bytes) -> Plain:
    """A JSON object of which any reader makes the same: UTF-8, no key twice in one object, no NaN or infinity.

    Texts are printable (`str.isprintable`), so that none of them can move a terminal's cursor or turn its writing
    direction; numbers are finite; depth and size are bounded by the constants above.

    Raises:
        ValueError: says where and what.
    """
    try:
        document = json.loads(contents.decode(), object_pairs_hook=_object, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError(f"it is nested more than {DEPTH} deep") from None
    if not isinstance(document, dict):
        raise ValueError("it is not a JSON object")
    check(document)
    return document


def check(document: Plain) -> None:
    """Raises ValueError where a tree of plain values is not as `parse` promises; says where and what."""
    left = VALUES
    waiting: list[tuple[str, Any, int]] = [("", document, 0)]
    while waiting:
        where, value, depth = waiting.pop()
        left -= 1
        if left < 0 or depth > DEPTH:
            raise ValueError(f"it has more than {VALUES:,} values, or is nested more than {DEPTH} deep")
        if isinstance(value, dict):
            for key, inner in value.items():
                _check_text(key, where or "its top level")
                waiting.append((f"{where}.{key}" if where else key, inner, depth + 1))
        elif isinstance(value, list | tuple):
            waiting += [(f"{where}[{index}]", inner, depth + 1) for index, inner in enumerate(value)]
        elif isinstance(value, str):
            _check_text(value, where)
        elif isinstance(value, float):
            if not math.isfinite(value):
                raise ValueError(f"{where} is {value}")
        elif isinstance(value, int):
            if not INTEGER[0] <= value <= INTEGER[1]:
                raise ValueError(f"{where} is a number of more than 64 bits")
        elif value is not None:
            raise ValueError(f"{where} is a {type(value).__name__}")


def printable(value: Any) -> Any:
    """The same tree with every text as `parse` takes it: what cannot be printed is written as Python escapes it."""
    if isinstance(value, dict):
        return {printable(key): printable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [printable(inner) for inner in value]
    if isinstance(value, str):
        text = value if value.isprintable() else "".join(c if c.isprintable() else _escaped(c) for c in value)
        return text if len(text) <= TEXT else text[: TEXT - 3] + "..."
    return value


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def _check_text(text: str, where: str) -> None:
    if len(text) > TEXT:
        raise ValueError(f"{where} holds a text of {len(text):,} characters; {TEXT:,} is the most")
    if not text.isprintable():
        raise ValueError(f"{where} holds characters that cannot be printed: {text!a:.80}")


def _object(pairs: list[tuple[str, Any]]) -> Plain:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise ValueError("a key occurs twice in one object")
    return entries


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")
