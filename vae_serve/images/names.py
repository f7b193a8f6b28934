"""What the pictures of a source are called: a long ordered list in little memory."""

import hashlib
from collections.abc import Iterable
from typing import Protocol


class Names(Protocol):
    """The paths of a source's rows, in order; bytes as the file system has them."""

    count: int

    def __getitem__(self, rows: range) -> list[bytes]:
        """The names of some neighbouring rows."""
        ...

    def fingerprint(self) -> str:
        """SHA-256 over all names."""
        ...


class PackedNames:
    """Names packed by the block: some bytes each, where a list of objects takes a hundred."""

    BLOCK = 64

    def __init__(self, names: Iterable[bytes]) -> None:
        self._blocks: list[bytes] = []
        self.count = 0
        block: list[bytes] = []
        for name in names:
            block.append(name)
            if len(block) == self.BLOCK:
                self._pack(block)
                block = []
        if block:
            self._pack(block)

    def _pack(self, block: list[bytes]) -> None:
        self._blocks.append(b"\0".join(block))
        self.count += len(block)

    def __getitem__(self, rows: range) -> list[bytes]:
        found: list[bytes] = []
        first = rows.start // self.BLOCK
        for packed in self._blocks[first : -(-rows.stop // self.BLOCK)]:
            found += packed.split(b"\0")
        return found[rows.start - first * self.BLOCK :][: len(rows)]

    def fingerprint(self) -> str:
        """SHA-256 over the names in order, each ended by a NUL."""
        digest = hashlib.sha256()
        for packed in self._blocks:
            digest.update(packed + b"\0")
        return digest.hexdigest()


class Numbers:
    """The names of rows that have none: their numbers, eight digits or more."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._digits = max(8, len(str(count - 1)))

    def __getitem__(self, rows: range) -> list[bytes]:
        return [b"%0*d" % (self._digits, row) for row in rows]

    def fingerprint(self) -> str:
        """SHA-256 over their count, which says it all."""
        return hashlib.sha256(b"%d" % self.count).hexdigest()


def shown(name: bytes) -> str:
    """A name as text; a byte that is no UTF-8 becomes a backslash escape."""
    return name.decode("utf-8", "backslashreplace")


def as_utf8(names: list[bytes]) -> list[bytes]:
    """Names as `shown` has them, encoded; nearly always they are that already."""
    try:
        b"\0".join(names).decode("utf-8")
    except UnicodeDecodeError:
        return [shown(name).encode() for name in names]
    return names
