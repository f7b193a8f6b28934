"""A training run on disk: what it holds, how it is found, and how its files are written whole or not at all.

    NAME/run.json       config, data and code fingerprints, versions, status, metrics
         config.toml    the configuration, to train again with: vae-serve train --config
         history.csv    one row for each epoch
         encoder.keras, decoder.keras     plain Keras models, there once the run is finished
         checkpoints/   to go on from, see `vae_serve.train.checkpoints`
         plots/

Finding and listing runs needs no Keras; opening their networks does.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vae_serve.errors import BundleError, RunError
from vae_serve.model import files
from vae_serve.storage.publish import replace_file

SCHEMA_VERSION = 1
RECORD = "run.json"
RECORD_LIMIT = 16 << 20  # bytes of a run.json
RUNS = Path("runs")

Json = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """A run's folder and its run.json."""

    path: Path
    record: Json

    @property
    def finished(self) -> bool:
        """Whether training came to its end."""
        return bool(self.record["status"] == "finished")

    def encoder(self) -> Any:
        """The Keras model image -> [z_mean, z_log_var], loaded in safe mode."""
        return self._network("encoder.keras")

    def decoder(self) -> Any:
        """The Keras model z -> image, loaded in safe mode."""
        return self._network("decoder.keras")

    def _network(self, name: str) -> Any:
        import keras

        if not self.finished:
            raise RunError(
                f"{self.path} is {self.record['status']}; go on with: vae-serve train --resume --out {self.path}"
            )
        file = self.path / name
        try:
            return keras.models.load_model(file, compile=False, safe_mode=True)
        except Exception as error:  # zip, JSON, HDF5 and Keras each raise their own kinds
            raise RunError(f"{file} cannot be loaded: {error}") from error


def load(path: Path) -> Run:
    """The run in this folder, finished or not.

    Raises:
        RunError: there is none, or its run.json is damaged.
    """
    file = path / RECORD
    try:
        record = json.loads(files.read_file(file, RECORD_LIMIT))
        version, _ = record["schema_version"], record["status"]
    except FileNotFoundError:
        raise RunError(f"{path} is no run: it has no {RECORD}") from None
    except BundleError as error:
        raise RunError(str(error)) from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise RunError(f"{file} cannot be read: {error!r:.200}") from error
    if version != SCHEMA_VERSION:
        raise RunError(f"{file} has schema version {version!r}; this vae-serve reads {SCHEMA_VERSION}")
    return Run(path, record)


def every(folder: Path = RUNS) -> list[Run]:
    """The runs under a folder, the one that changed last at the end."""
    # a hidden folder is a run that was killed before it appeared under its name
    records = sorted(folder.glob(f"[!.]*/{RECORD}"), key=lambda file: file.lstat().st_mtime_ns)
    return [load(file.parent) for file in records]


def newest(folder: Path = RUNS) -> Run:
    """The finished run that changed last.

    Raises:
        RunError: there is none.
    """
    finished = [run for run in every(folder) if run.finished]
    if not finished:
        raise RunError(f"no finished run under {folder}{os.sep}; make one: vae-serve train")
    return finished[-1]


def newest_unfinished(folder: Path = RUNS) -> Run:
    """The run that changed last of those that can be gone on with.

    Raises:
        RunError: there is none.
    """
    unfinished = [run for run in every(folder) if run.record["status"] in ("running", "interrupted")]
    if not unfinished:
        raise RunError(f"no unfinished run under {folder}{os.sep}; name one with --out")
    return unfinished[-1]


def free_path(name: str, folder: Path = RUNS) -> Path:
    """A folder of this name that does not exist yet: NAME, NAME-2, NAME-3, ..."""
    path, number = folder / name, 1
    while path.exists():
        number += 1
        path = folder / f"{name}-{number}"
    return path


def write_record(path: Path, record: Json) -> None:
    """Replaces run.json."""
    write_whole(path / RECORD, (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode())


def write_whole(file: Path, contents: bytes) -> None:
    """Writes or replaces a file of a run: whoever looks finds the old one or the new one, never a part."""
    replace_file(file, lambda opened: opened.write(contents))
