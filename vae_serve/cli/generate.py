"""`vae-serve generate`: latent points to pictures."""

from pathlib import Path
from typing import Annotated

import typer

from vae_serve import bundle
from vae_serve.cli import talk


def generate(
    *,
    grid: Annotated[int | None, typer.Option(help="Draw the latent plane, GRID x GRID pictures.")] = None,
    count: Annotated[int | None, typer.Option(help="Draw COUNT pictures from the prior.")] = None,
    seed: Annotated[int, typer.Option(help="Of the drawn pictures: picture i depends on SEED and i alone.")] = 0,
    model: Annotated[
        Path | None, typer.Option(help="The bundle. [default: the newest in exports/, else the packaged one]")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="A PNG file for the plane, a folder for drawn pictures. [default: named by what it is]"),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    as_json: talk.AsJson = False,
    quiet: talk.Quiet = False,
) -> None:
    """Pictures from the latent space, through ONNX Runtime.

    --grid 15 alone is the latent plane from -4 to 4: the first axis to the right, the second one upwards.
    """
    from vae_serve.batch import generate as batch

    wish = batch.Wish(grid=grid, count=count, seed=seed, out=out, overwrite=overwrite)
    path = bundle.find(model)
    result = batch.generate(bundle.load(path), wish)
    if not quiet:
        talk.say(f"{path} drew {result.points:,} pictures: {result.path}")
    if as_json:
        talk.emit({"model": path, "out": result.path, "pictures": result.pictures, "points": result.points})
