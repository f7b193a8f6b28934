"""`vae_serve.embed`: pictures to latent vectors."""

from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, Any, Literal, overload

import msgspec

from vae_serve.api import arguments, engines, fresh_process, models, pictures
from vae_serve.api.arguments import StrPath
from vae_serve.api.engines import Engine
from vae_serve.api.progress import Note, Progress, no_note, no_progress
from vae_serve.api.record_batch import RecordBatch
from vae_serve.api.summaries import EmbedSummary, ThisRun
from vae_serve.errors import UsageError

if TYPE_CHECKING:
    from vae_serve.api.pictures import Begun, PictureSource
    from vae_serve.images.pixels import PixelRule
    from vae_serve.model.bundle import Bundle
    from vae_serve.model.model import Model
    from vae_serve.sources.arrays import Arrays
    from vae_serve.sources.files import Pictures
    from vae_serve.storage.object_url import Place
    from vae_serve.tasks.embed import EmbedOptions

Fit = Literal["stretch", "pad", "crop"]
Invert = Literal["no", "yes", "auto"]
ResultFormat = Literal["parquet", "npy", "csv", "projector"]
Output = Literal["z_mean", "z_log_var", "z"]

FITS, INVERTS, FORMATS = ("stretch", "pad", "crop"), ("no", "yes", "auto"), ("parquet", "npy", "csv", "projector")
OUTPUTS = ("z_mean", "z_log_var", "z")


@overload
def embed(
    source: "PictureSource",
    model: "Model | StrPath | None" = None,
    *,
    out: None = None,
    outputs: str | Iterable[Output] = ("z_mean", "z_log_var"),
    seed: int = 0,
    fit: Fit | None = None,
    invert: Invert | None = None,
    shard: tuple[int, int] = (1, 1),
    workers: int | None = None,
    batch: int = 128,
    rows_per_shard: int = 32_768,
    max_errors: int | None = None,
    picture_timeout: float = 30.0,
    engine: Engine | None = None,
    address: str | None = None,
    progress: Progress | None = None,
    note: Note | None = None,
) -> Generator[RecordBatch, None, None]: ...


@overload
def embed(
    source: "PictureSource",
    model: "Model | StrPath | None" = None,
    *,
    out: StrPath,
    format: ResultFormat = "parquet",
    outputs: str | Iterable[Output] = ("z_mean", "z_log_var"),
    seed: int = 0,
    fit: Fit | None = None,
    invert: Invert | None = None,
    shard: tuple[int, int] = (1, 1),
    workers: int | None = None,
    batch: int = 128,
    rows_per_shard: int = 32_768,
    max_errors: int | None = None,
    picture_timeout: float = 30.0,
    overwrite: bool = False,
    engine: Engine | None = None,
    address: str | None = None,
    progress: Progress | None = None,
    note: Note | None = None,
) -> EmbedSummary: ...


