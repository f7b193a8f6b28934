"""Decoding in forked processes, the one way that encoded pictures are decoded: they fill slots of shared memory with
the model's pixels.

One queue of tasks, a pipe that every process reads; one pipe of answers from each. Forked, not spawned: a process has
the imports of its parent at once, and its source. When the queue is closed, or the process that reads the answers is
gone, all of them end. Their own side is `decode_supervisor`.

A process that has threads must not fork. Where it has started a `decode_server` in time, that one forks in its place.
Such a process makes shard after shard, so a pool of one decoder is kept for the next one, which has other rows.
"""

import mmap
import os
import pickle
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Self

import msgspec
import numpy as np

from vae_serve.errors import DecodersLost, SourceError
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

_kept: "list[DecodePool]" = []  # the one that waits for the next shard's rows

_AGAIN = "the finished shards stay: run the same command again"


class PoolOptions(msgspec.Struct, frozen=True):
    """How pictures are decoded."""

    rule: PixelRule
    workers: int
    capacity: int
    """Rows of the largest task."""
    picture_timeout: float = PICTURE_TIMEOUT
    """Seconds that one picture may take."""

    def setup(self) -> PoolSetup:
        """With as many slots as memory allows."""
        each = self.capacity * int(np.prod(self.rule.shape))
        count = min(max(SLOT_MEMORY // each, 2 * self.workers), MOST_SLOTS)
        return PoolSetup(self.rule, self.workers, count, self.capacity, self.picture_timeout)


def decode_pool(
    source: Pictures, tasks: Iterator[range], options: PoolOptions, *, rows: range, private: tuple[int, ...] = ()
) -> "DecodePool":
    """A pool that is at work on the first of the tasks: the kept one, or another as `DecodePool` makes it."""
    while _kept:
        pool = _kept.pop()
        if pool.options == options:
            pool.begin(source, tasks, rows)
            return pool
        pool.stop()
    return DecodePool(source, tasks, options, rows=rows, private=private)


class DecodePool:
    """Processes that decode a source's rows; a thread follows each, or one thread a pool of one.

    As a context it waits for the processes at its end, and stops them when an exception leaves it.
    """

    def __init__(
        self,
        source: Pictures,
        tasks: Iterator[range],
        options: PoolOptions,
        *,
        rows: range,
        private: tuple[int, ...] = (),
    ) -> None:
        """Starts on the first of `tasks`, each of at most `options.capacity` of the `rows`.

        `private` files stay the parent's alone.

        To be made before threads are started and large libraries loaded, where there is no `decode_server`: forking is
        quick and safe then.
        """
        self.options, self._setup = options, options.setup()
        workers, setup = options.workers, self._setup
        self._lock = threading.Lock()
        self._open = True
        take, self._give = os.pipe()
        ends = [os.pipe() for _ in range(workers)]
        answers, write_ends = [end[0] for end in ends], [end[1] for end in ends]
        self._supervisor: int | None = None  # a child of ours
        server = decode_server.running()
        self._keep = server is not None and workers == 1
        self._request: int | None = None
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
            with decode_server.shared_file(setup.memory_size) as file, decode_server.shared_file(0) as request:
                self._share(setup, mmap.mmap(file, setup.memory_size))
                decode_server.tell(request, setup, source.select(rows))
                server.start(request, file, take, write_ends)
                self._request = os.dup(request)
        for end in (take, *write_ends):
            os.close(end)
        self._answers = [os.fdopen(end, "rb") for end in answers]
        self._number = 0
        self._hand_out(source, tasks)

    def begin(self, source: Pictures, tasks: Iterator[range], rows: range) -> None:
        """Starts a pool that was kept on other rows."""
        assert self._request is not None  # noqa: S101  else it is not kept
        decode_server.tell(self._request, self._setup, source.select(rows))
        self._number += 1
        self._hand_out(source, tasks)

    def _hand_out(self, source: Pictures, tasks: Iterator[range]) -> None:
        self._source, self._tasks, self._handed_out = source, tasks, 0
        for slot in range(self._setup.slots):
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
            DecodersLost: a process ended in a way that no picture explains.
            SourceError: the source cannot be opened there.
        """
        answered = 0
        with ExitStack() as stack:
            answers = stack.enter_context(self._answers[worker])
            while True:
                try:
                    answer = pickle.load(answers)  # noqa: S301  from our own child
                except (EOFError, pickle.UnpicklingError):
                    raise DecodersLost(f"the decoding processes were ended; {_AGAIN}") from None
                match answer:
                    case None:
                        return
                    case SourceError():
                        raise answer
                    case Ended(how, row):
                        name = shown(self._source.names[range(row, row + 1)][0])
                        raise DecodersLost(f"a decoding process ended ({how}) at {name} or after it; {_AGAIN}")
                slot, batch = answer
                yield batch, self._slots[slot, : len(batch.rows)]
                self._next(slot)
                answered += 1
                if self._keep and answered == self._handed_out:
                    stack.pop_all()  # there is more to follow
                    return

    def join(self) -> None:
        """Waits for the processes to end, or keeps them; after all have been followed to theirs."""
        if self._keep:
            _kept.append(self)
        if self._supervisor is not None:
            wait(self._supervisor)

    def stop(self) -> None:
        """Ends the processes: what they are busy with is lost.

        At once where they are this process' own. Others' may be gone by now, and their numbers given to strangers: they
        end when they find that nobody reads their answers.
        """
        with self._lock:
            self._close()
        if self._request is not None:
            os.close(self._request)
            self._request = None
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
                if not self._keep:
                    self._close()
            elif self._open:
                self._handed_out += 1
                with suppress(BrokenPipeError):  # nobody is left to take it; who follows them is told
                    os.write(self._give, TASK.pack(rows.start, rows.stop, slot, self._number))
