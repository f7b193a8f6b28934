"""`vae-serve plot`: plots of a run or a bundle."""

from pathlib import Path
from typing import Annotated

import typer

from vae_serve.cli import console
from vae_serve.cli.run_or_bundle import RunOrBundle, TestData
from vae_serve.errors import MissingExtra, OutputError


def plot(
    model: RunOrBundle = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the plots.", show_default="RUN/plots, or NAME-plots for a bundle")
    ] = None,
    data: TestData = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing plots.")] = False,
    quiet: console.Quiet = False,
) -> None:
    """Draw the plots of a model.

    Latent scatter, decoded plane, aggregate posterior, reconstructions, loss.
    """
    from vae_serve.cli.subject import open_subject

    subject = open_subject(model, data, "vae-serve plot")
    place = subject.path
    folder = out or (place / "plots" if subject.is_run and isinstance(place, Path) else Path(f"{place.name}-plots"))
    if folder.exists() and any(folder.iterdir()) and not overwrite and out is not None:
        raise OutputError(f"{folder} exists; give --overwrite, or another --out")
    try:
        from vae_serve.training import pictures
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        raise MissingExtra("train", "vae-serve plot") from None

    test = subject.data(console.say)
    written = pictures.write(
        folder, subject.encode, subject.decode, test.test_images, test.test_labels, subject.history()
    )
    if not quiet:
        console.say(f"{folder}: {', '.join(file.name for file in written)}")
