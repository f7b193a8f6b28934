"""`vae_serve.generate`: latent points to picture files."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vae_serve.api import arguments, engines, models
from vae_serve.api.arguments import StrPath
from vae_serve.api.engines import Engine
from vae_serve.api.progress import Note, Progress, no_note, no_progress
from vae_serve.api.summaries import GenerateSummary
from vae_serve.errors import InputError, UsageError

if TYPE_CHECKING:
    import numpy.typing as npt

    from vae_serve.model.model import Model
    from vae_serve.tasks.generate import Result

_HOW = ("overwrite", "workers", "engine", "address")  # options that change no byte


def generate(
    model: "Model | StrPath | None" = None,
    *,
    grid: int | None = None,
    count: int | None = None,
    seed: int = 0,
    latents: "StrPath | npt.ArrayLike | None" = None,
    interpolate: tuple[StrPath, StrPath] | None = None,
    steps: int = 10,
    span: float | None = None,
    quantiles: bool = False,
    slice: tuple[int, int] | None = None,
    axes: bool = False,
    shard: tuple[int, int] = (1, 1),
    out: StrPath | None = None,
    overwrite: bool = False,
    workers: int | None = None,
    rows_per_shard: int | None = None,
    engine: Engine | None = None,
    address: str | None = None,
    progress: Progress | None = None,
    note: Note | None = None,
) -> GenerateSummary:
    """Draws pictures from the latent space into a file or folder. For arrays see `Model.sample` and `Model.decode`.

    `model`: a `Model`, the path of a bundle, or None for the model that comes with the package.

    What is drawn is said by one of: `grid` alone, the latent plane as grid x grid pictures from -4 to 4 (or `span`),
    the first dimension to the right, the second upwards; `count` samples of the prior, sample i depending on `seed` and
    i alone; `latents`, an array (n, latent_dim) of finite numbers, a file of such points or an `embed` result;
    `interpolate`, the straight line between two picture files' z_mean in `steps` pictures. With `count` or `latents`,
    `grid` tiles so many together.

    `out`: NAME.png, .npy, .npz, .zip, .parquet, or a folder of PNG files; a file's name may be a URL, such as
    s3://BUCKET/NAME.zip: it is made on this machine, then stored. None is a name that says what it is. A long
    job is continued by the same call, on the same machine. `rows_per_shard`: pictures that are made and kept as one;
    None is 32 MiB of them. `engine`, `address`: as in `embed`. `progress` is told (pictures done, pictures in all). All
    others as `vae-serve generate --help` says.

    Raises:
        UsageError, InputError: the arguments make no sense, or not with this model.
        SourceError: the latents or the pictures to interpolate cannot be used.
        BundleError: the model cannot be used.
        OutputError: `out` exists or cannot be written.
    """
    for name, function in (("progress", progress), ("note", note)):
        arguments.callback(name, function)
    target = arguments.place_or_none("out", out)
    line: Any = None
    if interpolate is not None:
        if not isinstance(interpolate, tuple | list) or len(interpolate) != 2:
            raise UsageError(f"--interpolate {interpolate!r:.100}: give the paths of two pictures")
        line = tuple(arguments.path("interpolate", picture) for picture in interpolate)
    checked: dict[str, Any] = {
        "grid": None if grid is None else arguments.whole("grid", grid, -(1 << 62)),
        "count": None if count is None else arguments.whole("count", count, -(1 << 62), 1 << 62),
        "seed": arguments.seed(seed),
        "interpolate": line,
        "steps": arguments.whole("steps", steps, -(1 << 62)),
        "span": None if span is None else arguments.number("span", span),
        "quantiles": arguments.flag("quantiles", quantiles),
        "slice": None if slice is None else arguments.pair("slice", slice, "give two dimensions, such as (0, 1)"),
        "axes": arguments.flag("axes", axes),
        "overwrite": arguments.flag("overwrite", overwrite),
        "workers": arguments.workers(workers),
        "share": arguments.share(shard),
        "rows_per_shard": None if rows_per_shard is None else arguments.whole("rows_per_shard", rows_per_shard, 1),
        "engine": engines.engine(engine, latents, out, models.place_of(model)),
        "address": engines.address(address),
    }
    with engines.joining(checked["engine"], checked["address"]):
        from vae_serve.tasks.generate import generate as task
        from vae_serve.tasks.generate_options import GenerateOptions

        bundle = models.checked_bundle(model)
        points = _latents(latents, bundle.manifest.latent_dim)

        def made(file: Path | None) -> "Result":
            return task(
                bundle, GenerateOptions(latents=points, out=file, **checked), progress or no_progress, note or no_note
            )

        if target is None or isinstance(target, Path):
            done = made(target)
        else:
            from vae_serve.tasks.bundle_folder import network_sha256
            from vae_serve.tasks.uploaded import uploaded

            what = {name: value for name, value in checked.items() if name not in _HOW}
            job = network_sha256(bundle, "decoder"), points if isinstance(points, Path) else None, what
            with uploaded(target, checked["overwrite"], job) as file:
                done = made(file)
    where = done.path if target is None else arguments.place_shown(target)
    return GenerateSummary(arguments.place_shown(bundle.path), where, done.pictures, done.points, done.missing)


def _latents(latents: "StrPath | npt.ArrayLike | None", latent_dim: int) -> Any:
    if latents is None:
        return None
    if isinstance(latents, str | os.PathLike):
        return arguments.path("latents", latents)
    from vae_serve.model.arguments import checked_points

    points = arguments.array("latents", latents, lambda: f"a path, or an array (n, {latent_dim}) of numbers")
    checked = checked_points(points, latent_dim, "latents")
    if not len(checked):
        raise InputError("latents holds no points; give at least one")
    return checked
