"""A word where a command takes a model by itself, and the newest run has not become that model yet."""

from pathlib import Path

from vae_serve.cli import console
from vae_serve.errors import RunError


def tell(given: object, used: object) -> None:
    """Says so, where no model was `given` and `used` is the folder of a bundle that is older than the newest run."""
    if given is not None or not isinstance(used, Path) or not Path("runs").is_dir():
        return
    from vae_serve.model.bundle import MANIFEST
    from vae_serve.training import runs

    try:
        run = runs.newest()
        newer = (run.path / runs.RECORD).stat().st_mtime_ns > (used / MANIFEST).stat().st_mtime_ns
    except (RunError, OSError):
        return
    if newer:
        console.say(f"{run.path} is newer than the model {used}, and not exported yet: vae-serve export {run.path}")
