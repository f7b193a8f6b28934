"""A source's rows as decoded batches, in lanes that threads take them from: the fastest way for each kind of source."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vae_serve.images.pixels import PixelRule
from vae_serve.jobs.decode_pool import PICTURE_TIMEOUT, DecodePool, PoolOptions, decode_pool
from vae_serve.jobs.decoding import DecodedBatch, sliced
from vae_serve.jobs.plan import Shard
from vae_serve.jobs.task import RowRanges
from vae_serve.sources.arrays import Arrays
from vae_serve.sources.files import Pictures

DecodedRows = tuple[
    DecodedBatch, npt.NDArray[Any]
]  # with its pixels (n, H, W, C), which are overwritten when the next one is taken


class DecodeLanes:
    """The missing shards, cut into batches of `rows_per_batch`, in lanes."""

    def __init__(
        self,
        source: Pictures | Arrays,
        rule: PixelRule,
        missing: Sequence[Shard],
        rows_per_batch: int,
        *,
        workers: int,
        picture_timeout: float = PICTURE_TIMEOUT,
        private: tuple[int, ...] = (),
    ) -> None:
        """Begins to decode. Processes that are forked off close the `private` files."""
        self._ranges = ranges = RowRanges(missing, rows_per_batch)
        self._pool: DecodePool | None = None
        self.lanes: Sequence[Iterator[DecodedRows]]
        if isinstance(source, Arrays):
            lanes = min(workers, ranges.count)
            self.lanes = [sliced(source, rule, ranges, rows_per_batch) for _ in range(lanes)]
        else:
            options = PoolOptions(rule, min(workers, ranges.count), rows_per_batch, picture_timeout)
            rows = range(missing[0].start, missing[-1].stop)
            self._pool = pool = decode_pool(source, ranges, options, rows=rows, private=private)
            self.lanes = [pool.follow(worker) for worker in range(options.workers)]

    def stop(self, finished: bool) -> None:
        """Waits for the processes where all has been taken; else ends them at once."""
        if not finished:
            self._ranges.close()
        if self._pool and finished:
            self._pool.join()
        elif self._pool:
            self._pool.stop()


def rows_within(memory: int, rule: PixelRule) -> int:
    """How many of the model's pictures take so many bytes."""
    return memory // int(np.prod(rule.shape))
