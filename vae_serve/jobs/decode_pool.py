"""Decoding in forked processes, the one way that encoded pictures are decoded: they fill slots of shared memory with
the model's pixels.

One queue of tasks, a pipe that every process reads; one pipe of answers from each. Forked, not spawned: a process has
the imports of its parent at once, and its source. When the queue is closed, or the process that reads the answers is
gone, all of them end. Their own side is `decode_supervisor`.

A process that has threads must not fork. Where it has started a `decode_server` in time, that one forks in its place.
"""

import mmap
import os
import pickle
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import Self

import numpy as np

from vae_serve.errors import SourceError
from vae_serve.forks import fork, wait
from vae_serve.images.pixels import Bytes, PixelRule
from vae_serve.jobs import decode_server
from vae_serve.jobs.decode_supervisor import NO_TASK, PROCESS, START, TASK, Ended, PoolSetup, Supervisor
from vae_serve.jobs.decoding import DecodedBatch
from vae_serve.sources.files import Pictures
from vae_serve.sources.names import shown

PICTURE_TIMEOUT = 30.0  # seconds that one picture may take to decode, unless told otherwise
SLOT_MEMORY = 16 << 20  # bytes of all slots: what the processes decode ahead while the model is still being loaded
MOST_SLOTS = 1024  # so that all tasks in flight fit into the pipe's 64 KB

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
        rows: range,
        workers: int,
        capacity: int,
        picture_timeout: float = PICTURE_TIMEOUT,
        private: tuple[int, ...] = (),
    ) -> None:
        """Starts on the first of `tasks`, each of at most `capacity` of the `rows`.

        `private` files stay the parent's alone.

        To be made before threads are started and large libraries loaded, where there is no `decode_server`: forking is
        quick and safe then.
        """
        each = capacity * int(np.prod(rule.shape))
        count = min(max(SLOT_MEMORY // each, 2 * workers), MOST_SLOTS)
        self.workers = workers
        self._source, self._tasks = source, tasks
        setup = PoolSetup(rule, workers, count, capacity, picture_timeout)
        self._lock = threading.Lock()
        self._open = True
        take, self._give = os.pipe()
        ends = [os.pipe() for _ in range(workers)]
        answers, write_ends = [end[0] for end in ends], [end[1] for end in ends]
        self._supervisor: int | None = None  # a child of ours
        server = decode_server.running()
        if server is None:
            memory = mmap.mmap(-1, setup.memory_size)
            self._share(setup, memory)
            supervisor = Supervisor(setup, lambda: source, memory, take, write_ends)

            def supervise() -> None:
                for file in (self._give, *answers, *private):
                    os.close(file)
                supervisor.run()

            self._supervisor = fork(supervise)
        else:
            with decode_server.shared_file(setup.memory_size) as file:
                self._share(setup, mmap.mmap(file, setup.memory_size))
                server.start(setup, source.select(rows), file, take, write_ends)
        for end in (take, *write_ends):
            os.close(end)
        self._answers = [os.fdopen(end, "rb") for end in answers]
        for slot in range(count):
            self._next(slot)

    def _share(self, setup: PoolSetup, memory: mmap.mmap) -> None:
        self._at, self._slots = setup.at(memory), setup.pixels(memory)
        for at in self._at:
            at[START] = NO_TASK

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
                match answer:
                    case None:
                        return
                    case SourceError():
                        raise answer
                    case Ended(how, row):
                        name = shown(self._source.names[range(row, row + 1)][0])
                        raise SourceError(f"a decoding process ended ({how}) at {name} or after it; {_AGAIN}")
                slot, batch = answer
                yield batch, self._slots[slot, : len(batch.rows)]
                self._next(slot)

    def join(self) -> None:
        """Waits for the processes to end, after all have been followed to theirs."""
        if self._supervisor is not None:
            wait(self._supervisor)

    def stop(self) -> None:
        """Ends the processes: what they are busy with is lost.

        At once where they are this process' own. Others' may be gone by now, and their numbers given to strangers: they
        end when they find that nobody reads their answers.
        """
        with self._lock:
            self._close()
        if self._supervisor is None:
            return
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(self._supervisor, signal.SIGKILL)
            os.waitpid(self._supervisor, 0)
        for process in [at[PROCESS] for at in self._at]:
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
                    os.write(self._give, TASK.pack(rows.start, rows.stop, slot))
