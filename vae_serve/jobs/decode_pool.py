"""Decoding on all cores: forked processes that fill slots of shared memory with the model's pixels.

One queue of tasks, a pipe that every process reads; one pipe of answers from each. Forked, not spawned: a process has
the source and the imports of its parent at once. A supervisor forks them, and a successor for one that crashes: it has
no other threads, beside which a fork could find a lock that nobody will ever open. When the queue is closed, or the one
who reads the answers is gone, all of them end.
"""

import gc
import mmap
import os
import pickle
import signal
import struct
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from vae_serve.errors import SourceError
from vae_serve.forks import fork
from vae_serve.images.decode import Decoder
from vae_serve.images.pixels import Bytes, PixelRule
from vae_serve.jobs.decoding import Chunk, Failure, decode_rows
from vae_serve.sources.files import Pictures
from vae_serve.sources.names import shown

SLOT_MEMORY = 16 << 20  # bytes of all slots: what the processes decode ahead while the model is still being loaded
MOST_SLOTS = 1024  # so that all tasks in flight fit into the pipe's 64 KB

_TASK = struct.Struct("<qqq")  # start, stop, slot; a pipe hands out records of this size whole
_NO_TASK = -1  # in place of a start
_PROCESS, _ROW, _START = 0, 1, 2  # of the numbers that tell what a worker is at: its process, the row, its task

_AGAIN = "the finished shards stay: run the same command again"


class Decoders:
    """Processes that decode a source's rows; a thread follows each."""

    def __init__(
        self,
        source: Pictures,
        rule: PixelRule,
        tasks: Iterator[range],
        *,
        workers: int,
        capacity: int,
        private: tuple[int, ...] = (),
    ) -> None:
        """Starts on the first of `tasks`, of at most `capacity` rows each. `private` files stay the parent's alone."""
        each = capacity * int(np.prod(rule.shape))
        count = min(max(SLOT_MEMORY // each, 2 * workers), MOST_SLOTS)
        self.count = workers
        self._source, self._rule, self._tasks = source, rule, tasks
        self._slots: Bytes = _shared(np.uint8, (count, capacity, *rule.shape))
        self._at: npt.NDArray[np.int64] = _shared(np.int64, (workers, _START + _TASK.size // 8))
        self._at[:, _START] = _NO_TASK
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

    def follow(self, worker: int) -> Iterator[tuple[Chunk, Bytes]]:
        """What one worker has done, with its pixels (n, H, W, C), until no task is left. They are overwritten after the
        loop's body. A picture at which two processes have crashed fails.

        Raises:
            SourceError: a process ended in another way.
        """
        with self._answers[worker] as answers:
            while True:
                try:
                    found = pickle.load(answers)  # noqa: S301  from our own child
                except (EOFError, pickle.UnpicklingError):
                    raise SourceError(f"the decoding processes were ended; {_AGAIN}") from None
                if found is None:
                    return
                if isinstance(found, SourceError):
                    raise found
                slot, chunk = found
                yield chunk, self._slots[slot, : len(chunk.rows)]
                self._next(slot)

    def join(self) -> None:
        """Waits for the processes to end, after all have been followed to theirs."""
        os.waitpid(self._supervisor, 0)

    def stop(self) -> None:
        """Ends the processes at once: what they are busy with is lost."""
        with self._lock:
            self._close()
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(self._supervisor, signal.SIGKILL)
            os.waitpid(self._supervisor, 0)
        for process in self._at[:, _PROCESS].tolist():
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
        working = {fork(partial(self._work, worker, answers)): worker for worker in range(self.count)}
        crashes: Counter[int] = Counter()  # by row
        while working:
            process, status = os.wait()
            worker, code = working.pop(process), os.waitstatus_to_exitcode(status)
            _, row, *task = map(int, self._at[worker])
            self._at[worker, _PROCESS] = 0
            if code < 0 and task[0] != _NO_TASK:
                crashes[row] += 1
                why = Failure("crashed", f"the decoder crashed at it twice ({signal.Signals(-code).name})")
                deadly = {row: why for row, times in crashes.items() if times > 1}
                working[fork(partial(self._work, worker, answers, _TASK.pack(*task), deadly))] = worker
            elif code:
                name = shown(self._source.names[range(row, row + 1)][0])
                error = SourceError(f"a decoding process ended with exit status {code} at {name} or after it; {_AGAIN}")
                os.write(answers[worker], pickle.dumps(error))

    def _work(
        self,
        worker: int,
        answers: list[int],
        task: bytes = b"",
        deadly: Mapping[int, Failure] = MappingProxyType({}),
    ) -> None:
        """The life of a decoding process, until no task is left; it begins with `task`, where there is one."""
        at = self._at[worker]
        at[_PROCESS] = os.getpid()
        for other in answers[:worker] + answers[worker + 1 :]:
            os.close(other)
        decode = Decoder(self._rule)
        with os.fdopen(answers[worker], "wb") as answer:
            while task := task or os.read(self._take, _TASK.size):
                at[_START:] = start, stop, slot = _TASK.unpack(task)
                found = decode_rows(
                    self._source, decode, range(start, stop), self._slots[slot], at[_ROW:_START], deadly
                )
                at[_START] = _NO_TASK  # an answer that is cut short is nothing to go on from
                pickle.dump((slot, found), answer, pickle.HIGHEST_PROTOCOL)
                answer.flush()
                task = b""
            at[_PROCESS] = 0
            pickle.dump(None, answer)


def _shared(dtype: npt.DTypeLike, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """An array of zeros that forked processes share."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer(mmap.mmap(-1, size), dtype).reshape(shape)
