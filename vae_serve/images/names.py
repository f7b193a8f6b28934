"""What the pictures of a source are called: a long ordered list in little memory."""

import hashlib
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


Text = tuple[bytes, "npt.NDArray[np.int32]"]  # names as UTF-8, end to end, and the bytes of each (n,)


class Names(Protocol):
    """The paths of a source's rows, in order; bytes as the file system has them."""

    count: int

    def __getitem__(self, rows: range) -> list[bytes]:
        """The names of some neighbouring rows."""
        ...

    def text(self, rows: range) -> Text:
        """The same as `shown` has them."""
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

    def text(self, rows: range) -> Text:
        """The names of some neighbouring rows as `shown` has them."""
        import numpy as np  # not above: a folder is listed before NumPy is loaded

        ended = b"".join(name + b"\0" for name in self[rows])
        try:
            ended.decode("utf-8")  # nearly always they are that already
        except UnicodeDecodeError:
            ended = shown(ended).encode()
        ends = np.flatnonzero(np.frombuffer(ended, np.uint8) == 0)
        return ended.replace(b"\0", b""), np.diff(ends, prepend=-1).astype(np.int32) - 1

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

    def text(self, rows: range) -> Text:
        """The names of some neighbouring rows."""
        import numpy as np

        groups = -(-self._digits // 4)
        text = np.empty((len(rows), groups), np.uint32)
        left = np.arange(rows.start, rows.stop)
        for group in reversed(range(groups)):
            text[:, group] = _four_digits()[left % 10_000]
            left //= 10_000
        digits = text.view(np.uint8)[:, -self._digits :]
        return digits.tobytes(), np.full(len(rows), self._digits, np.int32)

    def fingerprint(self) -> str:
        """SHA-256 over their count, which says it all."""
        return hashlib.sha256(b"%d" % self.count).hexdigest()


@cache
def _four_digits() -> Any:
    """0000 to 9999 as text: (10000,), the four bytes of each as one number."""
    import numpy as np

    return (np.arange(10_000)[:, None] // [1000, 100, 10, 1] % 10 + ord("0")).astype(np.uint8).view(np.uint32)[:, 0]


def shown(name: bytes) -> str:
    """A name as text; a byte that is no UTF-8 becomes a backslash escape."""
    return name.decode("utf-8", "backslashreplace")
