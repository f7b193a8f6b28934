"""`vae-serve reconstruct`: pictures beside their reconstructions."""

import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from vae_serve import start
from vae_serve.cli import console
from vae_serve.cli.timeout import PictureTimeout, parse_picture_timeout
from vae_serve.cli.workers import parse_workers
from vae_serve.model import bundle as bundles

_WILDCARD = re.compile(r"[*?\[\]]")


def reconstruct(
    source: Annotated[str, typer.Argument(help="A folder of pictures, or any other source of embed.")],
    *,
    out: Annotated[
        Path | None,
        typer.Option(help="The folder to write to. [default: the source's name with -reconstructed]"),
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="The bundle. [default: the newest in exports/, else the packaged one]")
    ] = None,
    workers: Annotated[str, typer.Option(help="Decoding processes; auto: as many as this process has cores.")] = "auto",
    picture_timeout: PictureTimeout = 30.0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier result in --out.")] = False,
    quiet: console.Quiet = False,
    as_json: console.AsJson = False,
) -> None:
    """Show pictures beside their reconstructions: sheets of pairs, and a table with the error of each picture.

    Exit code 3: finished, but some pictures could not be read; their rows say why, and their places are grey.
    """
    start.prepare()
    from vae_serve.sources import listing

    out = out or Path(default_name(source))
    own = (out, out.with_name(f"{out.name}.partial")) if out.name else (out,)
    begun = listing.begin(source, exclude=own)
    from vae_serve.images.pixels import PixelRule
    from vae_serve.sources.opening import open_source
    from vae_serve.tasks.reconstruct import ReconstructOptions
    from vae_serve.tasks.reconstruct import reconstruct as run

    options = ReconstructOptions(out, parse_workers(workers), parse_picture_timeout(picture_timeout), overwrite)
    bundle = bundles.load(bundles.find(model))
    pictures = open_source(source, begun, exclude=own)
    with console.progress("reconstruct", pictures.names.count, "pictures", quiet) as report:
        summary = run(pictures, bundle, PixelRule.from_json(bundle.manifest.pixels), options, report)
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


def default_name(source: str) -> str:
    """photos -> photos-reconstructed; of a pattern, the name of the folder before its first wildcard."""
    path = Path(source)
    if source == "-":
        return "list-reconstructed"
    if not path.exists() and _WILDCARD.search(source):
        before = next(number for number, part in enumerate(path.parts) if _WILDCARD.search(part))
        path = Path(*path.parts[:before])
    path = path.resolve()
    name = path.name if path.is_dir() else path.stem
    return f"{_WILDCARD.sub('_', name) or 'pictures'}-reconstructed"
