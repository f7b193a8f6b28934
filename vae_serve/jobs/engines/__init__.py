"""Ways to run a job's missing shards, by name. Each is one function, a `jobs.task.Engine`.

A new engine is a module here with such a function, and a function in the table that fits it to a job's options. Large
libraries are imported in it.
"""

import re
from collections.abc import Callable
from functools import partial

import msgspec

from vae_serve.errors import UsageError
from vae_serve.jobs.engines import inline
from vae_serve.jobs.task import Engine, Note, no_note

_REMOTE = re.compile(r"[a-z][a-z0-9+.-]+://?")  # a drive has one letter


class EngineOptions(msgspec.Struct, frozen=True):
    """Which engine, and what it is told."""

    name: str = "inline"
    """Of ENGINES."""
    workers: int = 1
    """Processes on this machine."""
    address: str | None = None
    """Of a cluster."""
    note: Note = no_note
    """Told a line worth reading."""


def _inline(options: EngineOptions) -> Engine:
    return inline.run


def _processes(options: EngineOptions) -> Engine:
    from vae_serve.jobs.engines import processes

    return partial(processes.run, workers=options.workers)


def _ray(options: EngineOptions) -> Engine:
    from vae_serve.jobs.engines import ray

    return partial(ray.run, address=options.address, note=options.note)


ENGINES: dict[str, Callable[[EngineOptions], Engine]] = {"inline": _inline, "processes": _processes, "ray": _ray}


def chosen(options: EngineOptions) -> Engine:
    """The engine of this name.

    Raises:
        UsageError: there is none, or it takes no address.
    """
    if options.name not in ENGINES:
        raise UsageError(f"the engine {options.name!r} is none of {', '.join(ENGINES)}")
    if options.address is not None and options.name != "ray":
        raise UsageError(f"--address {options.address} is a Ray cluster's; give --engine ray as well")
    return ENGINES[options.name](options)


def default_for(*places: object) -> str:
    """The engine for a source and a result where none was asked for: another than this process where one is remote."""
    return "processes" if any(_REMOTE.match(str(place)) for place in places) else "inline"
