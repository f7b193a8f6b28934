"""Latent points to pictures on all cores: one picture at once, or any number of them as a job that can be continued."""

import math
import os
import shutil
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vae_serve.errors import OutputError, UsageError
from vae_serve.images import pixels
from vae_serve.model.bundle import Bundle
from vae_serve.model.runtime import Network, open_decoder
from vae_serve.model.samplers import Floats
from vae_serve.sources.latents import LatentSource

if TYPE_CHECKING:
    from vae_serve.jobs.shards import Job, Json, Plan, Shard
    from vae_serve.results.pictures import Form, Numbering

# `forms` and `shards` are imported where many pictures are made: one is to be there at once.

Bytes = npt.NDArray[np.uint8]
Report = Callable[..., None]  # told (pictures done, pictures in all)

BATCH = 64  # points a call: what the decoder has in hand then fits into a core's second-level cache
TASK_POINTS = 1024  # that one thread decodes in one go
SHARD_BYTES = 32 << 20  # of one shard's pictures; their PNG files are in memory until the shard is written
MOST_SHARDS = 1_000_000  # of one job
AHEAD = 2  # shards in the making while one is being written


@dataclass(frozen=True)
class Tiling:
    """How points become pictures: each is a tile of `points`, `columns` wide."""

    points: int = 1
    columns: int = 1

    def pictures(self, points: LatentSource) -> int:
        """How many pictures some points make; the last tile may have gaps."""
        return -(-points.count // self.points)

    def rows(self, points: LatentSource, start: int, stop: int) -> Floats:
        """The points of pictures `start` to `stop`; NaN, which is drawn black, in the gaps."""
        z = points.rows(start * self.points, min(stop * self.points, points.count))
        gap = (stop - start) * self.points - len(z)
        return np.pad(z, ((0, gap), (0, 0)), constant_values=np.nan) if gap else z

    def tile(self, images: Bytes) -> Bytes:
        """Images (n * points, H, W, C) as pictures (n, H * points / columns, W * columns, C)."""
        if self.points == 1:
            return images
        tiles = images.reshape(-1, self.points, *images.shape[1:])
        return np.stack([pixels.tile(tile, self.columns) for tile in tiles])


def decode(decoder: Network, z: Floats) -> Bytes:
    """Points (n, d) to images (n, H, W, C); black where a point is NaN."""
    blank = np.asarray(np.isnan(z).any(axis=1))
    asked = np.where(blank[:, None], np.float32(0), z)
    (_, *shape) = decoder.spec.outputs[0].shape
    images = np.empty((len(z), *map(int, shape)), np.uint8)
    for start in range(0, len(z), BATCH):
        (image,) = decoder(asked[start : start + BATCH])
        room = images[start : start + BATCH]
        if image.dtype == np.uint8:
            room[:] = image
        else:
            pixels.to_bytes(image, room)
    images[blank] = 0
    return images


def draw_one(decoder: Network, points: LatentSource, tiling: Tiling, workers: int) -> Bytes:
    """The one picture (H, W, C) that the points make."""
    z = tiling.rows(points, 0, 1)
    tasks = [z[start : start + TASK_POINTS] for start in range(0, len(z), TASK_POINTS)]
    with ThreadPoolExecutor(workers) as pool:
        images = np.concatenate(list(pool.map(lambda task: decode(decoder, task), tasks)))
    picture: Bytes = tiling.tile(images)[0]
    return picture


def refuse_existing(out: Path, overwrite: bool) -> None:
    """Raises OutputError, before any work, where `out` stands in the way or its folder cannot take it."""
    if out.exists() and not overwrite:
        raise OutputError(f"{out} exists; choose another --out, or replace it with --overwrite")
    if out.suffix and out.is_dir():
        raise OutputError(f"{out} is a folder, where a file is to be written; choose another --out")
    if out.is_dir() and any(file.suffix != ".png" for file in out.iterdir()):
        raise OutputError(f"{out} holds more than pictures and is not overwritten; choose another --out")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"the folder {out.parent} cannot be made: {error.strerror}; choose another --out") from error
    if not os.access(out.parent, os.W_OK | os.X_OK):
        raise OutputError(f"the folder {out.parent.absolute()} cannot be written to; choose another --out")


def write_file(out: Path, contents: bytes) -> None:
    """Written aside, synced, renamed: `out` is never half a file."""
    aside = out.with_name(f".{out.name}.partial")
    try:
        with aside.open("wb") as opened:
            opened.write(contents)
            opened.flush()
            os.fsync(opened.fileno())
        aside.replace(out)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise OutputError(f"{out} cannot be written: {error.strerror}") from error


