"""What `evaluate` and `plot` look at: a run through Keras, or a bundle through ONNX Runtime, in one form."""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vae_serve.api import arguments
from vae_serve.errors import RunError, SourceError
from vae_serve.model import bundle as bundles
from vae_serve.training import runs

if TYPE_CHECKING:
    from vae_serve.images.pixels import PixelRule
    from vae_serve.storage.object_url import Place
    from vae_serve.training.data import Dataset


@dataclass(frozen=True)
class Subject:
    """A model as two functions, and where it comes from."""

    path: "Place"
    is_run: bool
    encode: Callable[..., Any]  # image (n, H, W, C) float32 0..1 to z_mean, z_log_var (n, d)
    decode: Callable[..., Any]  # z (n, d) to image (n, H, W, C) float32 0..1
    rule: "PixelRule"  # from a picture to the model's image
    trained_on: dict[str, Any]  # `config` and `data` as a run.json has them
    source: str | None  # --data; None: what the model was trained on

    @property
    def runtime(self) -> str:
        """What runs the networks."""
        return "Keras" if self.is_run else "ONNX Runtime"

    def data(self, note: Callable[[str], None]) -> "Dataset":
        """The data set: the model's own, which must not have changed, or another whose pictures are made to fit.

        Raises:
            SourceError: it cannot be read, or its images are arrays that do not fit.
            RunError: the model's own data have changed.
        """
        from vae_serve.training import data

        if self.source is None:
            return data.load_again(self.trained_on, str(self.path), note)
        dataset = data.load(self.source, rule=self.rule, note=note)
        if dataset.image_shape != self.rule.shape:
            raise SourceError(
                f"--data {self.source} has images {dataset.image_shape}, {self.path} takes {self.rule.shape}; "
                "pictures are made to fit, arrays are not: resize them first"
            )
        return dataset

    def history(self) -> list[dict[str, float]]:
        """The epochs of a run; a bundle has none.

        Raises:
            RunError: history.csv is damaged.
        """
        if not self.is_run or not isinstance(self.path, Path):
            return []
        file = self.path / "history.csv"
        if not file.exists():
            return []
        try:
            text = runs.read_plain(file, HISTORY_LIMIT).decode("utf-8")
            rows = list(csv.DictReader(text.splitlines()))
            return [{name: float(value) for name, value in row.items() if value} for row in rows]
        except (ValueError, TypeError, csv.Error) as error:
            raise RunError(f"{file} is damaged: {error}") from error


HISTORY_LIMIT = 1 << 24  # bytes


def open_subject(model: str | None, data: str | None, command: str) -> Subject:
    """The run or bundle at `model`, or the newest finished run; its own data set unless `data` names another.

    Raises:
        MissingExtra: a run without the extra `train`.
        RunError, BundleError: it is neither, unfinished, or damaged.
    """
    place = arguments.place_or_none("model", model)
    if place is not None and (not isinstance(place, Path) or (place / bundles.MANIFEST).exists()):
        return _bundle(place, data)
    run = runs.load(place) if place else runs.newest()
    from vae_serve.training import backend

    backend.start(command)
    from vae_serve.training.model import decode_with, encode_with

    return Subject(
        run.path,
        True,
        encode_with(run.encoder()),
        decode_with(run.decoder()),
        run.rule,
        run.record,
        data,
    )


def _bundle(path: "Place", data: str | None) -> Subject:
    from vae_serve.images.pixels import PixelRule
    from vae_serve.model.model import Model
    from vae_serve.training.data import KERAS_NAMES

    model = Model.load(path)
    manifest = model.manifest
    name = str(manifest.data.get("name"))
    if data is None and name not in ("mnist", *KERAS_NAMES):  # a path in a bundle is somebody else's
        raise SourceError(f"{path} was trained on {name!r}, which does not come with it; name a data set with --data")
    config = {"data": name, "image_shape": manifest.image_shape}
    trained_on = {"config": config, "data": {"sha256": manifest.data.get("sha256")}}
    return Subject(path, False, model.encode, model.decode, PixelRule.from_json(manifest.pixels), trained_on, data)
