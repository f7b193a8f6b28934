"""`vae-serve verify`: is a bundle what it says?"""

from pathlib import Path
from typing import Annotated

import typer

from vae_serve.cli import talk


def verify(
    bundle: Annotated[Path, typer.Argument(help="The bundle's folder.")],
    *,
    as_json: talk.AsJson = False,
    quiet: talk.Quiet = False,
) -> None:
    """Checks a bundle: every file against its hash, the graphs against the manifest."""
    from vae_serve.batch import verify as batch

    checked = batch.verify(bundle)
    if not quiet:
        talk.say(f"{bundle} is what it says: {len(checked.manifest.files)} files")
    if as_json:
        talk.emit({"bundle": bundle, "files": [entry.path for entry in checked.manifest.files]})
