"""One object of a store as a file that is read by ranges."""

import threading
from collections import deque

from vae_serve.sources.objects.ahead import BYTES, REQUESTS, Piece, begin
from vae_serve.sources.objects.bucket import part
from vae_serve.sources.objects.stored import Stored

_LARGE = 1 << 16  # bytes of a read that others like it may follow


class StoredFile:
    """A `readable.Readable` of an object. Reads that follow one another are fetched ahead, twice as many each time.

    Threads may share it, and forked processes as long as none has read before.
    """

    window = 1 << 20

    def __init__(self, stored: Stored, stop: int | None = None) -> None:
        """Nothing is fetched ahead from byte `stop` on."""
        self.stored, self.size = stored, stored.size
        self._stop, self._depth = stored.size if stop is None else min(stop, stored.size), 1
        self._lock = threading.Lock()
        self._begun: dict[tuple[int, int], Piece[bytes]] = {}
        self._ends: deque[int] = deque(maxlen=REQUESTS)

    def kept(self) -> "StoredFile":
        """Itself: there is nothing to close."""
        return self

    def pread(self, size: int, offset: int, /) -> bytes:
        """`size` bytes from `offset` on, fewer where the object ends. Raises SourceLost."""
        stop = min(offset + size, self.size)
        if stop <= offset:
            return b""
        with self._lock:
            piece = self._begun.pop((offset, stop), None)
            follows = piece is not None or offset in self._ends
            if stop - offset >= _LARGE:
                if not follows:
                    self._depth = 1
                    self._drop()
                else:
                    self._go_ahead(stop, stop - offset)
                self._ends.append(stop)
        return part(self.stored, offset, stop) if piece is None else piece.result()

    def preadinto(self, room: memoryview, offset: int, /) -> int:
        """Fills the room as far as the object reaches; says how many bytes that was. Raises SourceLost."""
        data = self.pread(room.nbytes, offset)
        room.cast("B")[: len(data)] = data
        return len(data)

    def _go_ahead(self, start: int, size: int) -> None:
        self._depth = min(2 * self._depth, REQUESTS, max(1, BYTES // 2 // size))
        while len(self._begun) < self._depth and start < self._stop:
            span = start, min(start + size, self._stop)
            if span not in self._begun:
                self._begun[span] = begin(lambda span=span: part(self.stored, *span))  # type: ignore[misc]
            start += size

    def _drop(self) -> None:
        for piece in self._begun.values():
            piece.drop()
        self._begun.clear()
