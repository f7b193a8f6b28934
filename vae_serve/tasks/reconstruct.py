"""Pictures beside what the model makes of them: sheets to look at, and a table of how far off each one is.

OUT/sheet-00000.png      pairs in the source's order, the original left and its reconstruction right
    errors.parquet       one row for each picture: path, label, status, error, width, height, mse, reconstruction

Until all of it is there it is made in OUT.partial, and the same command goes on after an interruption.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from vae_serve.images.pixels import PixelRule
from vae_serve.jobs import engines
from vae_serve.jobs.decode_pool import PICTURE_TIMEOUT
from vae_serve.jobs.engines import EngineOptions
from vae_serve.jobs.plan import STATE, Json, Plan, Shard
from vae_serve.jobs.task import Note, ShardResult, no_note
from vae_serve.model.bundle import Bundle
from vae_serve.results import earlier, writers
from vae_serve.sources.arrays import Arrays
from vae_serve.sources.files import Pictures
from vae_serve.tasks.bundle_folder import network_sha256
from vae_serve.tasks.bundle_folder import opened as opened_bundle
from vae_serve.tasks.checks import refuse_other_shape
from vae_serve.tasks.reconstruct_shard import FOLDER, RECORD, ReconstructSpec, Worst, per_sheet, rows_per_shard
from vae_serve.tasks.source_plan import opened_source, refuse_changed, refuse_unseen, source_json
from vae_serve.tasks.staged import StagedJob

Report = Callable[..., None]  # told (pictures done, pictures in all, errors=so many)


@dataclass(frozen=True)
class ReconstructOptions:
    """Where to, and how."""

    out: Path
    workers: int
    """Decoding processes, and threads that run the networks."""
    picture_timeout: float = PICTURE_TIMEOUT
    """Seconds that one picture may take to decode."""
    overwrite: bool = False
    engine: str = "inline"
    """Of `jobs.engines.ENGINES`."""
    address: str | None = None
    """Of a cluster."""


def reconstruct(
    source: Pictures | Arrays,
    bundle: Bundle,
    rule: PixelRule,
    options: ReconstructOptions,
    report: Report,
    note: Note = no_note,
) -> Json:
    """Writes the sheets and the table into `options.out`, which appears when it is whole.

    The error is that of the reconstruction from z_mean: `mse` over pixels 0..1, and `reconstruction`, the negative log
    likelihood of the picture in nats, the training loss' first term (`metrics.bernoulli_nats`).

    Returns the fields of the API's `ReconstructSummary`, all but `model`.

    Raises:
        SourceError: arrays of another shape than the model's, pictures have changed, or a decoder crashed.
        OutputError: `out` exists or cannot be written, or OUT.partial holds another job.
        BundleError: the bundle has no networks that run.
    """
    refuse_other_shape(source, rule)
    engine = engines.chosen(EngineOptions(options.engine, options.workers, options.address, note))
    plan = Plan(
        _description(source, bundle, rule),
        source.names.count,
        results=(f"{FOLDER}/{earlier.ERRORS}",),
        rows_per_shard=rows_per_shard(rule),
    )
    spec = ReconstructSpec(
        opened_source(source), opened_bundle(bundle), rule, plan, options.workers, options.picture_timeout
    )
    out = options.out
    staged = StagedJob(out, "a result of reconstruct", earlier.is_reconstruction, plan, RECORD, options.overwrite)
    with staged.open() as job:
        refuse_changed(job, source)
        missing = job.missing
        done, failed = plan.rows - sum(map(len, missing)), sum(record["failed"] for record in job.records.values())
        job.local_store.folder(FOLDER)

        def commit(shard: Shard, result: ShardResult) -> None:
            refuse_unseen(source, shard, result.record)
            job.commit(shard, result.files, result.record)

        engine(
            spec,
            missing,
            commit,
            lambda made, bad, /, **figures: report(done + made, plan.rows, errors=failed + bad, **figures),
            private=job.store.descriptors,
        )
        if not job.finished:
            job.put(f"{FOLDER}/{earlier.ERRORS}", lambda file: writers.write_tables(file, _row_groups(job.parts())))
        job.drop_parts()
        summary = _summary(out, [job.records[shard.number] for shard in plan.shards], -(-plan.rows // per_sheet(rule)))
        staged.publish(job, FOLDER.removeprefix(f"{STATE}/"))
    return summary


def _description(source: Pictures | Arrays, bundle: Bundle, rule: PixelRule) -> Json:
    """Everything that changes a byte."""
    return {
        "command": "reconstruct",
        "model": {
            "name": bundle.manifest.name,
            "encoder_sha256": network_sha256(bundle, "encoder"),
            "decoder_sha256": network_sha256(bundle, "decoder"),
        },
        "source": source_json(source),
        "pixels": rule.to_json(),
    }


def _row_groups(parts: Iterator[BinaryIO]) -> Iterator[pa.Table]:
    """A table for each sheet, which becomes a row group of the whole."""
    for part in parts:
        file = pq.ParquetFile(part)
        for number in range(file.num_row_groups):
            yield file.read_row_group(number, use_threads=False)


def _summary(out: Path, records: list[Json], sheets: int) -> Json:
    pictures, failed = sum(record["rows"] for record in records), sum(record["failed"] for record in records)
    fine = pictures - failed
    mse = sum(sum_ for record in records for sum_ in record["mse"])
    nats = sum(sum_ for record in records for sum_ in record["reconstruction"])
    worst: list[Worst] = [record["worst"] for record in records if record["worst"]]
    return {
        "out": out,
        "pictures": pictures,
        "failed": failed,
        "sheets": sheets,
        "mean_mse": mse / fine if fine else None,
        "mean_reconstruction": nats / fine if fine else None,
        "worst": max(worst, key=lambda picture: picture["reconstruction"], default=None),
    }
