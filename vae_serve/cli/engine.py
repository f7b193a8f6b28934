"""--engine and --address."""

from typing import Annotated, Literal

import typer

Engine = Annotated[
    Literal["inline", "processes", "ray"] | None,
    typer.Option(
        help="Where shards are made: in this process, in processes of their own, on a Ray cluster. The bytes are the "
        "same. [default: inline; processes where something is remote]"
    ),
]

Address = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT", help="Of --engine ray: the cluster. [default: RAY_ADDRESS, else the one of this machine]"
    ),
]
