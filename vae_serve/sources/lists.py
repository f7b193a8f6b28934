"""Lists of paths: a text file or standard input."""

import codecs
import os
import select
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from vae_serve.errors import SourceError
from vae_serve.sources.files import Files
from vae_serve.sources.names import PackedNames
from vae_serve.sources.regular import regular_file

LIMIT = 1 << 30  # bytes of a list
_BLOCK = 1 << 20

_WIDE = {  # the longer marks first: one begins with another
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


@dataclass(frozen=True)
class ListSource:
    """The files whose paths are in a list, relative to the current folder: one a line, or NUL-separated."""

    path: Path

    def open(self) -> Files:
        """Reads the list.

        Raises:
            SourceError: it cannot be read, is not text, is too long, or is empty.
        """
        with regular_file(self.path) as file:
            return listed(_read(file, str(self.path)), str(self.path))


@dataclass(frozen=True)
class InlineListSource:
    """The same, the list being at hand."""

    text: bytes
    where: str

    def open(self) -> Files:
        """Raises SourceError where it is not text or empty."""
        return listed(self.text, self.where)


def standard_input() -> InlineListSource:
    """The list that comes in through standard input.

    Raises:
        SourceError: it is closed, cannot be read, or is too long.
    """
    if sys.stdin is None:
        raise SourceError("standard input is closed; pipe a list of paths into it")
    try:
        file = sys.stdin.fileno()
    except (OSError, ValueError) as error:
        raise SourceError(f"standard input cannot be read: {error}") from error
    return InlineListSource(_read(file, "standard input"), "standard input")


def listed(text: bytes, where: str) -> Files:
    """The files of a list, in sorted order; a path that is there twice is two rows."""
    text = _as_utf8(text, where)
    lines = text.split(b"\0") if b"\0" in text else text.replace(b"\r\n", b"\n").split(b"\n")
    names = sorted(line for line in lines if line.strip())
    if not names:
        raise SourceError(f"{where} names no files; give one path a line")
    return Files("list", b".", PackedNames(names), Counter())


def _read(file: int, where: str) -> bytes:
    blocks, total = [], 0
    try:
        while block := _next_block(file):
            blocks.append(block)
            total += len(block)
            if total > LIMIT:
                raise SourceError(f"{where} has more than {LIMIT:,} bytes, the most that a list may have; split it")
    except OSError as error:
        raise SourceError(f"{where} cannot be read: {error.strerror}") from error
    return b"".join(blocks)


def _next_block(file: int) -> bytes:
    while True:
        try:
            return os.read(file, _BLOCK)
        except BlockingIOError:  # a pipe that its other end has made so
            select.select([file], [], [])


def _as_utf8(text: bytes, where: str) -> bytes:
    """Without a byte order mark; UTF-16 and UTF-32 with one are decoded."""
    if text.startswith(codecs.BOM_UTF8):
        return text[len(codecs.BOM_UTF8) :]
    encoding = next((name for mark, name in _WIDE.items() if text.startswith(mark)), None)
    if encoding is None:
        if len(text) > 1 and max(text[::2].count(0), text[1::2].count(0)) > len(text) // 4:
            raise SourceError(f"{where} is not a list in UTF-8 (every other byte is 0, as in UTF-16); save it as UTF-8")
        return text
    try:
        return text.decode(encoding).encode()
    except UnicodeError as error:
        raise SourceError(f"{where} begins as {encoding.upper()} text and goes on as none: {error}") from error
