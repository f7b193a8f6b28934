"""What `embed` and `reconstruct` share: pictures that are decoded while the model for them is opened."""

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Generic, Self, TypeVar

import msgspec

from vae_serve.images.pixels import PixelRule
from vae_serve.jobs.decode_lanes import DecodedRows, DecodeLanes
from vae_serve.jobs.decoding import DecodedBatch, Failure
from vae_serve.jobs.plan import Plan, Shard
from vae_serve.model.bundle import Bundle
from vae_serve.sources.arrays import Arrays
from vae_serve.sources.described import Described
from vae_serve.sources.files import Pictures
from vae_serve.tasks.opened_model import opened_model

if TYPE_CHECKING:
    from vae_serve.model.model import Model


class PictureSpec(msgspec.Struct, frozen=True):
    """Which pictures to work on, and with what."""

    source: Described[Pictures | Arrays]
    bundle: Described[Bundle]
    rule: PixelRule
    plan: Plan
    workers: int
    """Decoding processes, and threads that run the model."""
    picture_timeout: float
    """Seconds that one picture may take to decode."""

    def for_shard(self, shard: Shard) -> Self:
        """The same, with the names of one shard's pictures alone, for one core."""
        from msgspec.structs import replace

        return replace(self, source=self.source.open().select(range(shard.start, shard.stop)), workers=1)

    def rows_per_batch(self, source: Pictures | Arrays, rows: range) -> int:
        """How many rows are decoded in one go, of those of a job."""
        raise NotImplementedError


class PictureRows(msgspec.Struct, frozen=True):
    """What became of some neighbouring pictures."""

    decoded: DecodedBatch
    failures: dict[int, Failure]
    """By row of the job."""

    @property
    def rows(self) -> range:
        """Rows of the job."""
        return self.decoded.rows

    @property
    def failed(self) -> int:
        """How many of them have no result."""
        return len(self.failures)


SpecT = TypeVar("SpecT", bound=PictureSpec)


class PictureWork(Generic[SpecT]):
    """The missing shards of a job over pictures, under way."""

    def __init__(self, spec: SpecT, missing: Sequence[Shard], private: tuple[int, ...]) -> None:
        """Begins to decode; opens the model meanwhile. Processes that are forked off close the `private` files."""
        self.spec, self.begun_ns = spec, time.time_ns()
        self.source = spec.source.open()
        self._decoding = DecodeLanes(
            self.source,
            spec.rule,
            missing,
            spec.rows_per_batch(self.source, range(missing[0].start, missing[-1].stop)),
            workers=spec.workers,
            picture_timeout=spec.picture_timeout,
            private=private,
        )
        try:
            self._model = self._opened_model()
        except BaseException:
            self.stop(finished=False)
            raise

    def _opened_model(self) -> "Model":
        return opened_model(self.spec.bundle.open())  # the lanes bring the threads

    @property
    def lanes(self) -> Sequence[Iterator[DecodedRows]]:
        """Decoded batches."""
        return self._decoding.lanes

    def stop(self, finished: bool) -> None:
        """Ends the decoding."""
        self._decoding.stop(finished)
