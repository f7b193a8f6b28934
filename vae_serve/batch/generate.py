"""Pictures from latent points: one large picture of the latent plane, or any number of drawn ones.

Every picture is a tile of one or more points. All points are decoded in batches; files appear under their name only
when they are whole.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from vae_serve import latents
from vae_serve.batch.runtime import in_batches, open_decoder
from vae_serve.bundle import Bundle
from vae_serve.errors import OutputError, UsageError
from vae_serve.images import pixels, png


@dataclass(frozen=True)
class Wish:
    """What to draw."""

    grid: int | None = None  # pictures along a side: the latent plane
    count: int | None = None  # drawn pictures
    seed: int = 0  # of the drawn ones
    out: Path | None = None  # a PNG file for the plane, a folder for drawn ones; None: a name that says what it is
    overwrite: bool = False


@dataclass(frozen=True)
class Result:
    """What was written."""

    path: Path
    pictures: int
    points: int


def generate(bundle: Bundle, wish: Wish) -> Result:
    """Draws what is wished for.

    Raises:
        UsageError: the wish makes no sense, or not with this model.
        OutputError: `out` exists or cannot be written.
        BundleError: the bundle has no decoder that runs.
    """
    check(wish, bundle)
    out = wish.out or _default_name(wish)
    prepare(out, wish.overwrite)
    decoder = open_decoder(bundle)
    if wish.grid is not None:
        points = latents.plane(wish.grid)
        images = pixels.to_bytes(in_batches(decoder, points)[0])
        write_file(out, png.encode(pixels.tile(images, wish.grid)))
        return Result(out, 1, len(points))
    points = latents.draws(wish.seed, 0, wish.count or 0, bundle.manifest.latent_dim)
    images = pixels.to_bytes(in_batches(decoder, points)[0])
    write_folder(out, {f"{index:06}.png": png.encode(image) for index, image in enumerate(images)})
    return Result(out, len(images), len(points))


def check(wish: Wish, bundle: Bundle) -> None:
    """Raises UsageError where the wish makes no sense, or not with this model."""
    if (wish.grid is None) == (wish.count is None):
        raise UsageError("say what to draw: --grid 15 for the latent plane, or --count 100 for drawn pictures")
    if wish.count is not None and wish.count < 1:
        raise UsageError(f"--count {wish.count} draws nothing; give 1 or more")
    if not 0 <= wish.seed < 1 << 64:
        raise UsageError(f"--seed {wish.seed} is not in 0..2^64-1")
    if wish.grid is not None:
        _check_grid(wish.grid, bundle)


def _check_grid(grid: int, bundle: Bundle) -> None:
    if grid < 1:
        raise UsageError(f"--grid {grid} draws nothing; give 1 or more")
    height, width, _ = bundle.manifest.image_shape
    most = int((png.LARGEST / (height * width)) ** 0.5)
    if grid > most:
        raise UsageError(
            f"--grid {grid} would be a picture of {grid * width:,} x {grid * height:,} pixels; "
            f"the most for this model is --grid {most}"
        )
    if bundle.manifest.latent_dim != 2:
        raise UsageError(
            f"the latent space of {bundle.path} has {bundle.manifest.latent_dim} dimensions, and --grid alone draws a "
            "plane of 2; draw samples instead: --count 100"
        )


def _default_name(wish: Wish) -> Path:
    if wish.grid is not None:
        return Path(f"plane-{wish.grid}x{wish.grid}.png")
    return Path(f"samples-seed{wish.seed}")


def prepare(out: Path, overwrite: bool) -> None:
    """Raises OutputError if `out` stands in the way or its folder cannot take it, before any work is done."""
    if out.exists() and not overwrite:
        raise OutputError(f"{out} exists; choose another --out, or replace it with --overwrite")
    folder = out.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"the folder {folder} cannot be made: {error.strerror}; choose another --out") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"the folder {folder.absolute()} cannot be written to; choose another --out")


def write_file(out: Path, contents: bytes) -> None:
    """Writes aside, syncs, renames: `out` is never half a file."""
    if out.is_dir():
        raise OutputError(f"{out} is a folder; choose another --out for the file")
    aside = out.with_name(f".{out.name}.partial")
    try:
        with aside.open("wb") as opened:
            opened.write(contents)
            opened.flush()
            os.fsync(opened.fileno())
        aside.replace(out)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise OutputError(f"{out} cannot be written: {error.strerror}") from error


def write_folder(out: Path, files: dict[str, bytes]) -> None:
    """Fills a folder aside and renames it. A folder that it replaces must hold PNG files and nothing else."""
    if out.exists() and (not out.is_dir() or any(file.suffix != ".png" for file in out.iterdir())):
        raise OutputError(f"{out} is not a folder of pictures alone and is not overwritten; choose another --out")
    aside = out.with_name(f".{out.name}.partial")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        for name, contents in files.items():
            (aside / name).write_bytes(contents)
        if out.exists():
            shutil.rmtree(out)
        aside.replace(out)
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise OutputError(f"{out} cannot be written: {error.strerror}") from error
