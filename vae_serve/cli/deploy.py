"""`vae-serve deploy`: a bundle to a folder that a server, a hub or a browser takes as it is."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from vae_serve.cli import console

Target = Literal["triton", "tf-serving", "huggingface", "web"]  # `vae_serve.deploy.Target`, which costs NumPy to import


def deploy(
    target: Annotated[
        Target, typer.Argument(metavar="TARGET", help="triton, tf-serving, huggingface or web.", show_default=False)
    ],
    bundle: Annotated[
        str | None,
        typer.Argument(
            metavar="BUNDLE",
            help="The bundle's folder or URL. [default: the newest in exports/, else the packaged one]",
        ),
    ] = None,
    *,
    out: Annotated[Path, typer.Option(help="The folder to write.", show_default=False)],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier result of this command in --out.")
    ] = False,
    quiet: console.Quiet = False,
    as_json: console.AsJson = False,
) -> None:
    """Write a bundle for a server, the Hub or a web page.

    A folder for Triton, TensorFlow Serving, the Hugging Face Hub, or a browser.

    The bundle is verified first. The folder's README.md says how to start it. Needs no TensorFlow.
    """
    from vae_serve import deploy as targets
    from vae_serve.api.arguments import place
    from vae_serve.model.bundle import find

    source = place("bundle", find(bundle))
    if not quiet and bundle is None:
        console.say(f"the bundle is {source}")
    targets.deploy(source, target, out, overwrite)
    if not quiet:
        console.say(f"{source} is deployed to {out}; {out / 'README.md'} says how to start it")
    if as_json:
        console.emit({"bundle": source, "target": target, "folder": out})
