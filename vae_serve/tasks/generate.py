"""Pictures from latent points: the latent plane, samples of the prior, given points, the way between two pictures.

A picture shows one point or tiles several. All points are decoded in batches, on all cores; a file or folder appears
under its name when it is whole. A long job goes on where it was stopped, see `generate_shard`.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vae_serve.errors import ImageError, SourceError, UsageError
from vae_serve.images import pixels, png
from vae_serve.model import samplers
from vae_serve.model.bundle import Bundle
from vae_serve.model.model import Model
from vae_serve.model.samplers import Floats
from vae_serve.results import earlier
from vae_serve.sources import latents as latent_sources
from vae_serve.sources.latents import LatentSource
from vae_serve.storage.publish import Destination, publish_file
from vae_serve.tasks.generate_options import GenerateOptions, check, is_png
from vae_serve.tasks.rendering import Bytes, Tiling, render_one

# What many pictures need, `generate_shard`, is imported there: one is to be there at once.


@dataclass(frozen=True)
class Result:
    """What was written."""

    path: Path
    pictures: int
    points: int
    missing: tuple[int, ...] = ()  # rows of `latents` without a vector; their pictures are black


def generate(
    bundle: Bundle,
    options: GenerateOptions,
    report: Callable[..., None] = lambda *_, **__: None,
    note: Callable[[str], None] = lambda _: None,
) -> Result:
    """Decodes what is asked for. `report(done, total)` is told how many pictures are done.

    Raises:
        UsageError: the options make no sense, or not with this model.
        SourceError: the latents or the pictures to interpolate cannot be used.
        OutputError: `out` exists or cannot be written.
        BundleError: the bundle has no network that runs.
    """
    check(options, bundle)
    out = options.out or _default_name(options)
    points = _points(options, bundle)
    tiling = _tiling(options, points, out)
    whole = tiling.pictures(points)
    which, shares = options.share
    first, last = whole * (which - 1) // shares, whole * which // shares
    count = last - first
    if not count:
        raise UsageError(f"--shard {which}/{shares} of {whole:,} pictures is none; ask for at most {whole:,} shares")
    if shares > 1:
        points = points.share(first * tiling.points, min(last * tiling.points, points.count))
    if whole == 1 and is_png(out):
        destination = Destination(out, "a picture that generate wrote", earlier.is_picture, options.overwrite)
        picture = render_one(Model(bundle, threads=options.workers), points, tiling)
        contents = png.encode(_labelled(picture, options) if options.axes else picture)
        publish_file(destination, lambda file: file.write(contents))
    else:
        from vae_serve.jobs.engines import EngineOptions
        from vae_serve.results.picture_writer import Numbering
        from vae_serve.tasks.generate_shard import render_many

        numbering = Numbering(first, whole)
        engine = EngineOptions(options.engine, options.workers, options.address, note)
        render_many(bundle, points, tiling, out, options, report, numbering, engine)
    return Result(out, count, points.count, points.missing)


def _points(options: GenerateOptions, bundle: Bundle) -> LatentSource:
    d = bundle.manifest.latent_dim
    if options.count is not None:
        return latent_sources.from_prior(options.seed, options.count * (options.grid or 1) ** 2, d)
    if isinstance(options.latents, Path):
        return latent_sources.LatentFile(options.latents, d).open()
    if options.latents is not None:
        return latent_sources.from_array(options.latents)
    if options.interpolate is not None:
        start, stop = (_encoded(file, bundle) for file in options.interpolate)
        return latent_sources.from_array(samplers.line(start, stop, options.steps))
    return latent_sources.from_array(samplers.lift(samplers.lattice(_axis(options)), options.slice or (0, 1), d))


def _axis(options: GenerateOptions) -> Floats:
    side = options.grid or 1
    if options.quantiles:
        return samplers.quantile_axis(side)
    return samplers.linear_axis(side) if options.span is None else samplers.linear_axis(side, options.span)


def _encoded(file: Path, bundle: Bundle) -> Floats:
    """A picture's z_mean (d,)."""
    from vae_serve.images.decode import decode
    from vae_serve.sources.files import read_file

    rule = pixels.PixelRule.from_json(bundle.manifest.pixels)
    try:
        picture = decode(read_file(os.fsencode(file)), rule)
    except ImageError as error:
        raise SourceError(f"{file}: {error}") from error
    z_mean, _ = Model(bundle, threads=1).encode(picture.pixels[np.newaxis])
    return np.asarray(z_mean[0])


def _default_name(options: GenerateOptions) -> Path:
    grid = f"{options.grid}x{options.grid}"
    if options.interpolate is not None:
        return Path(f"{options.interpolate[0].stem}-to-{options.interpolate[1].stem}.png")
    part = "-part{}of{}".format(*options.share) if options.share != (1, 1) else ""
    if options.latents is not None:
        stem = options.latents.resolve().stem if isinstance(options.latents, Path) else "latents"
        return Path(f"{stem}-decoded{part}")
    if options.count is not None:
        return Path((f"sheets-{grid}-seed{options.seed}" if options.grid else f"samples-seed{options.seed}") + part)
    return Path(f"plane-{grid}.png")


def _tiling(options: GenerateOptions, points: LatentSource, out: Path) -> Tiling:
    """Planes and lines are one picture where a PNG file is asked for, else a picture for each point."""
    if options.interpolate is not None and is_png(out):
        return Tiling(points.count, options.steps)
    if options.grid is not None and (not options.plane or is_png(out)):
        return Tiling(options.grid**2, options.grid)
    return Tiling()


def _labelled(picture: Bytes, options: GenerateOptions) -> Bytes:
    from vae_serve.images import axes

    return axes.label(picture, [float(value) for value in _axis(options)], options.slice or (0, 1))
