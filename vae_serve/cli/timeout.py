"""How long one picture may take, as the commands that decode pictures ask for it."""

from typing import Annotated

import typer

PictureTimeout = Annotated[
    float, typer.Option("--picture-timeout", metavar="SECONDS", help="A picture that takes longer to decode fails.")
]
