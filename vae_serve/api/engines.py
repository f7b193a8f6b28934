"""Where a job's shards are made: the arguments `engine` and `address`."""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

from vae_serve import forks
from vae_serve.api import arguments
from vae_serve.errors import UsageError

Engine = Literal["inline", "processes", "ray"]

ENGINES = ("inline", "processes", "ray")


def engine(value: object, *places: object) -> str:
    """An engine's name; None is `inline`, or `processes` where one of the places is remote."""
    if value is None:
        from vae_serve.jobs.engines import default_for

        return default_for(*places)
    name: str = arguments.choice("engine", value, ENGINES)
    return name


def decoding_engine(value: object, source: object, *used: object) -> str:
    """The engine of a job that decodes. `used` are the places that the planning process itself reads or writes.

    Raises:
        UsageError: it is to be `inline`, and one of those is remote: decoders that are forked off a process that has
            used an object store's client can hang.
    """
    name = engine(value, source, *used)
    if name == "inline":
        from vae_serve.jobs.engines import default_for

        for place in used:
            if default_for(place) != name:
                raise UsageError(
                    f"--engine inline decodes in copies of the process that uses {place}, and such a copy can hang; "
                    "give --engine processes, or a place on this machine"
                )
    return name


def address(value: object) -> str | None:
    """A cluster's address, or None."""
    return None if value is None else arguments.text("address", value)


def joining(name: str, address: str | None) -> AbstractContextManager[None]:
    """A block in which a job is planned, while a cluster that is to do it is being joined."""
    if name != "ray" or not forks.safe():  # else a fresh process does all of it
        return nullcontext()
    from vae_serve.jobs.engines import ray

    return ray.joining(address)
