"""A shard of `embed`: its pictures decoded, encoded and laid out as columns."""

import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vae_serve.images.pixels import Bytes, to_bytes
from vae_serve.jobs.decode_lanes import DecodedRows, rows_within
from vae_serve.jobs.decoding import labels_of
from vae_serve.jobs.folder import Count, Fields
from vae_serve.jobs.plan import Shard
from vae_serve.jobs.task import ShardResult
from vae_serve.model import samplers
from vae_serve.results.vector_result import VectorResult
from vae_serve.sources.arrays import Arrays
from vae_serve.sources.files import Pictures
from vae_serve.tasks.checks import not_finite
from vae_serve.tasks.opened_model import opened_model
from vae_serve.tasks.picture_work import PictureRows, PictureSpec, PictureWork
from vae_serve.tasks.source_plan import lengths_sha256

if TYPE_CHECKING:
    import pyarrow as pa

    from vae_serve.model.model import Model

# onnxruntime and pyarrow are imported where they are first needed: while they load, other processes decode already.

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]

BATCH_ROWS = 512  # rows that a process decodes before it answers
BATCH_BYTES = 1 << 20  # of their files: four photographs, or more small pictures than the above
ARRAY_ROWS = 2048  # rows that a thread slices off an array at a time
BATCH_MEMORY = 16 << 20  # bytes of pixels; large pictures come in smaller batches

RECORD: Fields = {  # a shard's
    "rows": Count,
    "failed": Count,
    "errors": dict[str, Count],
    "notes": dict[str, Count],
    "begun_ns": Count,
    "lengths_sha256": str,
    "seconds": dict[str, float],
}


class EmbedSpec(PictureSpec, frozen=True):
    """What to embed, with what, and how."""

    result: VectorResult
    seed: int
    """Of `z`."""
    batch: int
    """Rows a call of the encoder."""

    def start(self, missing: Sequence[Shard], private: tuple[int, ...] = ()) -> "EmbedWork":
        """Begins to decode; opens the encoder meanwhile."""
        return EmbedWork(self, missing, private)

    def rows_per_batch(self, source: Pictures | Arrays, rows: range) -> int:
        """Some calls of the encoder, as far as memory allows; of large files as many as make some work, so that every
        process has its part of a few hundred photographs.
        """
        wanted = max(ARRAY_ROWS if isinstance(source, Arrays) else BATCH_ROWS, self.batch)
        if not isinstance(source, Arrays) and self.workers > 1:
            wanted = min(wanted, int(BATCH_BYTES // max(1.0, source.mean_length(rows))))
        return max(1, min(wanted, rows_within(BATCH_MEMORY, self.rule)))


class EncodedRows(PictureRows, frozen=True):
    """With their vectors."""

    outputs: dict[str, Floats]
    """Each (n, d)."""
    pixels: Bytes | None
    """(n, H, W, C), where the result shows the pictures."""
    infer_seconds: float


class EmbedWork(PictureWork[EmbedSpec]):
    """The missing shards of an `embed` job, under way."""

    def _opened_model(self) -> "Model":
        model = opened_model(self.spec.bundle.open(), self.spec.batch)
        model.encode(np.empty((0, *self.spec.rule.shape), np.uint8))  # opens the session, or raises
        return model

    def prepare(self) -> None:
        """Loads pyarrow before the first shard is full."""
        from vae_serve.results import tables  # noqa: F401

    def process(self, batch: DecodedRows) -> EncodedRows:
        """One batch through the encoder."""
        decoded, pixels = batch
        begun = time.perf_counter()
        z_mean, z_log_var = self._model.encode(pixels, check=False)
        outputs = {"z_mean": z_mean, "z_log_var": z_log_var}
        failures = {**decoded.failures, **not_finite(decoded.rows, outputs, "encoder", decoded.failures)}
        seconds = time.perf_counter() - begun
        kept = None
        if self.spec.result.has_sprite:
            kept = pixels.copy() if pixels.dtype == np.uint8 else to_bytes(pixels)
        return EncodedRows(decoded, failures, outputs, kept, seconds)

    def columns(self, shard: Shard, pieces: list[EncodedRows]) -> "dict[str, pa.Array]":
        """A shard's columns, in the documented order."""
        from vae_serve.results import tables

        spec = self.spec
        rows = range(shard.start, shard.stop)
        outputs = {name: np.concatenate([piece.outputs[name] for piece in pieces]) for name in ("z_mean", "z_log_var")}
        if "z" in spec.result.outputs:
            noise = samplers.sample_prior(spec.seed, rows.start, rows.stop, spec.result.latent_dim)
            outputs["z"] = outputs["z_mean"] + np.exp(outputs["z_log_var"] * np.float32(0.5)) * noise
        failures = {row: why for piece in pieces for row, why in piece.failures.items()}
        pixels = [piece.pixels for piece in pieces if piece.pixels is not None]
        return tables.columns(
            tables.ShardRows(
                names=self.source.names.text(rows),
                labels=labels_of(self.source, [piece.decoded for piece in pieces], rows),
                sizes=np.concatenate([piece.decoded.sizes for piece in pieces]),
                errors={row - rows.start: f"{why.kind}: {why.message}" for row, why in failures.items()},
                vectors={name: outputs[name] for name in spec.result.outputs},
                pixels=np.concatenate(pixels) if pixels else None,
            )
        )

    def assemble(self, shard: Shard, pieces: list[EncodedRows]) -> ShardResult:
        """A shard's columns as a Parquet file."""
        from vae_serve.results import writers

        begun = time.perf_counter()
        columns = self.columns(shard, pieces)
        failures = [why for piece in pieces for why in piece.failures.values()]
        record = {
            "rows": len(shard),
            "failed": len(failures),
            "errors": dict(sorted(Counter(why.kind for why in failures).items())),
            "notes": dict(sorted(sum((piece.decoded.notes for piece in pieces), Counter()).items())),
            "begun_ns": self.begun_ns,
            "lengths_sha256": lengths_sha256(np.concatenate([piece.decoded.lengths for piece in pieces])),
            "seconds": {
                "read": sum(piece.decoded.read_seconds for piece in pieces),
                "decode": sum(piece.decoded.decode_seconds for piece in pieces),
                "infer": sum(piece.infer_seconds for piece in pieces),
                "write": time.perf_counter() - begun,
            },
        }
        return ShardResult({self.spec.plan.part(shard): lambda file: writers.write_parquet(file, columns)}, record)
