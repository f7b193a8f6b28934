"""One input through one target: accepted, refused by one of the project's errors, or a finding."""

import traceback
from pathlib import Path
from typing import NamedTuple

import vae_serve
from fuzzing.targets import Target
from vae_serve.errors import VaeServeError

ACCEPTED, REFUSED = "accepted", "refused"

_PROJECT = str(Path(vae_serve.__file__).parent)


class Finding(NamedTuple):
    """What came out that may not. Two findings of one `key` are the same fault."""

    key: str
    message: str


def judge(target: Target, data: bytes) -> str | Finding:
    """Runs an input: `ACCEPTED`, `REFUSED`, or what is wrong."""
    try:
        target.run(data)
    except VaeServeError as error:
        if not str(error):
            return Finding(f"{type(error).__name__} without a message at {_places(error)[0]}", "")
        if _out_of_memory(error):
            return Finding(f"memory, and {type(error).__name__} at {_places(error)[0]}", str(error)[:300])
        return REFUSED
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit, pyo3's panics
        own, last = _places(error)
        return Finding(f"{type(error).__name__} at {own}", f"{error!r:.300} raised at {last}")
    return ACCEPTED


def _out_of_memory(error: BaseException | None) -> bool:
    """Whether an error stands for a `MemoryError`: the input took more than its target allows."""
    while error is not None:
        if isinstance(error, MemoryError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _places(error: BaseException) -> tuple[str, str]:
    """The innermost line of the project's own, and the innermost of all."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename.startswith(_PROJECT)]
    inner = Path(frames[-1].filename)
    outer = (
        f"{Path(own[-1].filename).relative_to(Path(_PROJECT).parent)}:{own[-1].lineno}" if own else "no line of ours"
    )
    return outer, f"{inner.parent.name}/{inner.name}:{frames[-1].lineno}"
