"""Ways to run a job's missing shards, by name. Each is one function, a `jobs.task.Engine`.

A new engine is a module here with such a function, and a line in the table. Large libraries are imported in it.
"""

from vae_serve.errors import UsageError
from vae_serve.jobs.engines import inline
from vae_serve.jobs.task import Engine

ENGINES: dict[str, Engine] = {"inline": inline.run}


def named(name: str) -> Engine:
    """The engine of this name. Raises UsageError where there is none."""
    if name not in ENGINES:
        raise UsageError(f"the engine {name!r} is none of {', '.join(ENGINES)}")
    return ENGINES[name]
