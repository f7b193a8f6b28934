"""The memory that calls of networks take: of one call by its rows, and of all calls of a process at once."""

import os
import threading

import msgspec

from vae_serve.cores import cores

CALL_LIMIT = 64 << 20  # bytes of a call, by which its batch is chosen; the packaged encoder reaches it at 440 rows
TOTAL = 256 << 20  # bytes of all calls at once, or more where the machine has more cores than that suffices for
CORE_SHARE = 16 << 20  # bytes of a call on each core; the packaged encoder takes 110 rows with it


class CallMemory(msgspec.Struct, frozen=True):
    """What a call takes."""

    call_bytes: int
    """Whatever its batch."""
    row_bytes: int
    """For each row."""

    def of(self, rows: int) -> int:
        """Bytes of a call of so many rows."""
        return self.call_bytes + rows * self.row_bytes

    def largest_batch(self, limit: int) -> int:
        """As many rows as one call can take within `limit` bytes; 1 where it is more than that takes."""
        return max(1, (limit - self.call_bytes) // self.row_bytes)


class Budget:
    """Room for calls of several threads, given in the order in which they ask."""

    def __init__(self, total: int) -> None:
        self._total, self._used = total, 0
        self._next, self._lock = threading.Lock(), threading.Lock()
        self._changed = threading.Condition(self._lock)

    def take(self, size: int) -> None:
        """Waits for `size` bytes; what is more than there is at all has the budget alone."""
        with self._next, self._lock:  # not with the condition, nor a generator: after a network's run both are slow
            while self._used and self._used + size > self._total:
                self._changed.wait()
            self._used += size

    def give(self, size: int) -> None:
        """Gives back what was taken."""
        with self._lock:
            self._used -= size
            self._changed.notify()


def total() -> int:
    """Bytes that all calls of a process may take at once."""
    return max(TOTAL, CORE_SHARE * cores())


def call_limit() -> int:
    """Bytes of a call, by which its batch is chosen, so that each core can have one."""
    return min(CALL_LIMIT, total() // cores())


_budgets: dict[int, Budget] = {}  # by process: a lock that another thread held at a fork is never given back


def budget() -> Budget:
    """The one of this process."""
    process = os.getpid()
    if process not in _budgets:  # `total` reads files
        _budgets.setdefault(process, Budget(total()))
    return _budgets[process]
