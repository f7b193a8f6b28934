"""`vae-serve generate`: latent points to pictures."""

from pathlib import Path
from typing import Annotated

import typer

from vae_serve import start
from vae_serve.cli import console
from vae_serve.cli.engine import Address, Engine
from vae_serve.cli.model_in_use import model_in_use
from vae_serve.cli.share import parse_share
from vae_serve.errors import UsageError


def generate(
    *,
    grid: Annotated[
        int | None, typer.Option(help="The latent plane as GRID x GRID pictures. With --count: tile so many samples.")
    ] = None,
    count: Annotated[
        int | None, typer.Option(help="Decode COUNT samples of the prior; with --grid, COUNT sheets.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the samples: sample i depends only on SEED and i.")] = 0,
    latents: Annotated[
        Path | None, typer.Option(help="Decode the points of a .npy, .npz, .csv or .parquet file or an embed result.")
    ] = None,
    interpolate: Annotated[
        tuple[Path, Path] | None, typer.Option(help="Decode points on the line between two pictures' latent means.")
    ] = None,
    steps: Annotated[int, typer.Option(help="Pictures on that line, both ends included.")] = 10,
    span: Annotated[float | None, typer.Option(help="The plane reaches from -SPAN to SPAN. [default: 4]")] = None,
    quantiles: Annotated[
        bool, typer.Option("--quantiles", help="The plane in equal steps of the prior's probability.")
    ] = False,
    slice_: Annotated[
        str | None, typer.Option("--slice", metavar="I,J", help="The plane's two dimensions; the others are 0.")
    ] = None,
    axes: Annotated[bool, typer.Option("--axes", help="Print the plane's coordinates at its edge.")] = False,
    shard: Annotated[str, typer.Option(help="I/N: make the I-th of N shares of the pictures.")] = "1/1",
    model: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="The bundle's folder or s3:// URL. [default: the newest in exports/, else the packaged one]",
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="NAME.png, .npy, .npz, .zip, .parquet, or a folder of PNG files. [default: named after the options]",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier result at --out, and start again.")
    ] = False,
    workers: Annotated[int | None, typer.Option(help="Decoding threads. [default: one for each core]")] = None,
    rows_per_shard: Annotated[
        int | None, typer.Option(min=1, help="Pictures that are made as one; a kill loses unfinished ones.")
    ] = None,
    engine: Engine = None,
    address: Address = None,
    quiet: console.Quiet = False,
    as_json: console.AsJson = False,
) -> None:
    """Decode points of the latent space to pictures.

    --grid 15 alone is the plane from -4 to 4: the first dimension to the right, the second one upwards. A long job
    resumes with the same command.
    """
    start.prepare()
    from vae_serve.api.generate import generate as call

    used = model_in_use(model, quiet)
    with console.progress("generate", None, "pictures", quiet) as report:
        summary = call(
            used,
            grid=grid,
            count=count,
            seed=seed,
            latents=latents,
            interpolate=interpolate,
            steps=steps,
            span=span,
            quantiles=quantiles,
            slice=_pair(slice_),
            axes=axes,
            shard=parse_share(shard),
            out=out,
            overwrite=overwrite,
            workers=workers,
            rows_per_shard=rows_per_shard,
            engine=engine,
            address=address,
            progress=report,
            note=None if quiet else console.say,
        )
    if not quiet:
        of = f" of {summary.points:,} points" if summary.points != summary.pictures else ""
        pictures = f"{summary.pictures:,} picture{'s' * (summary.pictures > 1)}{of}"
        console.say(f"{summary.out}: {pictures}, by the model {summary.model}")
    if summary.missing:
        some = ", ".join(map(str, summary.missing[:5])) + (", ..." if len(summary.missing) > 5 else "")
        console.say(f"{len(summary.missing):,} rows of {latents} have no vector; their pictures are black: {some}")
    if as_json:
        console.emit(summary.to_json())
    if summary.missing:
        raise typer.Exit(3)


def _pair(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    words = text.split(",")
    if len(words) != 2 or not all(word.strip().isdigit() for word in words):
        raise UsageError(f"--slice {text}: give two dimensions, such as 0,1")
    return int(words[0]), int(words[1])
