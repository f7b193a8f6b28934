"""Decoding on all cores: forked processes that fill slots of shared memory with the model's pixels.

One queue of tasks, a pipe that every process reads; one pipe of answers from each. Forked, not spawned: the child has
the source and the imports of its parent at once. A process ends when the queue is closed, so none outlives its parent.
"""

import gc
import mmap
import os
import pickle
import signal
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from vae_serve.errors import ImageError, SourceError
from vae_serve.forks import fork
from vae_serve.images.decode import Decoder
from vae_serve.images.names import shown
from vae_serve.images.pixels import Bytes, PixelRule
from vae_serve.images.sources import GONE, Pictures

SLOT_MEMORY = 32 << 20  # bytes of all slots: what the processes decode ahead while the model is still being loaded
MOST_SLOTS = 1024  # so that all tasks in flight fit into the pipe's 64 KB

_TASK = struct.Struct("<qqq")  # start, stop, slot; a pipe hands out records of this size whole


class Failure(NamedTuple):
    """Why a row has no vectors."""

    kind: str
    message: str


@dataclass
class Chunk:
    """What became of some neighbouring rows."""

    rows: range
    sizes: npt.NDArray[np.int32]  # (n, 2) width, height of each picture
    lengths: npt.NDArray[np.int64]  # (n,) bytes of each file; -1 where it is gone
    failures: dict[int, Failure] = field(default_factory=dict)  # by row
    notes: Counter[str] = field(default_factory=Counter)
    read_seconds: float = 0.0
    decode_seconds: float = 0.0


def decode_rows(source: Pictures, decode: Decoder, rows: range, slot: Bytes, busy: npt.NDArray[np.int64]) -> Chunk:
    """Reads and decodes some rows into a slot (n or more, H, W, C). What fails is told; nothing is raised for it.

    `busy` (1,) is set to the row at hand, so that a crash of the decoder itself can be laid to a file.
    """
    rule = decode.rule
    chunk = Chunk(rows, np.full((len(rows), 2), (rule.width, rule.height), np.int32), np.empty(len(rows), np.int64))
    plain = slot[..., 0] if rule.channels == 1 else slot
    lengths: list[int] = []
    read_seconds = decode_seconds = 0.0
    as_it_is, clock = decode.as_it_is, time.perf_counter
    begun = clock()
    for at, found in enumerate(source.read(rows)):
        have = clock()
        read_seconds += have - begun
        busy[0] = rows.start + at
        if isinstance(found, bytes):
            lengths.append(len(found))
            pixels = as_it_is(found)
            if pixels is not None:
                plain[at] = pixels
            else:
                _decode_any(decode, found, at, slot, chunk)
        else:
            lengths.append(_length(source, rows[at]))
            chunk.failures[rows[at]] = Failure(found.kind, str(found))
        begun = clock()
        decode_seconds += begun - have
    chunk.lengths[:] = lengths
    chunk.read_seconds, chunk.decode_seconds = read_seconds, decode_seconds
    return chunk


def _decode_any(decode: Decoder, data: bytes, at: int, slot: Bytes, chunk: Chunk) -> None:
    try:
        picture = decode(data)
    except ImageError as error:
        chunk.failures[chunk.rows[at]] = Failure(error.kind, str(error))
        return
    slot[at] = picture.pixels
    chunk.sizes[at] = picture.size
    chunk.notes.update(picture.notes)


def _length(source: Pictures, row: int) -> int:
    stamps = source.stamps(range(row, row + 1))
    return GONE[0] if stamps is None else next(stamps)[0]


class Decoders:
    """Forked processes that decode a source's rows; a thread of the parent follows each."""

    def __init__(self, source: Pictures, rule: PixelRule, tasks: Iterator[range], workers: int, capacity: int) -> None:
        """Starts at once on the first of `tasks`, of at most `capacity` rows each."""
        each = capacity * int(np.prod(rule.shape))
        count = min(max(SLOT_MEMORY // each, 2 * workers), MOST_SLOTS)
        self._slots: Bytes = _shared(np.uint8, (count, capacity, *rule.shape))
        self._busy: npt.NDArray[np.int64] = _shared(np.int64, (workers, 1))  # the row that each process is at
        self.count = workers
        self._source, self._rule, self._tasks = source, rule, tasks
        self._lock = threading.Lock()
        self._open = True
        taken, self._give = os.pipe()
        self._processes: list[tuple[int, BinaryIO]] = []
        for busy in self._busy:
            answers, answer = os.pipe()
            process = fork(partial(self._work, busy, taken=taken, answer=answer))
            os.close(answer)
            self._processes.append((process, os.fdopen(answers, "rb")))
        os.close(taken)
        for slot in range(count):
            self._next(slot)

    def _work(self, busy: npt.NDArray[np.int64], *, taken: int, answer: int) -> None:
        """The life of a decoding process, until no task is left."""
        os.close(self._give)
        gc.freeze()  # what the parent had is not garbage, and looking at it would copy its pages
        decode = Decoder(self._rule)
        with os.fdopen(answer, "wb") as answers:
            while task := os.read(taken, _TASK.size):
                start, stop, slot = _TASK.unpack(task)
                chunk = decode_rows(self._source, decode, range(start, stop), self._slots[slot], busy)
                pickle.dump((slot, chunk), answers, pickle.HIGHEST_PROTOCOL)
                answers.flush()

    def follow(self, worker: int) -> Iterator[tuple[Chunk, Bytes]]:
        """What one process has done, with its pixels (n, H, W, C), until no task is left. They are overwritten after
        the loop's body.

        Raises:
            SourceError: the process crashed; names the file that it was at.
        """
        process, answers = self._processes[worker]
        while True:
            try:
                slot, chunk = pickle.load(answers)  # noqa: S301  from our own child
            except EOFError:
                break
            yield chunk, self._slots[slot, : len(chunk.rows)]
            self._next(slot)
        answers.close()
        _, status = os.waitpid(process, 0)
        if status:
            row = int(self._busy[worker, 0])
            raise SourceError(
                f"a decoding process crashed (exit status {os.waitstatus_to_exitcode(status)}) at "
                f"{shown(self._source.names[range(row, row + 1)][0])}; the finished shards stay"
            )

    def close(self) -> None:
        """Lets the processes end after what they have been given."""
        with self._lock:
            self._close()

    def stop(self) -> None:
        """Ends the processes at once: what they are busy with is lost."""
        self.close()
        for process, _ in self._processes:
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
                os.write(self._give, _TASK.pack(rows.start, rows.stop, slot))


def _shared(dtype: npt.DTypeLike, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """An array of zeros that forked processes share."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer(mmap.mmap(-1, size), dtype).reshape(shape)
