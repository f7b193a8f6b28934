"""Checkpoints: all that the next step depends on, written whole, checked by hash; two are kept. Needs no Keras.

    checkpoints/step-00000375.npz     weights, optimizer, random state and running means, in the model's own order
                step-00000375.json    the SHA-256 of the .npz, and how far the training is

The .json is written last: a checkpoint without it does not exist.
"""

import hashlib
import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vae_serve.errors import OutputError, RunError
from vae_serve.training import runs

KEPT = 2

Arrays = list[npt.NDArray[Any]]


@dataclass
class Position:
    """Where a training stands, between two steps."""

    epoch: int = 0  # finished ones
    step: int = 0  # finished ones of the epoch that is under way
    total: int = 0  # finished ones of all epochs
    history: list[dict[str, float | int]] | None = None  # one row for each finished epoch


def save(folder: Path, position: Position, arrays: Arrays) -> Path:
    """Writes a checkpoint, then removes all but the last two. Returns the .npz.

    Raises:
        OutputError: it could not be written, the disk is full for instance; the ones before it stay.
    """
    file = folder / f"step-{position.total:08}.npz"
    contents = io.BytesIO()
    named: dict[str, Any] = {f"{index:04}": array for index, array in enumerate(arrays)}
    np.savez(contents, **named)
    note = {"sha256": hashlib.sha256(contents.getbuffer()).hexdigest(), **asdict(position)}
    try:
        runs.write_whole(file, bytes(contents.getbuffer()))
        runs.write_whole(file.with_suffix(".json"), (json.dumps(note) + "\n").encode())
    except OSError as error:
        kept = newest(folder)
        raise OutputError(
            f"{file} could not be written: {error.strerror}; "
            + (f"the last good checkpoint is {kept[0]}, go on" if kept else "start again")
            + " once there is room: vae-serve train --resume"
        ) from error
    for old in sorted(folder.glob("step-*.npz"))[:-KEPT]:
        old.with_suffix(".json").unlink(missing_ok=True)
        old.unlink()
    return file


def newest(folder: Path) -> tuple[Path, Position, Arrays, list[str]] | None:
    """The last checkpoint that is whole: its file, what it holds, and what was wrong with later ones; or none."""
    damaged: list[str] = []
    for note in sorted(folder.glob("step-*.json"), reverse=True):
        try:
            return (*_read(note), damaged)
        except (OSError, ValueError, KeyError, TypeError, RunError) as error:
            damaged.append(f"{note.with_suffix('.npz')} is damaged ({error})")
    return None


def _read(note: Path) -> tuple[Path, Position, Arrays]:
    file = note.with_suffix(".npz")
    found = json.loads(note.read_text())
    contents = file.read_bytes()
    if hashlib.sha256(contents).hexdigest() != found.pop("sha256"):
        raise RunError("its SHA-256 is not the one it was written with")
    with np.load(io.BytesIO(contents), allow_pickle=False) as arrays:
        return file, Position(**found), [arrays[name] for name in sorted(arrays.files)]
