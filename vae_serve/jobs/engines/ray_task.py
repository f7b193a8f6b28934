"""What a Ray worker does: it hands a shard to a process that is its child, and keeps that one for the next.

Ray's workers have many threads and must not fork; their child decodes as safely as any other engine. It is its parent's
alone and ends with it. The module is imported on every node.
"""

import pickle
from typing import Any

from vae_serve.errors import EngineError
from vae_serve.jobs import packages
from vae_serve.jobs.engines.outcomes import Ended, Refused, packed
from vae_serve.jobs.engines.shard_process import Died, ShardProcess

_process: ShardProcess | None = None
_shared: set[str] = set()  # keys of what the process has
_checked = b""  # the packages that this worker was compared with


def make(request: bytes, shared: list[tuple[str, Any]], wanted: bytes, node: str) -> bytes:
    """A shard's outcome, packed. `shared`: keys, and references to what they stand for; `wanted`: packages.

    It never raises what a shard raises: an exception is Ray's, and says that something is lost.
    """
    global _process, _checked  # noqa: PLW0603
    if wanted != _checked:
        here = pickle.loads(wanted)  # noqa: S301  from the process that plans
        found = packages.differences(here, packages.running())
        if found:
            return packed(
                Refused(
                    EngineError(
                        f"the Ray worker on {node} runs on other packages, with which bytes may differ: {found}. "
                        "Install the same ones on all nodes"
                    )
                )
            )
        _checked = wanted
    try:
        if _process is None:
            _shared.clear()
            _process = ShardProcess()
        for key, reference in shared:
            if key not in _shared:
                import ray

                _process.share(key, ray.get(reference))
                _shared.add(key)
        return _process.make(request)
    except Died as death:
        _process = None
        return packed(Ended(str(death)))
