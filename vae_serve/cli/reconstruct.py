"""`vae-serve reconstruct`: pictures beside their reconstructions."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from vae_serve import start
from vae_serve.cli import console
from vae_serve.model import bundle as bundles


def reconstruct(
    source: Annotated[str, typer.Argument(help="A folder of pictures, or any other source of embed.")],
    *,
    out: Annotated[
        Path | None, typer.Option(help="The folder to write to. [default: the source's name with -reconstructed]")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="The bundle. [default: the newest in exports/, else the packaged one]")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier result in --out.")] = False,
    quiet: console.Quiet = False,
    as_json: console.AsJson = False,
) -> None:
    """Put pictures beside what the model makes of them: sheets to look at, and a table with the error of each.

    Exit code 3: finished, but some pictures could not be read; their rows say why, and their places are grey.
    """
    start.prepare()
    from vae_serve.images.pixels import PixelRule
    from vae_serve.sources.opening import open_source
    from vae_serve.tasks.reconstruct import reconstruct as run

    bundle = bundles.load(bundles.find(model))
    pictures = open_source(source)
    out = out or Path(f"{Path(source).resolve().stem}-reconstructed")
    with console.progress("reconstruct", pictures.names.count, "pictures", quiet) as report:
        summary = run(pictures, bundle, PixelRule.from_json(bundle.manifest.pixels), out, overwrite, report)
    if not quiet:
        failed = f" ({summary.failed:,} failed)" if summary.failed else ""
        console.say(
            f"{out}: {summary.pictures:,} pictures{failed}, {summary.sheets:,} sheets, by the model {bundle.path}"
        )
        if summary.worst:
            console.say(
                f"mean error {summary.mean_reconstruction:.1f} nats, mse {summary.mean_mse:.4f}; "
                f"largest {summary.worst.reconstruction:.1f} nats, {summary.worst.path}"
            )
    if as_json:
        console.emit({"model": bundle.path, **asdict(summary)})
    if summary.failed:
        raise typer.Exit(3)