def embed(
    source: "PictureSource",
    model: "Model | StrPath | None" = None,
    *,
    out: StrPath | None = None,
    format: ResultFormat = "parquet",
    outputs: str | Iterable[Output] = ("z_mean", "z_log_var"),
    seed: int = 0,
    fit: Fit | None = None,
    invert: Invert | None = None,
    shard: tuple[int, int] = (1, 1),
    workers: int | None = None,
    batch: int = 128,
    rows_per_shard: int = 32_768,
    max_errors: int | None = None,
    picture_timeout: float = 30.0,
    overwrite: bool = False,
    engine: Engine | None = None,
    address: str | None = None,
    progress: Progress | None = None,
    note: Note | None = None,
) -> Generator[RecordBatch, None, None] | EmbedSummary:
    """Turns pictures into latent vectors: one row for each, in sorted order, with its label, size and any error.

    `source`: a word or path as `vae-serve embed` takes it (folder, picture, pattern, list, archive, array or table,
    `mnist`), or an array in memory, (n, H, W) or (n, H, W, C), uint8 0..255 or floats 0..1.
    `model`: a `Model`, the path of a bundle, or None for the model that comes with the package.

    Without `out`, an iterator of `pyarrow.RecordBatch` of up to `rows_per_shard` rows with the columns path, label,
    status, error, width, height and the `outputs` (lists of latent_dim float32; null where status is `failed`). Memory
    stays flat, whatever is done between two batches. Closing the iterator, or dropping it, ends the decoding processes.

    With `out`, the job of the command line: the result is written to this folder, or to this place in an object store
    (s3://, gs:// or az://, with the extra `remote`). An interrupted job is resumed by the same call, and what it came
    to is returned.

    `workers`: decoding processes, and threads that run the encoder; None is as many as there are cores. `fit`,
    `invert`: None is as in training. `shard`: (I, N), this machine's share. `max_errors`: stop when more pictures fail.
    `picture_timeout`: seconds; a picture that takes longer to decode fails. `engine`: where an `out`'s shards are made,
    `inline` (None), `processes` or `ray`, the Ray cluster at `address`; the bytes are the same. `progress` is told
    (rows done, rows in all, errors=...), `note` a line worth reading. All others as `vae-serve embed --help` says.

    Raises:
        UsageError, InputError: an argument makes no sense; says which, and what to give.
        SourceError: the pictures cannot be read at all, or do not fit the model; without `out` also: too many failed.
        BundleError: the model cannot be used.
        OutputError: `out` cannot be used or holds another job, or too many pictures failed.
    """
    for name, function in (("progress", progress), ("note", note)):
        arguments.callback(name, function)
    target = arguments.place_or_none("out", out)
    if target is None and (engine is not None or address is not None):
        raise UsageError("--engine and --address are for a result on disk: give out as well, or leave them out")
    if target is None and (format != "parquet" or overwrite):
        raise UsageError("--format and --overwrite are for a result on disk: give out as well, or leave them out")
    checked: dict[str, Any] = {
        "workers": arguments.workers(workers),
        "format": arguments.choice("format", format, FORMATS),
        "outputs": arguments.words("outputs", outputs, OUTPUTS),
        "seed": arguments.seed(seed),
        "batch": arguments.whole("batch", batch, 1),
        "share": arguments.share(shard),
        "max_errors": None if max_errors is None else arguments.whole("max_errors", max_errors, 0),
        "picture_timeout": arguments.picture_timeout(picture_timeout),
        "overwrite": arguments.flag("overwrite", overwrite),
        "engine": engines.decoding_engine(engine, source, target, models.place_of(model)),
        "address": engines.address(address),
        "rows_per_shard": arguments.whole("rows_per_shard", rows_per_shard, 1),
    }
    changed = {
        "fit": None if fit is None else arguments.choice("fit", fit, FITS),
        "invert": None if invert is None else arguments.choice("invert", invert, INVERTS),
    }
    if target is None:
        model = models.fetched(model)  # before it is asked whether this process may fork
    with engines.joining(checked["engine"], checked["address"]):
        begun = pictures.begin(source, () if target is None else (target,), job=target is not None)
        with begun.stopped_on_error():
            request = _request(begun, model, {name: value for name, value in changed.items() if value}, checked, target)
        told = progress or no_progress, note or no_note
        if target is None:
            return _iterate(request, *told)
        work = fresh_process.Work(_job, request)
        return fresh_process.result(fresh_process.steps(work, *told, fresh=begun.needs_fresh_process))


class _Request(msgspec.Struct, frozen=True):
    """A checked call. Picklable while its listing has not begun."""

    begun: "Begun"
    bundle: "Bundle"
    rule: "PixelRule"
    options: "EmbedOptions"
    out: "Place | None"


def _request(
    begun: "Begun",
    model: "Model | StrPath | None",
    changed: dict[str, Any],
    checked: dict[str, Any],
    out: "Place | None",
) -> _Request:
    from vae_serve.images.pixels import PixelRule
    from vae_serve.tasks.embed import EmbedOptions

    bundle = models.checked_bundle(model)
    begun.require_shape(bundle.manifest.image_shape)
    rule = msgspec.structs.replace(PixelRule.from_json(bundle.manifest.pixels), **changed)
    return _Request(begun, bundle, rule, EmbedOptions(**checked), out)


def _iterate(request: _Request, progress: Progress, note: Note) -> Generator[RecordBatch, None, None]:
    work = fresh_process.Work(_rows, request)
    yield from fresh_process.steps(work, progress, note, fresh=request.begun.needs_fresh_process)


def _opened(request: _Request, note: Note) -> "Pictures | Arrays":
    source = request.begun.open(note)
    note(f"model {request.bundle.path}, {source.names.count:,} pictures ({source.kind})")
    return source


def _rows(request: _Request, progress: Progress, note: Note) -> Generator[RecordBatch, None, None]:
    from vae_serve.tasks import embed as task

    yield from task.rows(_opened(request, note), request.bundle, request.rule, request.options, progress)


def _job(request: _Request, progress: Progress, note: Note) -> Generator[None, None, EmbedSummary]:
    from vae_serve.tasks import embed as task

    assert request.out is not None  # noqa: S101  `embed` sees to it
    stats = task.embed(
        _opened(request, note), request.bundle, request.rule, request.out, request.options, progress, note
    )
    yield from ()
    this_run = ThisRun(**stats.pop("this_run"))
    out, model = map(arguments.place_shown, (request.out, request.bundle.path))
    return EmbedSummary(out=out, **{**stats, "model": model, "this_run": this_run})
