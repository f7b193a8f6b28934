"""From one checked bundle to a folder that a server, a hub or a browser takes as it is.

Each layout is a module with one function `write(bundle, into)`; what they share is here: the bundle is checked first,
the folder appears whole under its name or not at all. Nothing here needs TensorFlow.
"""

from collections.abc import Callable
from pathlib import Path

from vae_serve.deploy import huggingface, tf_serving, triton, web
from vae_serve.errors import UsageError
from vae_serve.model.bundle import Bundle
from vae_serve.model.verify import verify
from vae_serve.storage.publish import Destination, publish_folder

LAYOUTS: dict[str, Callable[[Bundle, Path], None]] = {
    "triton": triton.write,
    "tf-serving": tf_serving.write,
    "huggingface": huggingface.write,
    "web": web.write,
}

MARK = "vae-serve export --layout"  # stands in every layout's README


def lay_out(source: Path, layout: str, out: Path, overwrite: bool = False) -> None:
    """Writes the bundle in `source` as `layout` into the new folder `out`.

    Raises:
        UsageError: there is no such layout.
        BundleError: the bundle is not sound, or lacks what the layout needs.
        OutputError: `out` exists and `overwrite` is not set, or cannot be written.
    """
    if layout not in LAYOUTS:
        raise UsageError(f"there is no layout {layout!r}; choose one of {', '.join(LAYOUTS)}")
    destination = Destination(out, "a layout that was written here", _is_layout, overwrite)
    bundle, _ = verify(source)
    with publish_folder(destination) as folder:
        LAYOUTS[layout](bundle, folder)


def _is_layout(path: Path) -> bool:
    readme = path / "README.md"
    if readme.is_symlink() or not readme.is_file():
        return False
    return MARK in readme.read_text(encoding="utf-8", errors="replace")
