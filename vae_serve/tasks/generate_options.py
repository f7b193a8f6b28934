"""What `generate` is asked for, and whether that makes sense."""

import math
from pathlib import Path

import msgspec

from vae_serve.errors import UsageError
from vae_serve.images import png
from vae_serve.model.bundle import Bundle
from vae_serve.model.samplers import Floats


class GenerateOptions(msgspec.Struct, frozen=True):
    """What to decode: a plane (grid alone), draws (count), given points (latents) or a line (interpolate)."""

    grid: int | None = None  # pictures along a side
    count: int | None = None  # drawn pictures; sheets of grid x grid where there is a grid
    seed: int = 0  # of the drawn ones
    latents: Path | Floats | None = None  # a file of points, or points (n, d)
    interpolate: tuple[Path, Path] | None = None  # two pictures
    steps: int = 10  # of the line, both ends included
    span: float | None = None  # the plane reaches from -span to span; None: 4
    quantiles: bool = False  # the plane in equal steps of the prior's probability
    slice: tuple[int, int] | None = None  # the plane's two dimensions; None: 0 and 1 of two
    axes: bool = False  # the plane's coordinates at the picture's edge
    out: Path | None = None  # None: a name that says what it is
    overwrite: bool = False
    workers: int = 1  # decoding threads
    share: tuple[int, int] = (1, 1)  # of the pictures: this machine's I of N, counted from 1
    rows_per_shard: int | None = None  # pictures; None: 32 MiB of them
    engine: str = "inline"  # of `jobs.engines.ENGINES`
    address: str | None = None  # of a cluster

    @property
    def plane(self) -> bool:
        """Whether it is the latent plane that is asked for."""
        return self.count is None and self.latents is None and self.interpolate is None


def check(options: GenerateOptions, bundle: Bundle) -> None:
    """Raises UsageError where the options make no sense, or not with this model."""
    sources = [
        name
        for name, value in (
            ("--count", options.count),
            ("--latents", options.latents),
            ("--interpolate", options.interpolate),
        )
        if value is not None
    ]
    if len(sources) > 1:
        raise UsageError(f"{' and '.join(sources)} do not go together; ask for one of them")
    if not sources and options.grid is None:
        raise UsageError("say what to draw: --grid 15 for the latent plane, --count 100 for drawn pictures, ...")
    if options.count is not None and options.count < 1:
        raise UsageError(f"--count {options.count} draws nothing; give 1 or more")
    if not 0 <= options.seed < 1 << 64:
        raise UsageError(f"--seed {options.seed} is not in 0..2^64-1")
    if options.workers < 1:
        raise UsageError(f"--workers {options.workers}: give 1 or more")
    if options.grid is not None:
        _check_grid(options, options.grid, bundle)
    if options.interpolate is not None:
        _check_line(options, bundle)
    if options.share != (1, 1) and options.count is None and options.latents is None:
        raise UsageError("--shard is for many pictures: --count or --latents")
    _check_plane(options, bundle)


def _check_grid(options: GenerateOptions, grid: int, bundle: Bundle) -> None:
    if grid < 1:
        raise UsageError(f"--grid {grid} draws nothing; give 1 or more")
    if options.interpolate is not None:
        raise UsageError("--grid and --interpolate do not go together; --steps says how many pictures the line has")
    height, width, _ = bundle.manifest.image_shape
    most = math.isqrt(png.LARGEST // (height * width))
    if grid > most:
        raise UsageError(
            f"--grid {grid} would be a picture of {grid * width:,} x {grid * height:,} pixels; "
            f"the most for this model is --grid {most}"
        )


def _check_line(options: GenerateOptions, bundle: Bundle) -> None:
    height, width, _ = bundle.manifest.image_shape
    most = png.LARGEST // (height * width)
    if not 2 <= options.steps <= most:
        raise UsageError(f"--steps {options.steps}: a line has 2 to {most:,} steps, its ends included")


def _check_plane(options: GenerateOptions, bundle: Bundle) -> None:
    given = {"--span": options.span, "--quantiles": options.quantiles, "--slice": options.slice, "--axes": options.axes}
    names = [name for name, value in given.items() if value not in (None, False)]
    if not options.plane:
        if names:
            raise UsageError(f"{names[0]} is for the latent plane: --grid without --count, --latents, --interpolate")
        return
    if options.span is not None and not 0 < options.span < math.inf:
        raise UsageError(f"--span {options.span}: give a number above 0, such as 4")
    if options.span is not None and options.quantiles:
        raise UsageError("--span and --quantiles do not go together; the quantiles reach as far as the grid asks for")
    if options.axes and options.out is not None and not is_png(options.out):
        raise UsageError(f"--axes is for one picture; {options.out} is not a .png")
    d = bundle.manifest.latent_dim
    if options.slice is None and d != 2:
        raise UsageError(
            f"the latent space of {bundle.path} has {d} dimensions, and --grid alone draws a plane of 2; "
            + ("choose two of them, such as --slice 0,1, or draw samples: --count 100" if d > 2 else "use --count 100")
        )
    if options.slice is not None and (
        options.slice[0] == options.slice[1] or not all(0 <= at < d for at in options.slice)
    ):
        raise UsageError(f"--slice {options.slice[0]},{options.slice[1]}: give two different ones of 0..{d - 1}")


def is_png(out: Path) -> bool:
    """Whether one picture is asked for."""
    return out.suffix.lower() == ".png"
