"""A shard of `generate`: its points decoded, tiled and handed to the writer of the format that was asked for."""

import math
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vae_serve.errors import OutputError, UsageError
from vae_serve.jobs import engines
from vae_serve.jobs.engines import EngineOptions
from vae_serve.jobs.folder import Count, Fields
from vae_serve.jobs.plan import ROWS_PER_SHARD, Json, Plan, Shard
from vae_serve.jobs.task import ShardResult
from vae_serve.model.bundle import Bundle
from vae_serve.model.samplers import Floats
from vae_serve.results.picture_formats import writer_for
from vae_serve.results.picture_writer import Numbering, PictureWriter
from vae_serve.sources.described import Described
from vae_serve.sources.latents import LatentSource
from vae_serve.tasks.bundle_folder import network_sha256, opened
from vae_serve.tasks.generate_options import GenerateOptions
from vae_serve.tasks.opened_model import opened_model
from vae_serve.tasks.rendering import Tiling, decode
from vae_serve.tasks.staged import StagedJob

SHARD_BYTES = 32 << 20  # of one shard's pictures; their PNG files are in memory until the shard is written
MOST_SHARDS = 1_000_000  # of one job
AHEAD = 3  # shards in memory: one that is written, and the next ones

RECORD: Fields = {"pictures": Count}

Report = Callable[..., None]  # told (pictures done, pictures in all)
PointRows = tuple[range, Floats]  # pictures of the job, and their points (n * m, d)

TASK_POINTS = 1024  # that one thread decodes in one go


@dataclass(frozen=True)
class GenerateSpec:
    """Which points to decode, with what, and into which format."""

    bundle: Described[Bundle]
    points: LatentSource
    tiling: Tiling
    writer: PictureWriter
    plan: Plan
    workers: int
    """Decoding threads."""

    def for_shard(self, shard: Shard) -> "GenerateSpec":
        """The same, with one shard's points alone, for one core, and a writer that writes nothing into the job's
        folder."""
        first, last = self.tiling.range(self.points, shard.start, shard.stop)
        return replace(self, points=self.points.select(first, last), writer=self.writer.detached(), workers=1)

    def start(self, missing: Sequence[Shard], private: tuple[int, ...] = ()) -> "GenerateWork":
        """Opens the decoder."""
        return GenerateWork(self, missing)


@dataclass(frozen=True)
class RenderedRows:
    """Some neighbouring pictures, as the writer has taken them."""

    rows: range
    taken: Any
    failed: int = 0


class GenerateWork:
    """The missing shards of a `generate` job, under way."""

    def __init__(self, spec: GenerateSpec, missing: Sequence[Shard]) -> None:
        self.spec = spec
        self._model = opened_model(spec.bundle.open())  # the lanes bring the threads
        self._batches = _PointBatches(spec, missing)
        self.lanes: Sequence[Iterator[PointRows]] = [self._batches] * spec.workers

    def prepare(self) -> None:
        """Nothing to import."""

    def process(self, batch: PointRows) -> RenderedRows:
        """One batch through the decoder."""
        rows, z = batch
        pictures = self.spec.tiling.tile(decode(self._model, z))
        return RenderedRows(rows, self.spec.writer.add(rows.start, pictures, z))

    def assemble(self, shard: Shard, pieces: list[RenderedRows]) -> ShardResult:
        """A shard's file, where it has one."""
        files = self.spec.writer.shard(self.spec.plan.part(shard), [piece.taken for piece in pieces])
        self._batches.shard_done()
        return ShardResult(files, {"pictures": len(shard)})

    def stop(self, finished: bool) -> None:
        """Hands out no more points."""
        self._batches.close()


class _PointBatches(Iterator[PointRows]):
    """Batches of points, which several threads take; they wait while too many shards are in memory."""

    def __init__(self, spec: GenerateSpec, missing: Sequence[Shard]) -> None:
        self._room = threading.Semaphore(AHEAD)
        self._closed = False
        self._batches = self._cut(spec, missing)
        self._lock = threading.Lock()

    def __next__(self) -> PointRows:
        with self._lock:
            return next(self._batches)

    def shard_done(self) -> None:
        """Another one may begin."""
        self._room.release()

    def close(self) -> None:
        """Hands out no more."""
        self._closed = True
        self._room.release()

    def _cut(self, spec: GenerateSpec, missing: Sequence[Shard]) -> Iterator[PointRows]:
        tiling = spec.tiling
        each = max(1, TASK_POINTS // tiling.points)  # pictures
        for shard in missing:
            self._room.acquire()
            z = tiling.rows(spec.points, shard.start, shard.stop)
            for start in range(0, len(shard), each):
                if self._closed:
                    return
                some = z[start * tiling.points : (start + each) * tiling.points]
                yield range(shard.start + start, shard.start + min(start + each, len(shard))), some


def render_many(
    bundle: Bundle,
    points: LatentSource,
    tiling: Tiling,
    out: Path,
    options: GenerateOptions,
    report: Report,
    numbering: Numbering,
    engine: EngineOptions,
) -> None:
    """Makes the file or folder that `out` names in OUT.partial, shard by shard, and gives it its name.

    Raises:
        UsageError: no format has this name, or there are too many pictures.
        OutputError: `out` exists or cannot be written to, or OUT.partial holds another job.
    """
    run = engines.chosen(engine)
    height, width, channels = bundle.manifest.image_shape
    count = tiling.pictures(points)
    shape = (height * tiling.points // tiling.columns, width * tiling.columns, channels)
    writer = writer_for(out, count, shape, numbering)
    rows = options.rows_per_shard or max(1, min(ROWS_PER_SHARD // tiling.points, SHARD_BYTES // math.prod(shape)))
    if count > rows * MOST_SHARDS:
        raise UsageError(f"{count:,} pictures are more than one job takes, {rows * MOST_SHARDS:,} of this model's")
    plan = Plan(_description(bundle, points, tiling, writer), count, writer.suffix, writer.results, rows)
    spec = GenerateSpec(opened(bundle), points, tiling, writer, plan, options.workers)
    staged = StagedJob(out, "a result of generate", writer.is_earlier, plan, RECORD, options.overwrite)
    free = shutil.disk_usage(out.parent).free
    if writer.least_bytes > free and not staged.partial.exists():
        raise OutputError(f"{out} would take {writer.least_bytes:,} bytes, and {free:,} are free on its disk")
    with staged.open() as job:
        missing = job.missing
        done = count - sum(map(len, missing))
        if missing:
            writer.open(job)
            try:
                run(
                    spec,
                    missing,
                    lambda shard, result: job.commit(shard, writer.place(shard.start, result.files), result.record),
                    lambda made, _, /, **figures: report(done + made, count, **figures),
                )
            finally:
                writer.close()
        staged.publish(job, writer.finish(job, points))


def _description(bundle: Bundle, points: LatentSource, tiling: Tiling, writer: PictureWriter) -> Json:
    """Everything that changes a byte."""
    about: Json = {
        "command": "generate",
        "model": {"name": bundle.manifest.name, "decoder_sha256": network_sha256(bundle, "decoder")},
        "points": points.about,
        "tile": {"points": tiling.points, "columns": tiling.columns},
    }
    return about if writer.compressor is None else {**about, "png": writer.compressor}
