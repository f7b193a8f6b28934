"""Where a job's shards are made: the arguments `engine` and `address`."""

from typing import Literal

from vae_serve.api import arguments

Engine = Literal["inline", "processes", "ray"]

ENGINES = ("inline", "processes", "ray")


def engine(value: object, *places: object) -> str:
    """An engine's name; None is `inline`, or `processes` where one of the places is remote."""
    if value is None:
        from vae_serve.jobs.engines import default_for

        return default_for(*places)
    name: str = arguments.choice("engine", value, ENGINES)
    return name


def address(value: object) -> str | None:
    """A cluster's address, or None."""
    return None if value is None else arguments.text("address", value)
