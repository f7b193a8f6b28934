"""Decoding in forked processes, the one way that encoded pictures are decoded: they fill slots of shared memory with
the model's pixels.

One queue of tasks, a pipe that every process reads; one pipe of answers from each. Forked, not spawned: a process has
the source and the imports of its parent at once. A supervisor forks them, and a successor for one that crashes or is
ended because a picture takes too long: it has no other threads, beside which a fork could find a lock that is never
released. When the queue is closed, or the process that reads the answers is gone, all of them end.
"""

import gc
import mmap
import os
import pickle
import select
import signal
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Self

import numpy as np

from vae_serve.errors import SourceError
from vae_serve.forks import fork, limit_memory, wait
from vae_serve.images.decode import Decoder
from vae_serve.images.pixels import Bytes, PixelRule
from vae_serve.jobs import decoding
from vae_serve.jobs.decoding import DecodedBatch, Failure, decode_rows
from vae_serve.sources.files import Pictures
from vae_serve.sources.names import shown

PICTURE_TIMEOUT = 30.0  # seconds that one picture may take to decode, unless told otherwise
SLOT_MEMORY = 16 << 20  # bytes of all slots: what the processes decode ahead while the model is still being loaded
MOST_SLOTS = 1024  # so that all tasks in flight fit into the pipe's 64 KB
PROCESS_MEMORY = 896 << 20  # bytes that decoding may add to a process, where the system can limit it
CRASHES = 2  # at as many a picture fails
HOPELESS = 5  # crashes at a picture that is no longer touched: something else is wrong

_TASK = struct.Struct("<qqq")  # start, stop, slot; a pipe hands out records of this size whole
_NO_TASK = -1  # in place of a start
_FIELDS = 6  # of the numbers that tell what a worker is at: `decoding.ROW` and BUSY, its process, its task
_PROCESS, _START = 2, 3
_LONGEST_LOOK, _SHORTEST_LOOK = 0.25, 0.001  # seconds between two looks at the workers; a quarter of the time limit

_AGAIN = "the finished shards stay: run the same command again"