def draw_many(
    bundle: Bundle,
    points: LatentSource,
    tiling: Tiling,
    out: Path,
    overwrite: bool,
    workers: int,
    report: Report,
    numbering: "Numbering",
) -> None:
    """Makes the file or folder that `out` names in OUT.partial, shard by shard, and gives it its name.

    Raises:
        UsageError: no form of output has this name, or there are too many pictures.
        OutputError: `out` exists or cannot be written to, or OUT.partial holds another job.
    """
    from vae_serve.jobs.shards import ROWS_PER_SHARD, Plan, open_job
    from vae_serve.results import pictures

    height, width, channels = bundle.manifest.image_shape
    count = tiling.pictures(points)
    shape = (height * tiling.points // tiling.columns, width * tiling.columns, channels)
    form = pictures.form_of(out, count, shape, points, numbering)
    rows = max(1, min(ROWS_PER_SHARD // tiling.points, SHARD_BYTES // math.prod(shape)))
    if count > rows * MOST_SHARDS:
        raise UsageError(f"{count:,} pictures are more than one job takes, {rows * MOST_SHARDS:,} of this model's")
    plan = Plan(_description(bundle, points, tiling), count, form.suffix, form.results, rows)
    aside = out.with_name(f"{out.name}.partial")
    try:
        refuse_existing(out, overwrite)
    except OutputError:
        _sweep(aside, plan)
        raise
    free = shutil.disk_usage(out.parent).free
    if form.least_bytes > free and not aside.exists():
        raise OutputError(f"{out} would take {form.least_bytes:,} bytes, and {free:,} are free on its disk")
    with open_job(aside, plan, overwrite) as job:
        try:
            if job.missing:
                form.begin(job)
                _make(job, open_decoder(bundle), points, tiling, form, workers, report)
            whole = form.whole(job)
            if out.is_dir():
                out.rename(aside / "replaced")
            whole.replace(out)
            shutil.rmtree(aside)
        except OSError as error:
            raise OutputError(
                f"{out} cannot be written: {error.strerror}; what is done stays in {aside}: run the same command again"
            ) from error


def _description(bundle: Bundle, points: LatentSource, tiling: Tiling) -> "Json":
    """Everything that changes a byte."""
    manifest = bundle.manifest
    files = {entry.path: entry.sha256 for entry in manifest.files}
    return {
        "command": "generate",
        "model": {"name": manifest.name, "decoder_sha256": files[manifest.decoder.file] if manifest.decoder else None},
        "points": points.about,
        "tile": {"points": tiling.points, "columns": tiling.columns},
    }


def _sweep(aside: Path, plan: "Plan") -> None:
    """Clears away the job folder of a finished output, left by a run that was killed after its last rename."""
    from vae_serve.jobs.shards import open_job

    if aside.exists():
        with suppress(OutputError), open_job(aside, plan):
            if all(file.suffix == ".json" for file in aside.rglob("*") if file.is_file()):
                shutil.rmtree(aside)


def _make(
    job: "Job", decoder: Network, points: LatentSource, tiling: Tiling, form: "Form", workers: int, report: Report
) -> None:
    """Makes the missing shards: threads work on the next ones while one is being written."""
    each = max(1, TASK_POINTS // tiling.points)  # pictures a task
    done = job.plan.rows - sum(shard.stop - shard.start for shard in job.missing)

    def make(start: int, z: Floats) -> tuple[int, Any]:
        pictures = tiling.tile(decode(decoder, z))
        return len(pictures), form.put(start, pictures, z)

    def finish(shard: "Shard", tasks: list[Future[tuple[int, Any]]]) -> None:
        nonlocal done
        pieces = []
        for task in tasks:
            made, piece = task.result()
            pieces.append(piece)
            done += made
            report(done, job.plan.rows)
        job.commit(shard, form.part(pieces), {"pictures": shard.stop - shard.start})

    pool = ThreadPoolExecutor(workers)
    ahead: deque[tuple[Shard, list[Future[tuple[int, Any]]]]] = deque()
    try:
        for shard in job.missing:
            z = tiling.rows(points, shard.start, shard.stop)
            tasks = []
            for start in range(0, shard.stop - shard.start, each):
                some = z[start * tiling.points : (start + each) * tiling.points]
                tasks.append(pool.submit(make, shard.start + start, some))
            ahead.append((shard, tasks))
            if len(ahead) > AHEAD:
                finish(*ahead.popleft())
        while ahead:
            finish(*ahead.popleft())
    finally:
        pool.shutdown(cancel_futures=True)
