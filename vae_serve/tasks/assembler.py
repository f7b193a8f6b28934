"""Chunks in any order to whole shards."""

import queue
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from vae_serve.images.pixels import Bytes, to_bytes
from vae_serve.jobs.decoding import Chunk, Failure
from vae_serve.jobs.shards import Shard
from vae_serve.results.layout import Layout

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]


def not_finite(
    chunk: Chunk, outputs: Mapping[str, Floats], network: str, known: Mapping[int, Failure] | None = None
) -> dict[int, Failure]:
    """The rows, by number in the job, for which outputs (n, d) of a network are not finite, without those `known`."""
    known = chunk.failures if known is None else known
    fine = np.logical_and.reduce([np.isfinite(values).all(axis=1) for values in outputs.values()])
    return {
        chunk.rows[at]: Failure("not_finite", f"the {network} gives NaN or infinity for it")
        for at in np.flatnonzero(~fine).tolist()
        if chunk.rows[at] not in known
    }


@dataclass
class Gathered:
    """The rows of one shard, in whatever order their chunks come."""

    shard: Shard
    outputs: dict[str, Floats]  # each (n, d)
    sizes: npt.NDArray[np.int32]  # (n, 2) width, height
    lengths: npt.NDArray[np.int64]  # (n,) bytes of each file
    pixels: Bytes | None  # (n, H, W, C), where the form shows the pictures
    waiting: int  # rows yet to come
    failures: dict[int, Failure] = field(default_factory=dict)  # by row of the job
    notes: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)  # by stage

    @classmethod
    def empty(cls, shard: Shard, layout: Layout) -> "Gathered":
        """Room for a shard's rows."""
        count = shard.stop - shard.start
        return cls(
            shard,
            {name: np.empty((count, layout.latent_dim), np.float32) for name in ("z_mean", "z_log_var")},
            np.empty((count, 2), np.int32),
            np.empty(count, np.int64),
            np.empty((count, *layout.image_shape), np.uint8) if layout.has_sprite else None,
            count,
        )

    def add(self, chunk: Chunk, pixels: Array, outputs: dict[str, Floats], infer_seconds: float) -> None:
        """One chunk's results."""
        at = slice(chunk.rows.start - self.shard.start, chunk.rows.stop - self.shard.start)
        for name, values in outputs.items():
            self.outputs[name][at] = values
        self.sizes[at], self.lengths[at] = chunk.sizes, chunk.lengths
        if self.pixels is not None:
            self.pixels[at] = pixels if pixels.dtype == np.uint8 else to_bytes(pixels)
        self.failures.update(chunk.failures)
        self.failures.update(not_finite(chunk, outputs, "encoder"))
        self.notes.update(chunk.notes)
        for stage, seconds in (
            ("read", chunk.read_seconds),
            ("decode", chunk.decode_seconds),
            ("infer", infer_seconds),
        ):
            self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds
        self.waiting -= len(chunk.rows)


class Gathering:
    """Where the threads bring their chunks, and full shards come out. Threads share it."""

    def __init__(self, missing: list[Shard], layout: Layout) -> None:
        self.full: queue.SimpleQueue[Gathered | BaseException] = queue.SimpleQueue()
        self.rows_done = self.failed = 0
        self._missing, self._layout = missing, layout
        self._open: dict[int, Gathered] = {}
        self._lock = threading.Lock()

    def add(self, chunk: Chunk, pixels: Array, outputs: dict[str, Floats], infer_seconds: float) -> None:
        """One chunk's results."""
        with self._lock:
            gathered = self._open_for(chunk.rows.start)
            before = len(gathered.failures)
            gathered.add(chunk, pixels, outputs, infer_seconds)
            self.rows_done += len(chunk.rows)
            self.failed += len(gathered.failures) - before
            if not gathered.waiting:
                self.full.put(self._open.pop(gathered.shard.number))

    def _open_for(self, row: int) -> Gathered:
        for gathered in self._open.values():
            if gathered.shard.start <= row < gathered.shard.stop:
                return gathered
        shard = next(shard for shard in self._missing if shard.start <= row < shard.stop)
        return self._open.setdefault(shard.number, Gathered.empty(shard, self._layout))
