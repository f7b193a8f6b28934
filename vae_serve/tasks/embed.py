"""Pictures to latent vectors: a source through the encoder into a folder of results.

Processes decode, threads run the encoder, the main thread writes full shards. onnxruntime and pyarrow are imported
where they are first needed: while they load, the processes are at work already.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import Empty
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vae_serve.errors import OutputError, SourceError
from vae_serve.images.pixels import PixelRule
from vae_serve.jobs import shards
from vae_serve.jobs.decode_pool import Decoders
from vae_serve.jobs.decoding import Chunk, decoded_here, sliced
from vae_serve.jobs.shards import Job, Json, Plan
from vae_serve.model import bundle as bundles
from vae_serve.model import samplers
from vae_serve.results.layout import Form, Layout
from vae_serve.sources.arrays import Arrays
from vae_serve.sources.files import Pictures
from vae_serve.sources.names import shown
from vae_serve.tasks.assembler import Gathered, Gathering

if TYPE_CHECKING:
    from vae_serve.model.model import Model

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Report = Callable[..., None]  # told (rows done, rows in all, errors=so many)

TASK_ROWS = 512  # rows that a process decodes before it answers
ARRAY_ROWS = 2048  # rows that a thread slices off an array at a time
TASK_MEMORY = 16 << 20  # bytes of pixels; large pictures come in smaller tasks
IN_PROCESS = 2  # tasks; up to as many are decoded here, without other processes
TICK = 0.1  # seconds between two reports


@dataclass(frozen=True)
class Options:
    """How to embed."""

    out: Path
    workers: int  # decoding processes, and threads that run the encoder
    form: Form = "parquet"
    outputs: tuple[str, ...] = ("z_mean", "z_log_var")  # of `layout.OUTPUTS`
    seed: int = 0  # of `z`: row i is drawn from (seed, i) alone
    batch: int = 128  # rows a call of the encoder
    part: tuple[int, int] = (1, 1)
    max_errors: int | None = None  # stop when more pictures fail
    overwrite: bool = False
    rows_per_shard: int = shards.ROWS_PER_SHARD


@dataclass(frozen=True)
class Work:
    """What to embed, with what, and how."""

    source: Pictures | Arrays
    bundle: bundles.Bundle
    rule: PixelRule
    options: Options
    layout: Layout


def embed(source: Pictures | Arrays, bundle: bundles.Bundle, rule: PixelRule, options: Options, report: Report) -> Json:
    """Embeds every row of the source, or those of its shards that are missing.

    Returns the job's statistics, as `_stats.json` has them.

    Raises:
        OutputError: the folder cannot be used or holds another job, or `max_errors` is passed.
        SourceError: the pictures do not fit the model, those of finished shards have changed, or a decoder crashed.
        BundleError: the encoder cannot be run.
    """
    if isinstance(source, Arrays) and source.shape != rule.shape:
        raise SourceError(f"{source.where} holds pictures of shape {source.shape}; the model takes {rule.shape}")
    begun = time.perf_counter()
    layout = Layout(options.form, options.outputs, source.names.count, bundle.manifest.latent_dim, rule.shape)
    work = Work(source, bundle, rule, options, layout)
    with shards.open_job(options.out, _plan(work), options.overwrite) as job:
        _refuse_changed(job, source)
        made = sum(shard.stop - shard.start for shard in job.missing)
        if made:
            _run(job, work, report)
        if not job.finished:
            from vae_serve.results import tables

            tables.finish(job, layout)
        stats = _statistics(job, work, made, time.perf_counter() - begun)
        if made or not (job.folder / shards.STATS).exists():
            job.put(shards.STATS, shards.as_json(stats))
    return stats


def _plan(work: Work) -> Plan:
    manifest, options = work.bundle.manifest, work.options
    encoder = next(
        (entry for entry in manifest.files if manifest.encoder and entry.path == manifest.encoder.file), None
    )
    job = {
        "command": "embed",
        "model": {"name": manifest.name, "encoder_sha256": encoder.sha256 if encoder else None},
        "source": {
            "kind": work.source.kind,
            "pictures": work.source.names.count,
            "fingerprint": work.source.fingerprint(),
        },
        "pixels": work.rule.to_json(),
        "format": options.form,
        "outputs": list(options.outputs),
        **({"seed": options.seed} if "z" in options.outputs else {}),
    }
    return Plan(
        job,
        work.source.names.count,
        results=work.layout.files,
        rows_per_shard=options.rows_per_shard,
        part=options.part,
    )


def _refuse_changed(job: Job, source: Pictures | Arrays) -> None:
    """A resumed job must not mix pictures of two days."""
    now = time.time_ns()
    for shard in job.plan.shards:
        record = job.records.get(shard.number)
        rows = range(shard.start, shard.stop)
        stamps = None if record is None or isinstance(source, Arrays) else source.stamps(rows)
        if record is None or stamps is None:
            continue
        found = np.array([*stamps], np.int64)
        changed_since = np.logical_and(found[:, 1] > record["begun_ns"], found[:, 1] <= now)
        if changed_since.any() or _sha256(found[:, 0]) != record["lengths_sha256"]:
            first, last = source.names[rows[:1]][0], source.names[rows[-1:]][0]
            raise OutputError(
                f"between {shown(first)} and {shown(last)} pictures have changed since {job.folder} was written; "
                "choose another --out, or --overwrite"
            )


def _sha256(lengths: npt.NDArray[np.int64]) -> str:
    return hashlib.sha256(np.ascontiguousarray(lengths).tobytes()).hexdigest()


def _run(job: Job, work: Work, report: Report) -> None:
    """Decodes, encodes and writes the missing shards."""
    begun = time.time_ns()
    missing = job.missing
    wanted = ARRAY_ROWS if isinstance(work.source, Arrays) else TASK_ROWS
    capacity = max(1, min(max(wanted, work.options.batch), TASK_MEMORY // int(np.prod(work.rule.shape))))
    tasks = Tasks(
        [
            range(start, min(start + capacity, shard.stop))
            for shard in missing
            for start in range(shard.start, shard.stop, capacity)
        ]
    )
    decoders = None
    if not isinstance(work.source, Arrays) and tasks.count > IN_PROCESS:
        workers = min(work.options.workers, tasks.count)
        decoders = Decoders(work.source, work.rule, tasks, workers=workers, capacity=capacity, private=(job.lock,))
    try:
        from vae_serve.model.model import Model

        model = Model(work.bundle, threads=1, batch=work.options.batch)
        gathering = Gathering(missing, work.layout)
        threads = [
            Thread(target=_lane, args=(chunks, model, gathering), daemon=True)
            for chunks in _lanes(work, tasks, decoders, capacity)
        ]
        for thread in threads:
            thread.start()

        from vae_serve.results import tables  # noqa: F401  loads pyarrow before the first shard is full

        for _ in missing:
            _write(job, work, _next_full(gathering, work.options, sum(map(len, tasks.rows)), report), begun)
        for thread in threads:
            thread.join()
        if decoders:
            decoders.join()
    except BaseException:
        if decoders:
            decoders.stop()
        raise


class Tasks:
    """Ranges of rows that several threads take from, in order."""

    def __init__(self, rows: list[range]) -> None:
        self.rows = rows
        self.count = len(rows)
        self._left = iter(rows)
        self._lock = Lock()

    def __iter__(self) -> Iterator[range]:
        return self

    def __next__(self) -> range:
        with self._lock:
            return next(self._left)


def _lanes(work: Work, tasks: Tasks, decoders: Decoders | None, capacity: int) -> list[Iterator[tuple[Chunk, Array]]]:
    """What each thread is to encode: chunks with their pixels (n, H, W, C)."""
    if isinstance(work.source, Arrays):
        return [sliced(work.source, work.rule, tasks, capacity) for _ in range(min(work.options.workers, tasks.count))]
    if decoders:
        return [decoders.follow(worker) for worker in range(decoders.count)]
    return [decoded_here(work.source, work.rule, tasks, capacity)]


def _lane(chunks: Iterator[tuple[Chunk, Array]], model: "Model", gathering: Gathering) -> None:
    """One thread's life. What goes wrong in it is raised by the main thread."""
    try:
        for chunk, pixels in chunks:
            begun = time.perf_counter()
            z_mean, z_log_var = model.encode(pixels, check=False)
            outputs = {"z_mean": z_mean, "z_log_var": z_log_var}
            gathering.add(chunk, pixels, outputs, time.perf_counter() - begun)
    except BaseException as error:  # noqa: BLE001  a thread has nobody to raise to
        gathering.full.put(error)


