"""From one checked bundle to a folder that a server, a hub or a browser takes as it is.

Each layout is a module with one function `write(bundle, into)`; what they share is here: the bundle is checked first,
the folder appears whole under its name or not at all. Nothing here needs TensorFlow.
"""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from vae_serve.deploy import huggingface, tf_serving, triton, web
from vae_serve.errors import OutputError, UsageError
from vae_serve.model.bundle import Bundle
from vae_serve.model.verify import verify

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
    _make_room(out, overwrite)
    loaded, _ = verify(source)
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        made = aside / "new"
        made.mkdir()
        LAYOUTS[layout](loaded, made)
        if out.exists():
            out.rename(aside / "old")
        made.rename(out)
    finally:
        shutil.rmtree(aside)


def _make_room(out: Path, overwrite: bool) -> None:
    if not out.exists():
        return
    if not overwrite:
        raise OutputError(f"{out} exists; name another one with --out, or give --overwrite")
    readme = out / "README.md"
    if not readme.is_file() or MARK not in readme.read_text(encoding="utf-8", errors="replace"):
        raise OutputError(f"{out} exists and is no layout, so --overwrite will not remove it; name another --out")
