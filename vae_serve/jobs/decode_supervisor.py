"""The processes of a decode pool, from their own side: a supervisor, and the decoding processes that it forks.

The supervisor has no other threads, beside which a fork could find a lock that is never released. It forks a successor
for a process that crashes or is killed, or that it ends because a picture takes too long. It never reads from the
source itself: a client of an object store does not survive a fork.

Each process writes into shared memory what it is at. Its successor takes up the same task, or waits as it did. Only for
the moment in which a process takes a task from the pipe, or puts an answer into one, nobody can tell whether it has.
"""

import gc
import mmap
import os
import pickle
import select
import signal
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

import msgspec
import numpy as np

from vae_serve.errors import SourceError
from vae_serve.forks import fork, limit_memory
from vae_serve.images.decode import Decoder
from vae_serve.images.pixels import Bytes, PixelRule
from vae_serve.jobs import decoding
from vae_serve.jobs.decoding import Failure, decode_rows
from vae_serve.sources.files import Pictures

PROCESS_MEMORY = 896 << 20  # bytes that decoding may add to a process, where the system can limit it
CRASHES = 2  # at as many a picture fails
HOPELESS = 5  # ends at one place of the work, such as a picture that is no longer touched: something else is wrong

TASK = struct.Struct("<qqqq")  # start, stop, slot, number of the source; a pipe hands out records of this size whole
NO_TASK = -1  # in place of a start: it waits for one
UNSURE = -2  # in place of a start: it takes a task, or gives an answer
_FIELDS = 7  # of the numbers that tell what a worker is at: `decoding.ROW` and BUSY, its process, its task
PROCESS, START, STOP = 2, 3, 4  # `decoding.ROW` is STOP where no picture is at hand
_LONGEST_LOOK, _SHORTEST_LOOK = 0.25, 0.001  # seconds between two looks at the workers; a quarter of the time limit