class DecodePool:
    """Processes that decode a source's rows; a thread follows each, or one thread a pool of one.

    As a context it waits for the processes at its end, and stops them when an exception leaves it.
    """

    def __init__(
        self,
        source: Pictures,
        rule: PixelRule,
        tasks: Iterator[range],
        *,
        workers: int,
        capacity: int,
        picture_timeout: float = PICTURE_TIMEOUT,
        private: tuple[int, ...] = (),
    ) -> None:
        """Starts on the first of `tasks`, of at most `capacity` rows each. `private` files stay the parent's alone.

        To be made before threads are started and large libraries loaded: forking is quick and safe then.
        """
        each = capacity * int(np.prod(rule.shape))
        count = min(max(SLOT_MEMORY // each, 2 * workers), MOST_SLOTS)
        self.workers = workers
        self._source, self._rule, self._tasks, self._timeout = source, rule, tasks, picture_timeout
        self._slots: Bytes = np.frombuffer(mmap.mmap(-1, count * each), np.uint8).reshape(count, capacity, *rule.shape)
        numbers = memoryview(mmap.mmap(-1, workers * _FIELDS * 8)).cast("q")  # shared by all processes
        self._at = [numbers[worker * _FIELDS : (worker + 1) * _FIELDS] for worker in range(workers)]
        for at in self._at:
            at[_START] = _NO_TASK
        self._lock = threading.Lock()
        self._open = True
        self._take, self._give = os.pipe()
        ends = [os.pipe() for _ in range(workers)]
        answers, write_ends = [end[0] for end in ends], [end[1] for end in ends]
        self._supervisor = fork(partial(self._supervise, write_ends, (self._give, *answers, *private)))
        for end in (self._take, *write_ends):
            os.close(end)
        self._answers = [os.fdopen(end, "rb") for end in answers]
        for slot in range(count):
            self._next(slot)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.join() if kind is None else self.stop()

    def follow(self, worker: int) -> Iterator[tuple[DecodedBatch, Bytes]]:
        """What one worker has done, with its pixels (n, H, W, C), until no task is left; in the order of the tasks
        where it is the only worker. The pixels are overwritten after the loop's body.

        A picture at which two processes have crashed fails with kind `crashed`, one that takes longer than
        `picture_timeout` seconds with kind `timeout`.

        Raises:
            SourceError: a process ended in a way that no picture explains.
        """
        with self._answers[worker] as answers:
            while True:
                try:
                    answer = pickle.load(answers)  # noqa: S301  from our own child
                except (EOFError, pickle.UnpicklingError):
                    raise SourceError(f"the decoding processes were ended; {_AGAIN}") from None
                if answer is None:
                    return
                if isinstance(answer, SourceError):
                    raise answer
                slot, batch = answer
                yield batch, self._slots[slot, : len(batch.rows)]
                self._next(slot)

    def join(self) -> None:
        """Waits for the processes to end, after all have been followed to theirs."""
        wait(self._supervisor)

    def stop(self) -> None:
        """Ends the processes at once: what they are busy with is lost."""
        with self._lock:
            self._close()
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(self._supervisor, signal.SIGKILL)
            os.waitpid(self._supervisor, 0)
        for process in [at[_PROCESS] for at in self._at]:
            if process:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)

    def _close(self) -> None:
        if self._open:
            self._open = False
            os.close(self._give)

    def _next(self, slot: int) -> None:
        """Hands out another task, or closes the queue after the last."""
        with self._lock:
            rows = next(self._tasks, None)
            if rows is None:
                self._close()
            elif self._open:
                with suppress(BrokenPipeError):  # nobody is left to take it; who follows them is told
                    os.write(self._give, _TASK.pack(rows.start, rows.stop, slot))

    def _supervise(self, answers: list[int], private: tuple[int, ...]) -> None:
        """The life of the supervisor. Of a crash the shared memory tells which row and task it was at."""
        for file in private:
            os.close(file)
        gc.freeze()  # what the parent had is not garbage, and looking at it would copy its pages
        ended = _child_ended()
        working = {fork(partial(self._work, worker, answers)): worker for worker in range(self.workers)}
        watch = _Watch(self._at, self._timeout)
        known: dict[int, Failure] = {}  # rows that are not to be touched again
        crashes: Counter[int] = Counter()  # by row
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
                row, task = at[decoding.ROW], tuple(at[_START:])
                at[_PROCESS] = 0
                if code and task[0] != _NO_TASK and crashes[row] < HOPELESS:
                    if watch.was_overdue(worker):
                        known[row] = Failure("timeout", f"decoding it took more than {self._timeout:g} s")
                    else:
                        crashes[row] += 1
                    if crashes[row] == CRASHES:
                        known[row] = Failure("crashed", f"the decoder crashed at it twice ({_how(code)})")
                    watch.forget(worker)
                    working[fork(partial(self._work, worker, answers, _TASK.pack(*task), known))] = worker
                elif code:
                    name = shown(self._source.names[range(row, row + 1)][0])
                    error = SourceError(f"a decoding process ended ({_how(code)}) at {name} or after it; {_AGAIN}")
                    os.write(answers[worker], pickle.dumps(error))

    def _work(
        self, worker: int, answers: list[int], task: bytes = b"", known: dict[int, Failure] | None = None
    ) -> None:
        """The life of a decoding process, until no task is left; it begins with `task`, where there is one."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        limit_memory(PROCESS_MEMORY)
        at = self._at[worker]
        at[_PROCESS] = os.getpid()
        at[decoding.BUSY] = 0
        for other in answers[:worker] + answers[worker + 1 :]:
            os.close(other)
        decode = Decoder(self._rule)
        with os.fdopen(answers[worker], "wb") as answer:
            while task := task or os.read(self._take, _TASK.size):
                start, stop, slot = _TASK.unpack(task)
                at[decoding.ROW], at[_START + 1], at[_START + 2], at[_START] = start, stop, slot, start
                batch = decode_rows(self._source, decode, range(start, stop), self._slots[slot], at, known or {})
                at[_START] = _NO_TASK  # an answer that is cut short is nothing to go on from
                pickle.dump((slot, batch), answer, pickle.HIGHEST_PROTOCOL)
                answer.flush()
                task = b""
            at[_PROCESS] = 0
            pickle.dump(None, answer)


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
