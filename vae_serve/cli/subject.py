"""What `evaluate` and `plot` look at: a run through Keras, or a bundle through ONNX Runtime, in one form."""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vae_serve.errors import SourceError
from vae_serve.model import bundle as bundles
from vae_serve.train import runs

if TYPE_CHECKING:
    from vae_serve.train.data import Dataset


@dataclass(frozen=True)
class Subject:
    """A model as two functions, and where it comes from."""

    path: Path
    is_run: bool
    encode: Callable[..., Any]  # image (n, H, W, C) to z_mean, z_log_var (n, d)
    decode: Callable[..., Any]  # z (n, d) to image
    image_shape: tuple[int, int, int]
    source: str  # of the images: what `vae_serve.train.data.load` takes
    image_size: str | None

    @property
    def runtime(self) -> str:
        """What runs the networks."""
        return "Keras" if self.is_run else "ONNX Runtime"

    def data(self) -> "Dataset":
        """The data set; its images fit the model."""
        from vae_serve.train import data

        found = data.load(self.source, self.image_size)
        if found.image_shape != self.image_shape:
            raise SourceError(
                f"--data {self.source} has images {found.image_shape}, {self.path} takes {self.image_shape}"
            )
        return found

    def history(self) -> list[dict[str, float]]:
        """The epochs of a run; a bundle has none."""
        file = self.path / "history.csv"
        if not self.is_run or not file.exists():
            return []
        with file.open(encoding="utf-8", newline="") as opened:
            return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(opened)]


def open_subject(model: Path | None, data: str | None, command: str) -> Subject:
    """The run or bundle at `model`, or the newest finished run; its own data set unless `data` names another.

    Raises:
        MissingExtra: a run without the extra `train`.
        RunError, BundleError: it is neither, unfinished, or damaged.
    """
    if model is not None and (model / bundles.MANIFEST).exists():
        return _bundle(model, data)
    run = runs.load(model) if model else runs.newest()
    from vae_serve.train import backend

    backend.start(command)
    from vae_serve.train.model import decode_with, encode_with

    config = run.record["config"]
    height, width, channels = config["image_shape"]
    return Subject(
        run.path,
        True,
        encode_with(run.encoder()),
        decode_with(run.decoder()),
        (height, width, channels),
        data or config["data"],
        config["image_size"],
    )


def _bundle(path: Path, data: str | None) -> Subject:
    from vae_serve.model.model import Model

    model = Model.load(path)
    return Subject(
        path,
        False,
        model.encode,
        model.decode,
        model.image_shape,
        data or str(model.manifest.data["name"]),
        None,
    )
