"""From one checked bundle to a folder that a server, a hub or a browser reads as it is.

Each target is a module with one function `write(bundle, into)`; what they share is here: the bundle is verified first,
its files are read only through `Bundle.read`, and the folder appears under its name whole or not at all. Nothing here
needs TensorFlow.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vae_serve.deploy import huggingface, readme, tf_serving, triton, web
from vae_serve.errors import UsageError
from vae_serve.model.bundle import Bundle
from vae_serve.model.verify import verify
from vae_serve.storage.publish import Destination, publish_folder

if TYPE_CHECKING:
    from vae_serve.storage.object_url import Place

Target = Literal["triton", "tf-serving", "huggingface", "web"]

TARGETS: dict[Target, Callable[[Bundle, Path], None]] = {
    "triton": triton.write,
    "tf-serving": tf_serving.write,
    "huggingface": huggingface.write,
    "web": web.write,
}

README_LIMIT = 1 << 20  # bytes of an existing README.md that are looked at


def deploy(source: "Place", target: Target, out: Path, overwrite: bool = False) -> None:
    """Writes the bundle in `source` for `target` into the new folder `out`.

    Raises:
        UsageError: there is no such target.
        BundleError: the bundle is not sound, or lacks what the target needs.
        OutputError: `out` cannot be written; it exists without `overwrite`, or is not a result of this function.
    """
    if target not in TARGETS:
        raise UsageError(f"there is no target {target!r}; choose one of {', '.join(TARGETS)}")
    destination = Destination(out, "a folder that vae-serve deploy wrote", _is_deployed, overwrite)
    bundle, _ = verify(source)
    with publish_folder(destination) as folder:
        TARGETS[target](bundle, folder)


def _is_deployed(folder: Path) -> bool:
    """Whether the folder's README.md has, as a line of its own, what `readme` writes into each."""
    file = folder / "README.md"
    if file.is_symlink() or not file.is_file():
        return False
    with file.open("rb") as opened:
        lines = opened.read(README_LIMIT).decode("utf-8", "replace").splitlines()
    return any(readme.made_by(target) in lines for target in TARGETS)
