"""Pictures to latent vectors: a source through the encoder into a folder of results."""

import hashlib
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vae_serve import bundle as bundles
from vae_serve import latents
from vae_serve.batch import shards
from vae_serve.batch.decoding import Chunk, Decoders, Failure, Slot, decode_rows
from vae_serve.batch.shards import Job, Json, Plan, Shard
from vae_serve.errors import OutputError
from vae_serve.images.pixels import PixelRule, to_model
from vae_serve.images.sources import Files, shown

if TYPE_CHECKING:
    from vae_serve.batch.runtime import Network

# onnxruntime and pyarrow are imported where they are first needed: while they load, the decoders are at work already.

Floats = npt.NDArray[np.float32]
Report = Callable[..., None]  # told (rows done, rows in all, errors=so many)

CHUNK = 128  # rows a task: what one process decodes before it reports
IN_PROCESS = 2  # tasks; up to as many are decoded here, without other processes


@dataclass(frozen=True)
class Options:
    """How to embed."""

    out: Path
    workers: int  # decoding processes, and threads that run the encoder
    outputs: tuple[str, ...] = ("z_mean", "z_log_var")  # of z_mean, z_log_var, z
    seed: int = 0  # of `z`: row i is drawn from (seed, i) alone
    batch: int = 128  # rows a call of the encoder
    part: tuple[int, int] = (1, 1)
    max_errors: int | None = None  # stop when more pictures fail
    overwrite: bool = False
    rows_per_shard: int = shards.ROWS_PER_SHARD


@dataclass
class Rows:
    """The rows of one shard while they are gathered, in whatever order the chunks come."""

    shard: Shard
    outputs: dict[str, Floats]  # each (n, d)
    sizes: npt.NDArray[np.int64]  # (n, 2) width, height
    stamps: npt.NDArray[np.int64]  # (n, 2)
    waiting: int  # rows yet to come
    failures: dict[int, Failure] = field(default_factory=dict)  # by row of the job
    notes: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)  # by stage


class Gathering:
    """Puts the threads' chunks together into shards. Threads share it."""

    def __init__(self, latent_dim: int) -> None:
        self.ready: queue.SimpleQueue[Rows | BaseException] = queue.SimpleQueue()
        self.rows_done = 0
        self._latent_dim = latent_dim
        self._open: dict[int, Rows] = {}
        self._lock = threading.Lock()

    def add(self, shard: Shard, chunk: Chunk, slot: Slot, outputs: dict[str, Floats], infer_seconds: float) -> None:
        """One chunk's results."""
        count = len(chunk.rows)
        at = slice(chunk.rows.start - shard.start, chunk.rows.stop - shard.start)
        with self._lock:
            rows = self._open.get(shard.number) or self._start(shard)
            rows.failures.update(chunk.failures)
            rows.notes.update(chunk.notes)
            for stage, seconds in (
                ("read", chunk.read_seconds),
                ("decode", chunk.decode_seconds),
                ("infer", infer_seconds),
            ):
                rows.seconds[stage] = rows.seconds.get(stage, 0.0) + seconds
            for name, values in outputs.items():
                rows.outputs[name][at] = values
            rows.sizes[at] = slot.sizes[:count]
            rows.stamps[at] = slot.stamps[:count]
            rows.waiting -= count
            self.rows_done += count
            if not rows.waiting:
                self.ready.put(self._open.pop(shard.number))

    def _start(self, shard: Shard) -> Rows:
        count = shard.stop - shard.start
        rows = self._open[shard.number] = Rows(
            shard,
            {name: np.empty((count, self._latent_dim), np.float32) for name in ("z_mean", "z_log_var")},
            np.empty((count, 2), np.int64),
            np.empty((count, 2), np.int64),
            count,
        )
        return rows


