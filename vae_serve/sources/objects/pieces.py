"""Neighbouring members of an archive in an object store, fetched together: a request costs as much as many pictures."""

from typing import Any

import numpy as np
import numpy.typing as npt

from vae_serve.sources.objects.ahead import Ahead
from vae_serve.sources.objects.bucket import part
from vae_serve.sources.objects.file import StoredFile
from vae_serve.sources.readable import Readable

Offsets = npt.NDArray[np.int64]

PIECE = 1 << 18  # bytes
_GAP = 1 << 16  # bytes that are fetched for nothing rather than by a request of their own
_LARGEST = 1 << 24  # bytes of a member that are fetched ahead


class Pieces:
    """An archive's members, row by row, in pieces of the file that are fetched ahead."""

    def __init__(self, file: StoredFile, starts: Offsets, stops: Offsets) -> None:
        """Where the member of each row begins and ends, (n,)."""
        self._file = file
        stops = np.minimum(stops, starts + _LARGEST)
        begins = np.ones(len(starts), bool)
        begins[1:] = (
            (starts[1:] < starts[:-1])
            | (starts[1:] > stops[:-1] + _GAP)
            | (starts[1:] // PIECE != starts[:-1] // PIECE)
        )
        firsts = np.flatnonzero(begins)
        self._of_row = np.cumsum(begins) - 1
        starts, stops = starts[firsts], np.minimum(np.maximum.reduceat(stops, firsts), file.size)
        self._starts, self._stops = starts.tolist(), stops.tolist()
        self._ahead: Ahead[bytes] = Ahead(self._fetch, np.maximum(stops - starts, 0))
        self._number, self._window = -1, _Window(file, 0, b"")
        self._last = self._next = -1

    def expect(self, rows: range) -> None:
        """Rows that will be asked for; where they follow the last ones, so may others."""
        last = len(self._starts) - 1 if rows.start == self._next else int(self._of_row[rows.stop - 1])
        self._last, self._next = last, rows.stop

    def around(self, row: int) -> Readable:
        """The file, of which the bytes of a row's member are at hand. Raises SourceLost."""
        number = int(self._of_row[row])
        if number != self._number:
            data = self._ahead.take(number, self._last)
            self._number, self._window = number, _Window(self._file, self._starts[number], data)
        return self._window

    def _fetch(self, number: int) -> bytes:
        start, stop = self._starts[number], self._stops[number]
        return part(self._file.stored, start, stop) if start < stop else b""


class _Window:
    """A file, some bytes of which are at hand."""

    def __init__(self, file: StoredFile, begin: int, data: bytes) -> None:
        self._file, self._begin, self._data = file, begin, data
        self.size, self.window = file.size, file.window

    def pread(self, size: int, offset: int, /) -> bytes:
        """Up to `size` bytes from `offset` on."""
        at = offset - self._begin
        if 0 <= at < len(self._data):
            return self._data[at : at + size]
        return self._file.pread(size, offset)

    def preadinto(self, room: memoryview, offset: int, /) -> int:
        """Up to as many bytes as there is room for."""
        data = self.pread(room.nbytes, offset)
        room.cast("B")[: len(data)] = data
        return len(data)

    def kept(self) -> Any:
        """Itself: there is nothing to close."""
        return self
