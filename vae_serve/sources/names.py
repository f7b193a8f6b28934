"""What the pictures of a source are called, a long ordered list in little memory, and what they show."""

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


# NumPy is imported where it is used: a folder is listed before that is loaded.

Text = tuple[bytes, "npt.NDArray[np.int32]"]  # names as UTF-8, end to end; where each begins and the last ends (n + 1,)


class Names(Protocol):
    """The paths of a source's rows, in order; bytes as the file system has them."""

    count: int

    def __getitem__(self, rows: range) -> list[bytes]:
        """The names of some neighbouring rows."""
        ...

    def text(self, rows: range) -> Text:
        """The same as `shown` has them."""
        ...

    def select(self, rows: range) -> "Names":
        """The names of some neighbouring rows alone, under the rows' own numbers; it can be pickled."""
        ...

    def fingerprint(self) -> str:
        """SHA-256 over all names."""
        ...


class PackedNames:
    """Names packed by the block: some bytes each, where a list of objects takes a hundred."""

    BLOCK = 64

    def __init__(self, names: Iterable[bytes], first: int = 0) -> None:
        """`first`: the row of the first of them."""
        self._blocks: list[bytes] = []
        self.count, self._first_row = 0, first
        block: list[bytes] = []
        for name in names:
            block.append(name)
            if len(block) == self.BLOCK:
                self._pack(block)
                block = []
        if block:
            self._pack(block)

    def _pack(self, block: list[bytes]) -> None:
        packed = b"\0".join(block)
        if packed.count(b"\0") != len(block) - 1:
            raise ValueError(f"a name among {block} holds a NUL byte")  # the rows after it would get others' names
        self._blocks.append(packed)
        self.count += len(block)

    def __getitem__(self, rows: range) -> list[bytes]:
        names: list[bytes] = []
        blocks, skipped = self._blocks_of(rows)
        for packed in blocks:
            names += packed.split(b"\0")
        return names[skipped:][: len(rows)]

    def select(self, rows: range) -> "PackedNames":
        """The names of some neighbouring rows alone, under the rows' own numbers."""
        return PackedNames(self[rows], rows.start)

    def _blocks_of(self, rows: range) -> tuple[list[bytes], int]:
        """The blocks that some rows lie in, and how many names come before them there."""
        start, stop = rows.start - self._first_row, rows.stop - self._first_row
        first = start // self.BLOCK
        return self._blocks[first : -(-stop // self.BLOCK)], start - first * self.BLOCK

    def text(self, rows: range) -> Text:
        """The names of some neighbouring rows as `shown` has them."""
        import numpy as np

        blocks, skipped = self._blocks_of(rows)
        ended = b"\0".join(blocks) + b"\0"
        try:
            ended.decode("utf-8")  # nearly always they are that already
        except UnicodeDecodeError:
            ended = shown(ended).encode()
        bounds = np.flatnonzero(np.frombuffer(b"\0" + ended, np.uint8) == 0)[skipped : skipped + len(rows) + 1]
        text = ended[bounds[0] : bounds[-1]].replace(b"\0", b"")
        return text, (bounds - bounds[0] - np.arange(len(bounds))).astype(np.int32)

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
            left, four = np.divmod(left, 10_000)
            text[:, group] = _four_digits()[four]
        digits = text.view(np.uint8)[:, -self._digits :]
        return digits.tobytes(), np.arange(len(rows) + 1, dtype=np.int32) * np.int32(self._digits)

    def select(self, rows: range) -> "Numbers":
        """All of them: they are a count."""
        return self

    def fingerprint(self) -> str:
        """SHA-256 over their count, which says it all."""
        return hashlib.sha256(b"%d" % self.count).hexdigest()


class Labels(NamedTuple):
    """What neighbouring rows show, as `pandas.Categorical` has it: row i categories[codes[i]], UTF-8; -1 is unknown."""

    categories: Sequence[bytes]
    codes: "npt.NDArray[np.int32]"  # (n,)

    @classmethod
    def of(cls, texts: Iterable[bytes | None]) -> "Labels":
        """One text for each row, None where it is unknown."""
        import numpy as np

        known: dict[bytes | None, int] = {None: -1}
        codes = [known.setdefault(text, len(known) - 1) for text in texts]
        return cls([text for text in known if text is not None], np.array(codes, np.int32))

    def texts(self) -> list[bytes | None]:
        """The same for each row."""
        words = [*self.categories, None]  # which is the one at -1
        return [words[code] for code in self.codes.tolist()]


def first_folders(names: list[bytes]) -> Labels:
    """`cat/1.png`, `./cat/1.png` and `../cat/1.png` -> `cat`; unknown for a file of the folder itself or an absolute
    path. `names` are sorted.
    """
    import numpy as np

    texts: list[bytes | None] = []
    starts: list[int] = []
    at = 0
    while at < len(names):
        first, slash, _ = names[at].partition(b"/")
        if first in _NO_LABELS and slash:
            texts.append(_first_real_folder(names[at]))
            starts.append(at)
            at += 1
            continue
        within = bool(slash and first)
        texts.append(shown(first).encode() if within else None)
        starts.append(at)
        at = bisect_left(names, first + b"0", at) if within else at + 1  # in ASCII, 0 comes after the slash
    runs = Labels.of(texts)
    return Labels(runs.categories, np.repeat(runs.codes, np.diff([*starts, len(names)])))


_NO_LABELS = {b".", b".."}


def _first_real_folder(name: bytes) -> bytes | None:
    folders = (part for part in name.split(b"/")[:-1] if part and part not in _NO_LABELS)
    first = next(folders, None)
    return None if first is None else shown(first).encode()


@cache
def _four_digits() -> Any:
    """0000 to 9999 as text: (10000,), the four bytes of each as one number."""
    import numpy as np

    return (np.arange(10_000)[:, None] // [1000, 100, 10, 1] % 10 + ord("0")).astype(np.uint8).view(np.uint32)[:, 0]


def shown(name: bytes) -> str:
    """A name as text; a byte that is not UTF-8 becomes a backslash escape."""
    return name.decode("utf-8", "backslashreplace")
