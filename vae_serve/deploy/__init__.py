"""From one checked bundle to a folder that a server, a hub or a browser takes as it is.

Each target is a module with one function `write(bundle, into)`; what they share is here: the bundle is verified first,
its files are read through `Bundle.read` alone, and the folder appears whole under its name or not at all. Nothing here
needs TensorFlow.
"""

import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal

from vae_serve.deploy import huggingface, readme, tf_serving, triton, web
from vae_serve.errors import OutputError, UsageError
from vae_serve.model.bundle import Bundle
from vae_serve.model.verify import verify

Target = Literal["triton", "tf-serving", "huggingface", "web"]

TARGETS: dict[Target, Callable[[Bundle, Path], None]] = {
    "triton": triton.write,
    "tf-serving": tf_serving.write,
    "huggingface": huggingface.write,
    "web": web.write,
}

README_LIMIT = 1 << 20  # bytes of an existing README.md that are looked at


def deploy(source: Path, target: Target, out: Path, overwrite: bool = False) -> None:
    """Writes the bundle in `source` for `target` into the new folder `out`.

    Raises:
        UsageError: there is no such target.
        BundleError: the bundle is not sound, or lacks what the target needs.
        OutputError: `out` cannot be written; it exists without `overwrite`, or is no earlier result of this function.
    """
    if target not in TARGETS:
        raise UsageError(f"there is no target {target!r}; choose one of {', '.join(TARGETS)}")
    _refuse_existing(out, overwrite)
    bundle, _ = verify(source)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    new = temporary / "new"
    try:
        new.mkdir()
        TARGETS[target](bundle, new)
        _publish(new, out, overwrite, aside=temporary / "old")
    finally:
        shutil.rmtree(new, ignore_errors=True)
        with suppress(OSError):  # an earlier result that could not be put back stays there
            temporary.rmdir()


def _publish(new: Path, out: Path, overwrite: bool, aside: Path) -> None:
    """Renames `new` to `out`. What came to be at `out` in the meantime is judged again, and never removed unasked."""
    _refuse_existing(out, overwrite)
    if overwrite and out.exists():
        out.rename(aside)
    try:
        new.rename(out)  # fails where `out` is a file, a link or a folder with anything in it
    except OSError as error:
        if aside.exists():
            aside.rename(out)
        raise OutputError(f"{out} cannot be written: {error.strerror}") from error
    if aside.exists():
        shutil.rmtree(aside)


def _refuse_existing(out: Path, overwrite: bool) -> None:
    if not out.exists() and not out.is_symlink():
        return
    if not overwrite:
        raise OutputError(f"{out} exists; name another one with --out, or give --overwrite")
    if out.is_symlink() or not _is_deployed(out):
        raise OutputError(
            f"{out} exists and was not made by vae-serve deploy, so --overwrite does not remove it; name another --out"
        )


def _is_deployed(folder: Path) -> bool:
    """Whether the folder's README.md has, as a line of its own, what `readme` writes into each."""
    file = folder / "README.md"
    if file.is_symlink() or not file.is_file():
        return False
    with file.open("rb") as opened:
        lines = opened.read(README_LIMIT).decode("utf-8", "replace").splitlines()
    return any(readme.made_by(target) in lines for target in TARGETS)