def embed(source: Files, bundle: bundles.Bundle, rule: PixelRule, options: Options, report: Report) -> Json:
    """Embeds every row of the source, or those of its shards that are missing.

    Returns the job's statistics, as `_stats.json` has them.

    Raises:
        OutputError: the folder cannot be used or holds another job, or `max_errors` is passed.
        SourceError: pictures of finished shards have changed, or a decoder crashed.
        BundleError: the encoder cannot be run.
    """
    plan = _plan(source, bundle, rule, options)
    with shards.open_job(options.out, plan, options.overwrite) as job:
        _refuse_changed(job, source)
        begun = time.perf_counter()
        made = sum(shard.stop - shard.start for shard in job.missing)
        if made:
            _run(job, source, bundle, rule=rule, options=options, report=report)
        stats = _statistics(job, source, options, made, time.perf_counter() - begun)
        if made or not (job.folder / shards.STATS).exists():
            job.put(shards.STATS, shards.as_json(stats))
    return stats


def _plan(source: Files, bundle: bundles.Bundle, rule: PixelRule, options: Options) -> Plan:
    manifest = bundle.manifest
    encoder = next(entry for entry in manifest.files if manifest.encoder and entry.path == manifest.encoder.file)
    job = {
        "command": "embed",
        "model": {"name": manifest.name, "encoder_sha256": encoder.sha256},
        "source": {"pictures": source.count, "names_sha256": source.names.fingerprint()},
        "pixels": rule.to_json(),
        "outputs": list(options.outputs),
        **({"seed": options.seed} if "z" in options.outputs else {}),
    }
    return Plan(job, source.count, rows_per_shard=options.rows_per_shard, part=options.part)


def _refuse_changed(job: Job, source: Files) -> None:
    """A resumed job must not mix pictures of two days."""
    for shard in job.plan.shards:
        record = job.records.get(shard.number)
        if record is None:
            continue
        rows = range(shard.start, shard.stop)
        if record["read_sha256"] != _fingerprint(np.array([*source.stamps(rows)], np.int64)):
            first, last = source.names[rows[:1]][0], source.names[rows[-1:]][0]
            raise OutputError(
                f"between {shown(first)} and {shown(last)} pictures have changed since {job.folder} was written; "
                "choose another --out, or --overwrite"
            )


def _fingerprint(stamps: npt.NDArray[np.int64]) -> str:
    return hashlib.sha256(np.ascontiguousarray(stamps).tobytes()).hexdigest()


def _run(job: Job, source: Files, bundle: bundles.Bundle, *, rule: PixelRule, options: Options, report: Report) -> None:
    """Decodes, encodes and writes the missing shards."""
    missing = job.missing
    tasks = [
        range(start, min(start + CHUNK, shard.stop))
        for shard in missing
        for start in range(shard.start, shard.stop, CHUNK)
    ]
    total = sum(shard.stop - shard.start for shard in missing)
    workers = min(options.workers, len(tasks))
    decoders = Decoders(source, rule, tasks, workers, CHUNK) if len(tasks) > IN_PROCESS else None

    from vae_serve.batch import runtime

    encoder = runtime.open_encoder(bundle)
    gathering = Gathering(bundle.manifest.latent_dim)

    def lane(chunks: Iterator[tuple[Chunk, Slot]]) -> None:
        try:
            for done, slot in chunks:
                begun = time.perf_counter()
                outputs = _encode(encoder, slot.pixels[: len(done.rows)], options.batch)
                shard = _shard_of(missing, done.rows)
                gathering.add(shard, done, slot, outputs, time.perf_counter() - begun)
        except BaseException as error:  # noqa: BLE001  carried over to the main thread, which raises it
            gathering.ready.put(error)

    lanes: Sequence[Iterator[tuple[Chunk, Slot]]]
    lanes = [decoders.follow(worker) for worker in range(workers)] if decoders else [_decoded_here(source, rule, tasks)]
    threads = [threading.Thread(target=lane, args=(one,), daemon=True) for one in lanes]
    for thread in threads:
        thread.start()
    try:
        failed = 0
        for _ in missing:
            rows = gathering.ready.get()
            if isinstance(rows, BaseException):
                raise rows
            failed += len(rows.failures)
            _write(job, source, rows, options)
            report(gathering.rows_done, total, errors=failed)
            _refuse_more(options, failed, rows)
    finally:
        if decoders:
            decoders.close()
    for thread in threads:
        thread.join()


