"""Which pictures below a folder vae-serve wrote itself: `train --data .` must not learn from its own plots."""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

# A folder is one of these kinds where it holds all the names of a set; the kinds that hold no pictures are not listed.
_KINDS = {
    "training runs": ({"run.json", "config.toml"}, {"run.json", "checkpoints"}, {"run.json", "history.csv"}),
    "bundles": ({"manifest.json", "conformance"}, {"manifest.json", "saved_model"}),
    "plots": ({"latent.png", "grid.png", "posterior.png", "reconstructions.png"},),
    "results of embed": ({"projector_config.pbtxt", "vectors.tsv"},),
    "results of reconstruct": ({"errors.parquet", "sheet-00000.png"},),
}


def not_own(root: Path, names: Iterable[bytes]) -> tuple[npt.NDArray[np.bool_], Counter[str]]:
    """For each picture's path below `root`: whether it lies in no folder that vae-serve wrote; and what was left out.

    `root` itself is never left out: a user who names such a folder means it.
    """
    known: dict[Path, str | None] = {root: None}

    def kind_of(folder: Path) -> str | None:
        if folder not in known:
            known[folder] = kind_of(folder.parent) or _kind(folder)
        return known[folder]

    folders: dict[bytes, str | None] = {}
    kinds = []
    for name in names:
        folder = name.rpartition(b"/")[0]
        if folder not in folders:
            folders[folder] = kind_of(root / os.fsdecode(folder))
        kinds.append(folders[folder])
    return np.array([kind is None for kind in kinds], bool), Counter(kind for kind in kinds if kind)


def _kind(folder: Path) -> str | None:
    for kind, signs in _KINDS.items():
        if any(all(os.path.lexists(folder / name) for name in sign) for sign in signs):
            return kind
    return "unfinished results" if folder.suffix == ".partial" and (folder / "_job").is_dir() else None
