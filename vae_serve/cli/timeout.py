"""How long one picture may take, as the commands that decode pictures ask for it."""

from typing import Annotated

import typer

from vae_serve.errors import UsageError

PictureTimeout = Annotated[
    float, typer.Option("--picture-timeout", metavar="SECONDS", help="A picture that takes longer to decode fails.")
]


def parse_picture_timeout(seconds: float) -> float:
    """Seconds above 0; infinity is no limit."""
    if seconds > 0:
        return seconds
    raise UsageError(f"--picture-timeout {seconds:g}: give seconds above 0")
