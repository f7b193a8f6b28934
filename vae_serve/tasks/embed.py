"""Pictures to latent vectors: a source through the encoder into a folder of results."""

import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import closing
from typing import TYPE_CHECKING, Any

import msgspec

from vae_serve.errors import OutputError, SourceError
from vae_serve.images.pixels import PixelRule
from vae_serve.jobs import engines
from vae_serve.jobs.decode_pool import PICTURE_TIMEOUT
from vae_serve.jobs.engines import EngineOptions, inline
from vae_serve.jobs.folder import STATS, Job, open_job
from vae_serve.jobs.plan import ROWS_PER_SHARD, Json, Plan, Shard
from vae_serve.jobs.sealed import SEALED
from vae_serve.jobs.task import Note, ShardResult, no_note
from vae_serve.model.bundle import Bundle
from vae_serve.results.vector_result import ResultFormat, VectorResult
from vae_serve.sources.arrays import Arrays
from vae_serve.sources.files import Pictures
from vae_serve.tasks.bundle_folder import network_sha256
from vae_serve.tasks.bundle_folder import opened as opened_bundle
from vae_serve.tasks.checks import refuse_other_shape
from vae_serve.tasks.embed_shard import RECORD, EmbedSpec, EmbedWork
from vae_serve.tasks.source_plan import opened_source, refuse_changed, refuse_unseen, source_json

if TYPE_CHECKING:
    import pyarrow as pa

    from vae_serve.storage.object_url import Place

AHEAD = 3  # shards that are made while the caller of `rows` looks at one

Report = Callable[..., None]  # told (rows done, rows in all, errors=so many)


class EmbedOptions(msgspec.Struct, frozen=True):
    """How to embed."""

    workers: int
    """Decoding processes, and threads that run the encoder."""
    format: ResultFormat = "parquet"
    outputs: tuple[str, ...] = ("z_mean", "z_log_var")
    """Of `vector_result.OUTPUTS`."""
    seed: int = 0
    """Of `z`: row i is drawn from (seed, i) alone."""
    batch: int = 128
    """Rows a call of the encoder."""
    share: tuple[int, int] = (1, 1)
    """This machine's I of N, counted from 1."""
    max_errors: int | None = None
    """Stop when more pictures fail."""
    picture_timeout: float = PICTURE_TIMEOUT
    """Seconds that one picture may take to decode."""
    overwrite: bool = False
    rows_per_shard: int = ROWS_PER_SHARD
    engine: str = "inline"
    """Of `jobs.engines.ENGINES`."""
    address: str | None = None
    """Of a cluster."""


def embed(
    source: Pictures | Arrays,
    bundle: Bundle,
    rule: PixelRule,
    out: "Place",
    options: EmbedOptions,
    report: Report,
    note: Note = no_note,
) -> Json:
    """Embeds every row of the source into a folder or an object store, or those of its shards that are missing.

    Returns the job's statistics, as its state keeps them, see `jobs.folder`.

    Raises:
        OutputError: the folder cannot be used or holds another job, or `max_errors` is passed.
        SourceError: the pictures do not fit the model, those of finished shards have changed, or a decoder crashed.
        BundleError: the encoder cannot be run.
    """
    refuse_other_shape(source, rule)
    engine = engines.chosen(EngineOptions(options.engine, options.workers, options.address, note))
    begun = time.perf_counter()
    spec = _spec(source, bundle, rule, options)
    with open_job(out, spec.plan, RECORD, options.overwrite, note) as job:
        refuse_changed(job, source)
        missing = job.missing
        to_make = sum(map(len, missing))

        def progress(done: int, failed: int, /, **figures: float | str) -> None:
            report(done, to_make, errors=failed, **figures)
            if _too_many(failed, options):
                raise OutputError(
                    f"stopped: {failed:,} pictures failed, more than --max-errors {options.max_errors}; "
                    f"the finished shards in {out} say which"
                )

        def commit(shard: Shard, result: ShardResult) -> None:
            refuse_unseen(source, shard, result.record)
            job.commit(shard, result.files, result.record)

        if missing:
            engine(spec, missing, commit, progress, private=job.store.descriptors)
        if not job.finished:
            from vae_serve.results import tables

            tables.finish(job, spec.result)
        stats = _statistics(job, source, bundle, options.workers, to_make, time.perf_counter() - begun)
        if to_make or not (job.store.exists(STATS) or job.store.exists(SEALED)):
            job.finish(stats)
    return stats


