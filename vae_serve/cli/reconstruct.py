"""`vae-serve reconstruct`: pictures beside their reconstructions."""

from pathlib import Path
from typing import Annotated

import typer

from vae_serve import start
from vae_serve.cli import console
from vae_serve.cli.engine import Address, Engine
from vae_serve.cli.model_in_use import model_in_use
from vae_serve.cli.timeout import PictureTimeout
from vae_serve.cli.workers import parse_workers


def reconstruct(
    source: Annotated[str, typer.Argument(help="A folder of pictures, or any other source of embed.")],
    *,
    out: Annotated[
        Path | None,
        typer.Option(help="The folder to write to. [default: the source's name with -reconstructed]"),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="The bundle's folder or s3:// URL. [default: the newest in exports/, else the packaged one]",
        ),
    ] = None,
    workers: Annotated[str, typer.Option(help="Decoding processes; auto: as many as this process has cores.")] = "auto",
    picture_timeout: PictureTimeout = 30.0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier result in --out.")] = False,
    engine: Engine = None,
    address: Address = None,
    quiet: console.Quiet = False,
    as_json: console.AsJson = False,
) -> None:
    """Show pictures beside their reconstructions.

    Sheets of pairs, and a table with the error of each picture.

    Exit code 3: finished, but some pictures could not be read; their rows say why, and their places are grey.
    """
    start.prepare()
    from vae_serve.api.reconstruct import reconstruct as call

    used = model_in_use(model, quiet)
    with console.progress("reconstruct", None, "pictures", quiet) as report:
        summary = call(
            source,
            used,
            out=out,
            workers=parse_workers(workers),
            picture_timeout=picture_timeout,
            overwrite=overwrite,
            engine=engine,
            address=address,
            progress=report,
            note=None if quiet else console.say,
        )
    if not quiet:
        failed = f" ({summary.failed:,} failed)" if summary.failed else ""
        counts = f"{summary.pictures:,} pictures{failed}, {summary.sheets:,} sheets"
        console.say(f"{summary.out}: {counts}, by the model {summary.model}")
        if summary.worst:
            console.say(
                f"mean error {summary.mean_reconstruction:.1f} nats, mse {summary.mean_mse:.4f}; "
                f"largest {summary.worst.reconstruction:.1f} nats, {summary.worst.path}"
            )
    if as_json:
        console.emit(summary.to_json())
    if summary.failed:
        raise typer.Exit(3)