def _next_full(gathering: Gathering, options: Options, total: int, report: Report) -> Gathered:
    """Waits for a shard to be full, reporting the while."""
    while True:
        report(gathering.rows_done, total, errors=gathering.failed)
        if options.max_errors is not None and gathering.failed > options.max_errors:
            raise OutputError(
                f"stopped: {gathering.failed:,} pictures failed, more than --max-errors {options.max_errors}; "
                f"the finished shards in {options.out} say which"
            )
        try:
            found = gathering.full.get(timeout=TICK)
        except Empty:
            continue
        if isinstance(found, BaseException):
            raise found
        return found


def _write(job: Job, work: Work, full: Gathered, begun_ns: int) -> None:
    from vae_serve.results import tables, writers

    begun = time.perf_counter()
    rows = range(full.shard.start, full.shard.stop)
    if "z" in work.options.outputs:
        noise = samplers.draws(work.options.seed, rows.start, rows.stop, work.layout.latent_dim)
        full.outputs["z"] = full.outputs["z_mean"] + np.exp(full.outputs["z_log_var"] * np.float32(0.5)) * noise
    columns = tables.columns(
        tables.ShardRows(
            names=work.source.names.text(rows),
            labels=work.source.labels(rows),
            sizes=full.sizes,
            errors={row - rows.start: f"{why.kind}: {why.message}" for row, why in full.failures.items()},
            vectors={name: full.outputs[name] for name in work.options.outputs},
            pixels=full.pixels,
        )
    )
    record = {
        "rows": len(rows),
        "failed": len(full.failures),
        "errors": dict(sorted(Counter(why.kind for why in full.failures.values()).items())),
        "notes": dict(sorted(full.notes.items())),
        "begun_ns": begun_ns,
        "lengths_sha256": _sha256(full.lengths),
        "seconds": {**full.seconds, "write": time.perf_counter() - begun},
    }
    job.commit(full.shard, lambda file: writers.write_parquet(file, columns), record)


def _statistics(job: Job, work: Work, made: int, seconds: float) -> Json:
    """Counts over all shards, and how fast this run was."""
    records = [job.records[shard.number] for shard in job.plan.shards]

    def summed(name: str) -> dict[str, Any]:
        total: Counter[str] = Counter()
        for record in records:
            total.update(record[name])
        return dict(total)

    stages: dict[str, float] = summed("seconds")
    return {
        "model": str(work.bundle.path),
        "images": sum(record["rows"] for record in records),
        "failed": sum(record["failed"] for record in records),
        "errors": summed("errors"),
        "notes": summed("notes"),
        "skipped": dict(work.source.skipped),
        "this_run": {"images": made, "seconds": seconds, "images_per_second": made / seconds},
        "seconds": stages,
        "limiting_stage": _limiting(stages, work.options.workers),
        "workers": work.options.workers,
    }


def _limiting(stages: dict[str, float], workers: int) -> str | None:
    """The stage that keeps its processes or threads busiest."""
    lanes = {"read": workers, "decode": workers, "infer": workers, "write": 1}
    return max(stages, key=lambda stage: stages[stage] / lanes[stage], default=None)