def rows(
    source: Pictures | Arrays, bundle: Bundle, rule: PixelRule, options: EmbedOptions, report: Report
) -> "Generator[pa.RecordBatch, None, None]":
    """The rows that `embed` would write as Parquet, a record batch for each shard, in order; nothing is written.

    Memory is bounded, whatever the caller does between two batches. Closing it ends the decoding processes.

    Raises:
        SourceError: the pictures do not fit the model, a decoder crashed, or `max_errors` is passed.
        BundleError: the encoder cannot be run.
    """
    refuse_other_shape(source, rule)
    spec = _spec(source, bundle, rule, options)
    total = sum(map(len, spec.plan.shards))

    def progress(done: int, failed: int, /, **figures: float | str) -> None:
        report(done, total, errors=failed, **figures)
        if _too_many(failed, options):
            raise SourceError(f"stopped: {failed:,} pictures failed, more than --max-errors {options.max_errors}")

    with closing(inline.full_shards(spec, spec.plan.shards, progress, ahead=AHEAD)) as shards:
        for shard, pieces, work in shards:
            from vae_serve.results import tables

            assert isinstance(work, EmbedWork)  # noqa: S101  what an EmbedSpec starts
            yield tables.record_batch(work.columns(shard, pieces))


def _spec(source: Pictures | Arrays, bundle: Bundle, rule: PixelRule, options: EmbedOptions) -> EmbedSpec:
    manifest = bundle.manifest
    result = VectorResult(options.format, options.outputs, source.names.count, manifest.latent_dim, rule.shape)
    job = {
        "command": "embed",
        "model": {"name": manifest.name, "encoder_sha256": network_sha256(bundle, "encoder")},
        "source": source_json(source),
        "pixels": rule.to_json(),
        "format": options.format,
        "outputs": list(options.outputs),
        **({"seed": options.seed} if "z" in options.outputs else {}),
    }
    plan = Plan(
        job,
        source.names.count,
        results=result.files,
        rows_per_shard=options.rows_per_shard,
        share=options.share,
    )
    return EmbedSpec(
        opened_source(source),
        opened_bundle(bundle),
        rule,
        plan,
        options.workers,
        options.picture_timeout,
        result,
        options.seed,
        options.batch,
    )


def _too_many(failed: int, options: EmbedOptions) -> bool:
    return options.max_errors is not None and failed > options.max_errors


def _statistics(job: Job, source: Pictures | Arrays, bundle: Bundle, workers: int, made: int, seconds: float) -> Json:
    """Counts over all shards, and how fast this run was."""
    records = [job.records[shard.number] for shard in job.plan.shards]

    def summed(name: str) -> dict[str, Any]:
        total: Counter[str] = Counter()
        for record in records:
            total.update(record[name])
        return dict(total)

    stages: dict[str, float] = summed("seconds")
    return {
        "model": str(bundle.path),
        "images": sum(record["rows"] for record in records),
        "failed": sum(record["failed"] for record in records),
        "errors": summed("errors"),
        "notes": summed("notes"),
        "skipped": dict(source.skipped),
        "this_run": {"images": made, "seconds": seconds, "images_per_second": made / seconds},
        "seconds": stages,
        "limiting_stage": _limiting(stages, workers),
        "workers": workers,
    }


def _limiting(stages: dict[str, float], workers: int) -> str | None:
    """The stage that keeps its processes or threads busiest."""
    lanes = {"read": workers, "decode": workers, "infer": workers, "write": 1}
    return max(stages, key=lambda stage: stages[stage] / lanes.get(stage, 1), default=None)
