"""A training run on disk: its contents, how it is found, and how its files are read, and written whole or not at all.

    NAME/run.json       config, data and code fingerprints, versions, status, metrics; see `vae_serve.training.record`
         config.toml    the configuration, to train again with: vae-serve train --config
         history.csv    one row for each epoch
         encoder.keras, decoder.keras     plain Keras models, of a finished run
         gate_inputs.npz     the test images that an export compares on, see `vae_serve.training.gate_inputs`
         checkpoints/   to resume from, see `vae_serve.training.checkpoints`
         plots/

Finding and listing runs needs no Keras; opening their networks does.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vae_serve.errors import RunError
from vae_serve.storage import regular
from vae_serve.storage.publish import Destination, publish_folder, replace_file
from vae_serve.training import record as records
from vae_serve.training.record import Json

if TYPE_CHECKING:
    import keras

    from vae_serve.images.pixels import PixelRule

RECORD = "run.json"
RECORD_LIMIT = 1 << 20  # bytes; a record has some three kilobytes
RUNS = Path("runs")


@dataclass(frozen=True)
class Run:
    """A run's folder and its run.json, checked."""

    path: Path
    record: Json

    @property
    def finished(self) -> bool:
        """Whether training came to its end."""
        return bool(self.record["status"] == "finished")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the model's images."""
        height, width, channels = self.record["config"]["image_shape"]
        return height, width, channels

    @property
    def rule(self) -> "PixelRule":
        """From a picture to the model's image."""
        from vae_serve.images.pixels import PixelRule

        return PixelRule(*self.image_shape, decode=self.record["pixels"].get("decode", "whole"))

    def encoder(self) -> "keras.Model":
        """The Keras model image -> [z_mean, z_log_var], loaded in safe mode."""
        return self._network("encoder.keras")

    def decoder(self) -> "keras.Model":
        """The Keras model z -> image, loaded in safe mode."""
        return self._network("decoder.keras")

    def _network(self, name: str) -> "keras.Model":
        import keras

        if not self.finished:
            raise RunError(
                f"{self.path} is {self.record['status']}; resume with: vae-serve train --resume --out {self.path}"
            )
        file = self.path / name
        if not file.is_file():
            raise RunError(f"{file} is missing, or is not a file")
        try:
            return keras.models.load_model(file, compile=False, safe_mode=True)
        except Exception as error:  # zip, JSON, HDF5 and Keras each raise their own kinds
            raise RunError(f"{file} cannot be loaded: {error}") from error


def load(path: Path) -> Run:
    """The run in this folder, finished or not.

    Raises:
        RunError: there is none, or its run.json is damaged; says which field is wrong.
    """
    file = path / RECORD
    try:
        contents = read_plain(file, RECORD_LIMIT)
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(f"{path} is not a run: it has no {RECORD}") from None
    try:
        return Run(path, records.checked(contents))
    except ValueError as error:
        raise RunError(f"{file} cannot be used: {error}") from error


def every(folder: Path = RUNS) -> tuple[list[Run], list[RunError]]:
    """The runs under a folder, the one that changed last at the end; and what is wrong with those that are damaged."""
    runs, damaged = [], []
    # a hidden folder is a run that was killed before it appeared under its name
    for file in sorted(folder.glob(f"[!.]*/{RECORD}"), key=_changed):
        try:
            runs.append(load(file.parent))
        except RunError as error:
            damaged.append(error)
    return runs, damaged


def _changed(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:  # a link to nowhere: `load` says so
        return 0


def newest(folder: Path = RUNS) -> Run:
    """The finished run that changed last.

    Raises:
        RunError: there is none.
    """
    return _newest(folder, ("finished",), f"no finished run under {folder}{os.sep}; make one: vae-serve train")


def newest_unfinished(folder: Path = RUNS) -> Run:
    """The run that changed last of those that can be resumed.

    Raises:
        RunError: there is none.
    """
    missing = f"no unfinished run under {folder}{os.sep}; name one with --out"
    return _newest(folder, ("running", "interrupted"), missing)


def _newest(folder: Path, statuses: tuple[str, ...], missing: str) -> Run:
    runs, damaged = every(folder)
    fitting = [run for run in runs if run.record["status"] in statuses]
    if not fitting:
        raise RunError("; ".join([missing, *map(str, damaged)]))
    return fitting[-1]


def free_path(name: str, folder: Path = RUNS) -> Path:
    """A folder of this name that does not exist yet: NAME, NAME-2, NAME-3, ..."""
    path, number = folder / name, 1
    while path.exists():
        number += 1
        path = folder / f"{name}-{number}"
    return path


def read_plain(file: Path, limit: int) -> bytes:
    """A file of a run, of at most `limit` bytes. A pipe or device, which might never end, is not read.

    Raises:
        FileNotFoundError: it is not there.
        RunError: it cannot be read, is not a plain file, or is larger.
    """
    try:
        return regular.read_file(file, limit)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise RunError(f"{file} cannot be read: {error.strerror}") from error


def create(path: Path, files: dict[str, bytes], record: Json, overwrite: bool) -> None:
    """A new run: its folder appears under its name with `files` and all else that a run needs, or not at all.

    Raises:
        OutputError: `path` exists and `overwrite` is not given, or it is not a run, or cannot be written.
    """
    with publish_folder(Destination(path, "a run", _is_run, overwrite)) as folder:
        (folder / "checkpoints").mkdir()
        (folder / "plots").mkdir()
        for name, contents in files.items():
            write_whole(folder / name, contents)
        write_record(folder, record)


def _is_run(path: Path) -> bool:
    record = path / RECORD
    return record.is_file() and not record.is_symlink()


def write_record(path: Path, record: Json) -> None:
    """Replaces run.json. A number that is not finite becomes null: JSON has no word for it."""
    text = json.dumps(records.finite(record), indent=1, ensure_ascii=False, allow_nan=False)
    # a path that is not UTF-8 holds lone surrogates; their backslash escapes are JSON's own
    write_whole(path / RECORD, (text + "\n").encode("utf-8", "backslashreplace"))


def write_whole(file: Path, contents: bytes) -> None:
    """Writes or replaces a file of a run: a reader finds the old one or the new one, never a part."""
    replace_file(file, lambda opened: opened.write(contents))
