"""The arguments of the commands that measure a model on its test images: `evaluate` and `plot`."""

from typing import Annotated

import typer

RunOrBundle = Annotated[
    str | None,
    typer.Argument(metavar="RUN|BUNDLE", help="A folder, or a bundle's URL. [default: the newest finished run]"),
]
TestData = Annotated[
    str | None,
    typer.Option(help="The data set with the test images.", show_default="what the model was trained on"),
]
