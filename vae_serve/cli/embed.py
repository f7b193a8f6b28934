"""`vae-serve embed`."""

from pathlib import Path
from typing import Annotated

import typer

from vae_serve.cli.talk import AsJson, Quiet, emit, progress, say


def embed(
    source: Annotated[str, typer.Argument(help="A folder of pictures.", show_default=False)],
    *,
    out: Annotated[Path, typer.Option(help="The folder to write to; made if need be.", show_default=False)],
    model: Annotated[
        Path | None, typer.Option(help="The bundle; else the newest under exports/, else the packaged one.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier result in --out.")] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Turn pictures into latent vectors: one row for each, in sorted order, with its label, size and any error.

    The same command again goes on where an interrupted one stopped.
    """
    from vae_serve import bundle as bundles
    from vae_serve.batch import embed as batch
    from vae_serve.batch.cores import cores
    from vae_serve.images.pixels import PixelRule
    from vae_serve.images.sources import open_source

    bundle = bundles.load(bundles.find(model))
    if not quiet:
        say(f"model {bundle.path}")
    pictures = open_source(source)
    rule = PixelRule.from_json(bundle.manifest.pixels)
    options = batch.Options(out=out, workers=cores(), overwrite=overwrite)
    with progress("embed", pictures.count, "images", quiet) as report:
        stats = batch.embed(pictures, bundle, rule, options, report)
    if not quiet:
        run = stats["this_run"]
        failed = f", {stats['failed']:,} of them failed" if stats["failed"] else ""
        say(f"{out}: {stats['images']:,} rows{failed}; {run['images']:,} in {run['seconds']:.2f} s")
    if as_json:
        emit(stats)
    if stats["failed"]:
        raise typer.Exit(3)
