"""Pictures from latent points: the latent plane, drawn samples, given points, the way from one picture to another.

A picture shows one point or tiles several. All points are decoded in batches, on all cores; a file or folder appears
under its name when it is whole. A long job goes on where it was stopped: what is made so far waits in OUT.partial.
"""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vae_serve.errors import ImageError, SourceError, UsageError
from vae_serve.images import pixels, png
from vae_serve.model import samplers
from vae_serve.model.bundle import Bundle
from vae_serve.model.runtime import open_decoder
from vae_serve.model.samplers import Floats
from vae_serve.sources import latents as latent_sources
from vae_serve.sources.latents import LatentSource
from vae_serve.tasks import drawing
from vae_serve.tasks.drawing import Tiling


@dataclass(frozen=True)
class Wish:
    """What to draw: a plane (grid alone), draws (count), given points (latents) or a line (interpolate)."""

    grid: int | None = None  # pictures along a side
    count: int | None = None  # drawn pictures; sheets of grid x grid where there is a grid
    seed: int = 0  # of the drawn ones
    latents: Path | None = None  # a file of points
    interpolate: tuple[Path, Path] | None = None  # two pictures
    steps: int = 10  # of the line, both ends included
    span: float | None = None  # the plane reaches from -span to span; None: 4
    quantiles: bool = False  # the plane in equal steps of the prior's probability
    slice: tuple[int, int] | None = None  # the plane's two dimensions; None: 0 and 1 of two
    axes: bool = False  # the plane's coordinates at the picture's edge
    out: Path | None = None  # None: a name that says what it is
    overwrite: bool = False
    workers: int = 1  # decoding threads
    part: tuple[int, int] = (1, 1)  # of the pictures: this machine's i of N, counted from 1

    @property
    def plane(self) -> bool:
        """Whether it is the latent plane that is wished for."""
        return self.count is None and self.latents is None and self.interpolate is None


@dataclass(frozen=True)
class Result:
    """What was written."""

    path: Path
    pictures: int
    points: int
    missing: tuple[int, ...] = ()  # rows of `latents` without a vector; their pictures are black


def generate(bundle: Bundle, wish: Wish, report: Callable[..., None] = lambda *_, **__: None) -> Result:
    """Draws what is wished for. `report(done, total)` is told how many pictures are done.

    Raises:
        UsageError: the wish makes no sense, or not with this model.
        SourceError: the latents or the pictures to interpolate cannot be used.
        OutputError: `out` exists or cannot be written.
        BundleError: the bundle has no network that runs.
    """
    check(wish, bundle)
    out = wish.out or _default_name(wish)
    points = _points(wish, bundle)
    tiling = _tiling(wish, points, out)
    whole = tiling.pictures(points)
    which, parts = wish.part
    first, last = whole * (which - 1) // parts, whole * which // parts
    count = last - first
    if not count:
        raise UsageError(f"--shard {which}/{parts} of {whole:,} pictures is none; ask for at most {whole:,} parts")
    if parts > 1:
        points = points.part(first * tiling.points, min(last * tiling.points, points.count))
    if whole == 1 and _is_png(out):
        drawing.refuse_existing(out, wish.overwrite)
        picture = drawing.draw_one(open_decoder(bundle), points, tiling, wish.workers)
        drawing.write_file(out, png.encode(_labelled(picture, wish) if wish.axes else picture))
    else:
        from vae_serve.results.pictures import Numbering

        numbering = Numbering(first, whole)
        drawing.draw_many(bundle, points, tiling, out, wish.overwrite, wish.workers, report, numbering)
    return Result(out, count, points.count, points.missing)


def check(wish: Wish, bundle: Bundle) -> None:
    """Raises UsageError where the wish makes no sense, or not with this model."""
    asked = [
        name
        for name, value in (("--count", wish.count), ("--latents", wish.latents), ("--interpolate", wish.interpolate))
        if value is not None
    ]
    if len(asked) > 1:
        raise UsageError(f"{' and '.join(asked)} do not go together; ask for one of them")
    if not asked and wish.grid is None:
        raise UsageError("say what to draw: --grid 15 for the latent plane, --count 100 for drawn pictures, ...")
    if wish.count is not None and wish.count < 1:
        raise UsageError(f"--count {wish.count} draws nothing; give 1 or more")
    if not 0 <= wish.seed < 1 << 64:
        raise UsageError(f"--seed {wish.seed} is not in 0..2^64-1")
    if wish.workers < 1:
        raise UsageError(f"--workers {wish.workers}: give 1 or more")
    if wish.grid is not None:
        _check_grid(wish, wish.grid, bundle)
    if wish.interpolate is not None:
        _check_line(wish, bundle)
    if wish.part != (1, 1) and wish.count is None and wish.latents is None:
        raise UsageError("--shard is for many pictures: --count or --latents")
    _check_plane(wish, bundle)


