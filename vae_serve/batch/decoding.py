"""Decoding on all cores: forked processes that fill slots of shared memory with the model's pixels.

One queue of tasks, a pipe that every process reads; one pipe of reports from each. Forked, not spawned: the child has
the source and the imports of its parent at once. A process ends when the queue is closed, so none outlives its parent.
"""

import mmap
import os
import pickle
import signal
import struct
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from vae_serve.errors import ImageError, SourceError
from vae_serve.images.decode import decode
from vae_serve.images.pixels import Bytes, PixelRule
from vae_serve.images.sources import GONE, Files, shown

SLOT_MEMORY = 32 << 20  # bytes of all slots: what the processes decode ahead while the model is still being loaded
MOST_SLOTS = 1024  # so that all tasks in flight fit into the pipe's 64 KB

_TASK = struct.Struct("<qqq")  # start, stop, slot; a pipe hands out records of this size whole


class Failure(NamedTuple):
    """Why a row has no vectors."""

    kind: str
    message: str


@dataclass
class Chunk:
    """What became of the rows of one slot."""

    rows: range
    failures: dict[int, Failure] = field(default_factory=dict)  # by row
    notes: Counter[str] = field(default_factory=Counter)
    read_seconds: float = 0.0
    decode_seconds: float = 0.0


class Slot:
    """Room for the pixels of some rows, and what else comes with them."""

    def __init__(self, memory: memoryview, capacity: int, shape: tuple[int, int, int]) -> None:
        pixels = capacity * int(np.prod(shape))
        self.pixels: Bytes = np.frombuffer(memory, np.uint8, pixels).reshape(capacity, *shape)
        whole = np.frombuffer(memory, np.int64, capacity * 4, offset=_aligned(pixels)).reshape(capacity, 4)
        self.sizes: npt.NDArray[np.int64] = whole[:, :2]  # width, height; 0 where unknown
        self.stamps: npt.NDArray[np.int64] = whole[:, 2:]

    @staticmethod
    def bytes_for(capacity: int, shape: tuple[int, int, int]) -> int:
        """Memory that a slot takes."""
        return _aligned(capacity * int(np.prod(shape))) + capacity * 32


def _aligned(size: int) -> int:
    return -(-size // 64) * 64


def decode_rows(source: Files, rule: PixelRule, rows: range, slot: Slot, busy: npt.NDArray[np.int64]) -> Chunk:
    """Reads and decodes some rows into a slot. What fails is in what comes back; nothing is raised for a picture.

    `busy` (1,) is told the row at hand, so that a crash of the decoder itself can be laid to a file.
    """
    chunk = Chunk(rows)
    sizes, stamps = [], []
    clock = time.perf_counter
    begun = clock()
    for at, raw in enumerate(source.read(rows)):
        have = clock()
        busy[0] = rows[at]
        chunk.read_seconds += have - begun
        size = (0, 0)
        if isinstance(raw, ImageError):
            chunk.failures[rows[at]] = Failure(raw.kind, str(raw))
            stamps.append(next(source.stamps(rows[at : at + 1]), GONE))
        else:
            stamps.append(raw.stamp)
            try:
                picture = decode(raw.data, rule)
            except ImageError as error:
                chunk.failures[rows[at]] = Failure(error.kind, str(error))
            else:
                slot.pixels[at] = picture.pixels
                size = (picture.width, picture.height)
                if picture.notes:
                    chunk.notes.update(picture.notes)
        sizes.append(size)
        begun = clock()
        chunk.decode_seconds += begun - have
    slot.sizes[: len(rows)] = sizes
    slot.stamps[: len(rows)] = stamps
    return chunk


class Decoders:
    """Forked processes that decode a source's rows; a thread of the parent follows each."""

    def __init__(self, source: Files, rule: PixelRule, tasks: Iterable[range], workers: int, capacity: int) -> None:
        """Starts at once on the first of `tasks`, ranges of at most `capacity` rows each."""
        each = _aligned(Slot.bytes_for(capacity, rule.shape))
        count = min(max(SLOT_MEMORY // each, 2 * workers), MOST_SLOTS)
        memory = memoryview(mmap.mmap(-1, each * count))
        self._source = source
        self._slots = [Slot(memory[at * each : (at + 1) * each], capacity, rule.shape) for at in range(count)]
        self._busy = np.frombuffer(mmap.mmap(-1, 8 * workers), np.int64)  # the row that each process is at
        self._tasks = iter(tasks)
        self._lock = threading.Lock()
        self._open = True
        taken, self._give = os.pipe()
        self._processes: list[tuple[int, BinaryIO]] = []
        for worker in range(workers):
            answers, answer = os.pipe()
            with warnings.catch_warnings():
                # Python 3.12 warns of a fork beside threads; the only ones here are a BLAS' idle ones
                warnings.simplefilter("ignore", DeprecationWarning)
                process = os.fork()
            if process == 0:
                os.close(self._give)
                _work(source, rule, self._slots, self._busy[worker : worker + 1], taken=taken, answer=answer)
            os.close(answer)
            self._processes.append((process, os.fdopen(answers, "rb")))
        os.close(taken)
        for slot in range(count):
            self._next(slot)

    def follow(self, worker: int) -> Iterator[tuple[Chunk, Slot]]:
        """What one process has done, until no task is left. A slot is used again after the loop's body.

        Raises:
            SourceError: the process crashed; names the file that it was at.
        """
        process, answers = self._processes[worker]
        while True:
            try:
                slot, chunk = pickle.load(answers)  # noqa: S301  from our own child
            except EOFError:
                break
            yield chunk, self._slots[slot]
            self._next(slot)
        _, status = os.waitpid(process, 0)
        if status:
            row = int(self._busy[worker])
            name = shown(self._source.names[range(row, row + 1)][0])
            raise SourceError(
                f"a decoding process crashed (exit status {os.waitstatus_to_exitcode(status)}) at {name}; "
                "the finished shards stay"
            )

    def close(self) -> None:
        """Lets the processes end after what they have been given."""
        with self._lock:
            self._close()

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
                os.write(self._give, _TASK.pack(rows.start, rows.stop, slot))


def _work(
    source: Files, rule: PixelRule, slots: list[Slot], busy: npt.NDArray[np.int64], *, taken: int, answer: int
) -> None:
    """The life of a decoding process. Never returns."""
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
        while task := os.read(taken, _TASK.size):
            start, stop, slot = _TASK.unpack(task)
            chunk = decode_rows(source, rule, range(start, stop), slots[slot], busy)
            with os.fdopen(answer, "wb", closefd=False) as file:
                pickle.dump((slot, chunk), file)
        status = 0
    except BrokenPipeError:  # the parent is gone
        pass
    except Exception:  # noqa: BLE001  said on stderr; the parent sees the status
        traceback.print_exc()
    finally:
        os._exit(status)
