"""Pieces of a source that are fetched ahead, some at a time, by threads that wait for the network.

Of one process there are at most REQUESTS requests under way, and about as many BYTES that nobody has taken yet.
"""

import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

T = TypeVar("T")

REQUESTS = 32
BYTES = 64 << 20
_PIECES = 4 * REQUESTS  # begun at a time: one that is slow holds back the ones after it, and no thread is to wait
_STACK = 1 << 19  # bytes of a thread's; 32 of the usual size would be a third of what a decoding process may have


class Piece(Generic[T]):
    """Something that is being fetched."""

    def __init__(self, fetch: Callable[[], T]) -> None:
        self._fetch = fetch
        self._done = threading.Lock()
        self._done.acquire()
        self._value: T | None = None
        self._error: BaseException | None = None
        self._dropped = False

    def run(self) -> None:
        """Fetches it, in any thread."""
        try:
            if not self._dropped:
                self._value = self._fetch()
        except BaseException as error:  # noqa: BLE001  raised where it is asked for
            self._error = error
        finally:
            self._done.release()

    def drop(self) -> None:
        """Nobody wants it any more."""
        self._dropped = True

    def result(self) -> T:
        """Waits for it; to be called once. Raises what fetching it has raised."""
        with self._done:
            if self._error is not None:
                raise self._error
            return self._value  # type: ignore[return-value]  # it has been fetched


class _Threads:
    """The threads of this process; a forked one gets its own."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.queue: SimpleQueue[Piece[Any]] = SimpleQueue()
        size = threading.stack_size(_STACK)
        try:
            for _ in range(REQUESTS):
                threading.Thread(target=self._work, daemon=True).start()
        finally:
            threading.stack_size(size)

    def _work(self) -> None:
        while True:
            self.queue.get().run()


_threads: _Threads | None = None
_starting = threading.Lock()


def begin(fetch: Callable[[], T]) -> Piece[T]:
    """Fetches something as soon as a thread is free."""
    global _threads  # noqa: PLW0603  one set of threads a process
    if _threads is None or _threads.process != os.getpid():
        with _starting:
            if _threads is None or _threads.process != os.getpid():
                _threads = _Threads()
    piece = Piece(fetch)
    _threads.queue.put(piece)
    return piece


class Ahead(Generic[T]):
    """Numbered pieces, taken one after another by one thread, while those after them are fetched."""

    def __init__(self, fetch: Callable[[int], T], sizes: "npt.NDArray[np.int64]") -> None:
        """`sizes`: about how many bytes each piece takes."""
        self._fetch, self._sizes = fetch, sizes
        self._begun: dict[int, Piece[T]] = {}
        self._bytes = 0
        self._following = 0  # the piece after the last that is begun

    def take(self, number: int, last: int) -> T:
        """A piece; as many as fit of those up to `last` are fetched meanwhile. Raises what fetching it raises."""
        if next(iter(self._begun), None) != number:
            is_begun = number in self._begun
            for other in [other for other in self._begun if other < number or not is_begun]:
                self._pop(other).drop()
        following = self._following if self._begun else number
        while following <= max(number, last) and (
            following == number or (len(self._begun) < _PIECES and self._bytes + int(self._sizes[following]) <= BYTES)
        ):
            self._begun[following] = begin(lambda number=following: self._fetch(number))  # type: ignore[misc]
            self._bytes += int(self._sizes[following])
            following += 1
        self._following = following
        return self._pop(number).result()

    def _pop(self, number: int) -> Piece[T]:
        self._bytes -= int(self._sizes[number])
        return self._begun.pop(number)
