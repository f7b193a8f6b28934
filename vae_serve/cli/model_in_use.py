"""The model that a command takes, with a word where the newest run has not become that model yet."""

from pathlib import Path
from typing import TYPE_CHECKING

from vae_serve.cli import console
from vae_serve.errors import RunError

if TYPE_CHECKING:
    from vae_serve.model.bundle import AnyPlace


def model_in_use(given: "AnyPlace | None", quiet: bool) -> "AnyPlace | Path":
    """The `given` model, or the one that is taken without; unless `quiet`, a newer run is told of.

    Raises:
        BundleError: there is none.
    """
    from vae_serve.model.bundle import find

    used = find(given)
    if given is None and not quiet and isinstance(used, Path) and Path("runs").is_dir():
        _tell(used)
    return used


def _tell(used: Path) -> None:
    from vae_serve.model.bundle import MANIFEST
    from vae_serve.training import runs

    try:
        run = runs.newest()
        newer = (run.path / runs.RECORD).stat().st_mtime_ns > (used / MANIFEST).stat().st_mtime_ns
    except (RunError, OSError):
        return
    if newer:
        console.say(f"{run.path} is newer than the model {used}, and not exported yet: vae-serve export {run.path}")