class PoolSetup(msgspec.Struct, frozen=True):
    """What both sides of a pool know."""

    rule: PixelRule
    workers: int
    slots: int
    capacity: int
    """Rows in a slot."""
    picture_timeout: float
    """Seconds."""

    @property
    def memory_size(self) -> int:
        """Bytes that are shared."""
        return self._numbers + self.slots * self.capacity * int(np.prod(self.rule.shape))

    @property
    def _numbers(self) -> int:
        return -(-self.workers * _FIELDS * 8 // mmap.PAGESIZE) * mmap.PAGESIZE

    def at(self, memory: mmap.mmap) -> list[memoryview]:
        """What each worker is at."""
        numbers = memoryview(memory)[: self.workers * _FIELDS * 8].cast("q")
        return [numbers[worker * _FIELDS : (worker + 1) * _FIELDS] for worker in range(self.workers)]

    def pixels(self, memory: mmap.mmap) -> Bytes:
        """The slots, (slots, capacity, H, W, C)."""
        numbers = np.frombuffer(memory, np.uint8, self.memory_size - self._numbers, self._numbers)
        return numbers.reshape(self.slots, self.capacity, *self.rule.shape)


class Ended(msgspec.Struct, frozen=True):
    """A worker's last answer, where no picture explains its end."""

    how: str
    row: int
    """That it was at, or had been."""


class Supervisor:
    """The life of a pool's processes."""

    def __init__(
        self, setup: PoolSetup, open_source: Callable[[], Pictures], memory: mmap.mmap, take: int, answers: list[int]
    ) -> None:
        """`take`: where tasks are read from; `answers`: where each worker writes to.

        The source is opened again where a task has another number of it.
        """
        self._setup, self._open_source = setup, open_source
        self._take, self._answers = take, answers
        self._at, self._slots = setup.at(memory), setup.pixels(memory)

    def run(self) -> None:
        """Until no task is left. Of a crash the shared memory tells which row and task it was at."""
        gc.freeze()  # what the parent had is not garbage, and looking at it would copy its pages
        os.set_blocking(self._take, False)
        ended = _child_ended()
        working = {fork(partial(self._work, worker)): worker for worker in range(self._setup.workers)}
        watch = _Watch(self._at, self._setup.picture_timeout)
        known: dict[int, Failure] = {}  # rows that are not to be touched again
        crashes: Counter[tuple[int, ...]] = Counter()  # by task and row
        source = 0  # whose rows these are
        while working:
            select.select([ended], [], [], watch.pause)
            with suppress(BlockingIOError):
                os.read(ended, 4096)
            late = watch.overdue()
            for process in [process for process, worker in working.items() if worker in late]:
                os.kill(process, signal.SIGKILL)
            for process, status in _reaped():
                worker, code = working.pop(process), os.waitstatus_to_exitcode(status)
                at = self._at[worker]
                row, task = at[decoding.ROW], tuple(at[START:])
                at[PROCESS] = 0
                if task[-1] != source:
                    known, crashes, source = {}, Counter(), task[-1]
                if code and task[0] != UNSURE and crashes[*task, row] < HOPELESS:
                    if watch.was_overdue(worker):
                        limit = self._setup.picture_timeout
                        known[row] = Failure("timeout", f"decoding it took more than {limit:g} s")
                    else:
                        crashes[*task, row] += 1
                    if crashes[*task, row] == CRASHES and row < at[STOP] and task[0] != NO_TASK:
                        known[row] = Failure("crashed", f"the decoder crashed at it twice ({_how(code)})")
                    watch.forget(worker)
                    rest = (TASK.pack(*task), known) if task[0] != NO_TASK else ()
                    working[fork(partial(self._work, worker, *rest))] = worker
                elif code:
                    row = max(min(row, at[STOP] - 1), 0)
                    os.write(self._answers[worker], pickle.dumps(Ended(_how(code), row)))

    def _work(self, worker: int, task: bytes = b"", known: dict[int, Failure] | None = None) -> None:
        """The life of a decoding process, until no task is left; it begins with `task`, where there is one."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        at = self._at[worker]
        at[PROCESS] = os.getpid()
        at[decoding.BUSY] = 0
        for other in self._answers[:worker] + self._answers[worker + 1 :]:
            os.close(other)
        with os.fdopen(self._answers[worker], "wb") as answer:
            decode = Decoder(self._setup.rule)
            source: Pictures | None = None
            opened: int | None = None  # its number
            while task := task or self._next_task(at):
                start, stop, slot, number = TASK.unpack(task)
                at[decoding.ROW], at[STOP], at[STOP + 1], at[STOP + 2] = stop, stop, slot, number
                at[START] = start
                try:
                    if number != opened:
                        if opened is not None:
                            known = None
                        source = None  # its memory first
                        limit_memory(PROCESS_MEMORY)
                        source, opened = self._open_source(), number
                    assert source is not None  # noqa: S101
                    at[decoding.ROW] = start
                    batch = decode_rows(source, decode, range(start, stop), self._slots[slot], at, known or {})
                except SourceError as error:
                    at[START], at[PROCESS] = UNSURE, 0
                    pickle.dump(error, answer)
                    return
                at[decoding.ROW] = stop
                select.select([], [answer], [])  # until the parent has taken others
                at[START] = UNSURE  # an answer that is cut short is nothing to go on from
                pickle.dump((slot, batch), answer, pickle.HIGHEST_PROTOCOL)
                answer.flush()
                task = b""
            at[PROCESS] = 0
            pickle.dump(None, answer)

    def _next_task(self, at: memoryview) -> bytes:
        """Waits for a task; empty where there is none any more."""
        while True:
            at[START] = UNSURE
            try:
                return os.read(self._take, TASK.size)
            except BlockingIOError:
                at[START] = NO_TASK
                select.select([self._take], [], [])


class _Watch:
    """Which workers have been at one picture for too long, by the supervisor's own clock.

    It counts the time between looks, each no more than twice what it should be: a job that was suspended, and its
    supervisor with it, has not been at work.
    """

    def __init__(self, at: list[memoryview], limit: float) -> None:
        self.pause = max(_SHORTEST_LOOK, min(limit / 4, _LONGEST_LOOK))
        self._at, self._limit = at, limit
        self._seen = [0] * len(at)  # what each worker was busy with at the last look
        self._spent = [0.0] * len(at)  # seconds since it began
        self._ended = [0] * len(at)  # what each worker was ended for
        self._last = time.monotonic()

    def overdue(self) -> list[int]:
        """The workers to be ended, each once."""
        now = time.monotonic()
        passed, self._last = min(now - self._last, 2 * self.pause), now
        late = []
        for worker, at in enumerate(self._at):
            busy = at[decoding.BUSY]
            if not busy or busy != self._seen[worker]:
                self._seen[worker], self._spent[worker] = busy, 0.0
                continue
            self._spent[worker] += passed
            if self._spent[worker] > self._limit and not self._ended[worker]:
                self._ended[worker] = busy
                late.append(worker)
        return late

    def was_overdue(self, worker: int) -> bool:
        """Whether a worker that has ended was still at the picture that it was ended for."""
        return 0 < self._ended[worker] == self._at[worker][decoding.BUSY]

    def forget(self, worker: int) -> None:
        """Begins anew for a worker's successor."""
        self._at[worker][decoding.BUSY] = self._seen[worker] = self._ended[worker] = 0


def _child_ended() -> int:
    """A file that can be read from when a child of this process has ended."""
    told, tell = os.pipe()
    os.set_blocking(told, False)
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # a signal that is ignored does not wake
    return told


def _reaped() -> Iterator[tuple[int, int]]:
    """Number and status of each child that has ended."""
    with suppress(ChildProcessError):
        while (child := os.waitpid(-1, os.WNOHANG))[0]:
            yield child


def _how(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit status {code}"
