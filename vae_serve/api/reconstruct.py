"""`vae_serve.reconstruct`: pictures beside their reconstructions."""

import os
import re
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vae_serve.api import arguments, engines, fresh_process, models, pictures
from vae_serve.api.arguments import StrPath
from vae_serve.api.engines import Engine
from vae_serve.api.progress import Note, Progress, no_note, no_progress
from vae_serve.api.summaries import ReconstructSummary, Worst

if TYPE_CHECKING:
    from vae_serve.api.pictures import Begun, PictureSource
    from vae_serve.model.bundle import Bundle
    from vae_serve.model.model import Model
    from vae_serve.tasks.reconstruct import ReconstructOptions

_WILDCARD = re.compile(r"[*?\[\]]")


def reconstruct(
    source: "PictureSource",
    model: "Model | StrPath | None" = None,
    *,
    out: StrPath | None = None,
    workers: int | None = None,
    picture_timeout: float = 30.0,
    overwrite: bool = False,
    engine: Engine | None = None,
    address: str | None = None,
    progress: Progress | None = None,
    note: Note | None = None,
) -> ReconstructSummary:
    """Puts pictures beside what the model makes of them: sheets to look at, and a table with the error of each.

    `source`, `model`, `workers`, `picture_timeout`, `engine`, `address`, `progress` and `note` as `embed` has them.
    `out`: the folder to write to; by default the source's name with `-reconstructed`. An interrupted job is resumed by
    the same call.

    The errors are those of the reconstruction from z_mean: mse over pixels 0..1, and the negative log likelihood of the
    picture in nats (Bernoulli cross-entropy summed over pixels), the first term of the training's loss.

    Raises:
        UsageError, InputError: an argument makes no sense; says which, and what to give.
        SourceError: the pictures cannot be read at all, or do not fit the model.
        BundleError: the model cannot be used.
        OutputError: `out` exists, holds another job, or cannot be written.
    """
    for name, function in (("progress", progress), ("note", note)):
        arguments.callback(name, function)
    target = Path(default_name(source)) if out is None else arguments.path("out", out)
    threads, seconds = arguments.workers(workers), arguments.picture_timeout(picture_timeout)
    arguments.flag("overwrite", overwrite)
    name, cluster = engines.decoding_engine(engine, source, target, models.place_of(model)), engines.address(address)
    own = (target, target.with_name(f"{target.name}.partial")) if target.name else (target,)
    with engines.joining(name, cluster):
        begun = pictures.begin(source, own, job=True)
        with begun.stopped_on_error():
            from vae_serve.tasks.reconstruct import ReconstructOptions

            options = ReconstructOptions(target, threads, seconds, overwrite, name, cluster)
            bundle = models.checked_bundle(model)
            begun.require_shape(bundle.manifest.image_shape)
            request = _Request(begun, bundle, options)
        work = fresh_process.Work(_job, request)
        fresh = begun.needs_fresh_process
        return fresh_process.result(fresh_process.steps(work, progress or no_progress, note or no_note, fresh=fresh))


@dataclass(frozen=True)
class _Request:
    """A checked call. Picklable while its listing has not begun."""

    begun: "Begun"
    bundle: "Bundle"
    options: "ReconstructOptions"


def _job(request: _Request, progress: Progress, note: Note) -> Generator[None, None, ReconstructSummary]:
    from vae_serve.images.pixels import PixelRule
    from vae_serve.tasks import reconstruct as task

    yield from ()
    bundle = request.bundle
    rule = PixelRule.from_json(bundle.manifest.pixels)
    fields = task.reconstruct(request.begun.open(note), bundle, rule, request.options, progress, note)
    worst = fields.pop("worst")
    return ReconstructSummary(model=arguments.place_shown(bundle.path), worst=worst and Worst(**worst), **fields)


def default_name(source: "PictureSource") -> str:
    """photos -> photos-reconstructed; of a pattern, the name of the folder before its first wildcard."""
    if not isinstance(source, str | os.PathLike):
        return "array-reconstructed"
    word = arguments.word_or_path(source)
    path = Path(word)
    if word == "-":
        return "list-reconstructed"
    if not path.exists() and _WILDCARD.search(word):
        before = next(number for number, part in enumerate(path.parts) if _WILDCARD.search(part))
        path = Path(*path.parts[:before])
    path = path.resolve()
    name = path.name if path.is_dir() else path.stem
    return f"{_WILDCARD.sub('_', name) or 'pictures'}-reconstructed"
