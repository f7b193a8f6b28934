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
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt

from vae_serve.errors import OutputError, RunError
from vae_serve.training import runs, stored

KEPT = 2
NOTE_LIMIT = 1 << 26  # bytes; each epoch takes some 400
ARRAYS_LIMIT = 1 << 36

Arrays = list[npt.NDArray[Any]]


Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 62)]


class _Note(msgspec.Struct, forbid_unknown_fields=True):
    """The .json beside a checkpoint."""

    sha256: str
    epoch: Count
    step: Count
    total: Count
    history: list[dict[str, float | int]]


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
        except (OSError, ValueError, RecursionError, msgspec.ValidationError, RunError) as error:
            damaged.append(f"{note.with_suffix('.npz')} is damaged ({error})")
    return None


def _read(note: Path) -> tuple[Path, Position, Arrays]:
    file = note.with_suffix(".npz")
    record = msgspec.convert(json.loads(runs.read_plain(note, NOTE_LIMIT)), _Note)
    contents = runs.read_plain(file, ARRAYS_LIMIT)
    if hashlib.sha256(contents).hexdigest() != record.sha256:
        raise RunError("its SHA-256 is not the one it was written with")
    arrays = stored.arrays(contents, len(contents), file)  # they are not compressed
    position = Position(record.epoch, record.step, record.total, record.history)
    return file, position, [arrays[name] for name in sorted(arrays)]