def _check_grid(wish: Wish, grid: int, bundle: Bundle) -> None:
    if grid < 1:
        raise UsageError(f"--grid {grid} draws nothing; give 1 or more")
    if wish.interpolate is not None:
        raise UsageError("--grid and --interpolate do not go together; --steps says how many pictures the line has")
    height, width, _ = bundle.manifest.image_shape
    most = math.isqrt(png.LARGEST // (height * width))
    if grid > most:
        raise UsageError(
            f"--grid {grid} would be a picture of {grid * width:,} x {grid * height:,} pixels; "
            f"the most for this model is --grid {most}"
        )


def _check_line(wish: Wish, bundle: Bundle) -> None:
    height, width, _ = bundle.manifest.image_shape
    most = png.LARGEST // (height * width)
    if not 2 <= wish.steps <= most:
        raise UsageError(f"--steps {wish.steps}: a line has 2 to {most:,} steps, its ends included")


def _check_plane(wish: Wish, bundle: Bundle) -> None:
    given = {"--span": wish.span, "--quantiles": wish.quantiles, "--slice": wish.slice, "--axes": wish.axes}
    options = [name for name, value in given.items() if value not in (None, False)]
    if not wish.plane:
        if options:
            raise UsageError(f"{options[0]} is for the latent plane: --grid without --count, --latents, --interpolate")
        return
    if wish.span is not None and not 0 < wish.span < math.inf:
        raise UsageError(f"--span {wish.span}: give a number above 0, such as 4")
    if wish.span is not None and wish.quantiles:
        raise UsageError("--span and --quantiles do not go together; the quantiles reach as far as the grid asks for")
    if wish.axes and wish.out is not None and not _is_png(wish.out):
        raise UsageError(f"--axes is for one picture; {wish.out} is no .png")
    d = bundle.manifest.latent_dim
    if wish.slice is None and d != 2:
        raise UsageError(
            f"the latent space of {bundle.path} has {d} dimensions, and --grid alone draws a plane of 2; "
            + ("choose two of them, such as --slice 0,1, or draw samples: --count 100" if d > 2 else "use --count 100")
        )
    if wish.slice is not None and (wish.slice[0] == wish.slice[1] or not all(0 <= at < d for at in wish.slice)):
        raise UsageError(f"--slice {wish.slice[0]},{wish.slice[1]}: give two different ones of 0..{d - 1}")


def _points(wish: Wish, bundle: Bundle) -> LatentSource:
    d = bundle.manifest.latent_dim
    if wish.count is not None:
        return latent_sources.from_prior(wish.seed, wish.count * (wish.grid or 1) ** 2, d)
    if wish.latents is not None:
        return latent_sources.LatentFile(wish.latents, d).open()
    if wish.interpolate is not None:
        start, stop = (_encoded(file, bundle) for file in wish.interpolate)
        return latent_sources.from_array(samplers.line(start, stop, wish.steps))
    return latent_sources.from_array(samplers.lift(samplers.lattice(_axis(wish)), wish.slice or (0, 1), d))


def _axis(wish: Wish) -> Floats:
    side = wish.grid or 1
    if wish.quantiles:
        return samplers.quantile_axis(side)
    return samplers.linear_axis(side) if wish.span is None else samplers.linear_axis(side, wish.span)


def _encoded(file: Path, bundle: Bundle) -> Floats:
    """A picture's z_mean (d,)."""
    from vae_serve.images.decode import decode
    from vae_serve.model.runtime import open_encoder
    from vae_serve.sources.files import read_file

    rule = pixels.PixelRule.from_json(bundle.manifest.pixels)
    try:
        picture = decode(read_file(os.fsencode(file)), rule)
    except ImageError as error:
        raise SourceError(f"{file}: {error}") from error
    z_mean: Floats = open_encoder(bundle, of_bytes=True)(picture.pixels[np.newaxis])[0][0]
    return z_mean


def _default_name(wish: Wish) -> Path:
    grid = f"{wish.grid}x{wish.grid}"
    if wish.interpolate is not None:
        return Path(f"{wish.interpolate[0].stem}-to-{wish.interpolate[1].stem}.png")
    part = "-part{}of{}".format(*wish.part) if wish.part != (1, 1) else ""
    if wish.latents is not None:
        return Path(f"{wish.latents.resolve().stem}-decoded{part}")
    if wish.count is not None:
        return Path((f"sheets-{grid}-seed{wish.seed}" if wish.grid else f"samples-seed{wish.seed}") + part)
    return Path(f"plane-{grid}.png")


def _tiling(wish: Wish, points: LatentSource, out: Path) -> Tiling:
    """Planes and lines are one picture where a PNG file is asked for, else a picture for each point."""
    if wish.interpolate is not None and _is_png(out):
        return Tiling(points.count, wish.steps)
    if wish.grid is not None and (not wish.plane or _is_png(out)):
        return Tiling(wish.grid**2, wish.grid)
    return Tiling()


def _is_png(out: Path) -> bool:
    return out.suffix.lower() == ".png"


def _labelled(picture: drawing.Bytes, wish: Wish) -> drawing.Bytes:
    from vae_serve.images import axes

    return axes.label(picture, [float(value) for value in _axis(wish)], wish.slice or (0, 1))