def _refuse_more(options: Options, failed: int, rows: Rows) -> None:
    if options.max_errors is not None and failed > options.max_errors:
        last = rows.failures[max(rows.failures)] if rows.failures else None
        raise OutputError(
            f"stopped: {failed:,} pictures failed, more than --max-errors {options.max_errors}"
            + (f"; the last one: {last.message}" if last else "")
        )


def _decoded_here(source: Files, rule: PixelRule, tasks: list[range]) -> Iterator[tuple[Chunk, Slot]]:
    slot = Slot(memoryview(bytearray(Slot.bytes_for(CHUNK, rule.shape))), CHUNK, rule.shape)
    busy = np.zeros(1, np.int64)
    for rows in tasks:
        yield decode_rows(source, rule, rows, slot, busy), slot


def _shard_of(missing: list[Shard], rows: range) -> Shard:
    return next(shard for shard in missing if shard.start <= rows.start < shard.stop)


def _encode(encoder: "Network", pixels: npt.NDArray[np.uint8], batch: int) -> dict[str, Floats]:
    from vae_serve.batch.runtime import in_batches

    names = [output.name for output in encoder.spec.outputs]
    return dict(zip(names, in_batches(encoder, to_model(pixels), batch), strict=True))


def _write(job: Job, source: Files, rows: Rows, options: Options) -> None:
    from vae_serve.batch import writers

    begun = time.perf_counter()
    every = range(rows.shard.start, rows.shard.stop)
    given = np.ones(len(every), bool)
    errors: list[str | None] = [None] * len(every)
    for row, failure in rows.failures.items():
        given[row - rows.shard.start] = False
        errors[row - rows.shard.start] = f"{failure.kind}: {failure.message}"
    if "z" in options.outputs:
        noise = latents.draws(options.seed, every.start, every.stop, rows.outputs["z_mean"].shape[1])
        rows.outputs["z"] = rows.outputs["z_mean"] + np.exp(rows.outputs["z_log_var"] * np.float32(0.5)) * noise
    columns: dict[str, Any] = {
        "path": writers.texts([shown(name) for name in source.names[every]]),
        "label": writers.texts(source.labels(every)),
        "status": writers.texts(["ok" if one else "failed" for one in given]),
        "error": writers.texts(errors),
        "width": writers.numbers(rows.sizes[:, 0], given),
        "height": writers.numbers(rows.sizes[:, 1], given),
        **{name: writers.vectors(rows.outputs[name], given) for name in options.outputs},
    }
    record = {
        "rows": len(every),
        "failed": len(rows.failures),
        "errors": dict(sorted(Counter(failure.kind for failure in rows.failures.values()).items())),
        "notes": dict(sorted(rows.notes.items())),
        "read_sha256": _fingerprint(rows.stamps),
        "seconds": {**rows.seconds, "write": time.perf_counter() - begun},
    }
    job.commit(rows.shard, lambda file: writers.write_parquet(file, columns), record)


def _statistics(job: Job, source: Files, options: Options, made: int, seconds: float) -> Json:
    """Counts over the whole part, and how fast this run was."""
    records = [job.records[shard.number] for shard in job.plan.shards]

    def summed(name: str) -> dict[str, Any]:
        return dict(sum((Counter(record[name]) for record in records), Counter()))

    stages: dict[str, float] = summed("seconds")
    return {
        "images": sum(record["rows"] for record in records),
        "failed": sum(record["failed"] for record in records),
        "errors": summed("errors"),
        "notes": summed("notes"),
        "skipped": dict(source.skipped),
        "this_run": {"images": made, "seconds": seconds, "images_per_second": made / seconds if made else 0.0},
        "seconds": stages,
        "limiting_stage": _limiting(stages, options.workers),
        "workers": options.workers,
    }


def _limiting(stages: dict[str, float], workers: int) -> str | None:
    """The stage that keeps its processes or threads busiest."""
    lanes = {"read": workers, "decode": workers, "infer": workers, "write": 1}
    return max(stages, key=lambda stage: stages[stage] / lanes[stage], default=None)
