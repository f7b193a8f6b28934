"""The images to train on: by name or from files, always as bytes. Needs no Keras."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vae_serve.errors import SourceError
from vae_serve.images import mnist

Bytes = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Dataset:
    """Images of one shape, and their labels where the source has any."""

    name: str
    licence: str
    train_images: Bytes  # (n, H, W, C)
    train_labels: Labels | None  # (n,)
    test_images: Bytes
    test_labels: Labels | None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        height, width, channels = self.train_images.shape[1:]
        return height, width, channels

    @property
    def sha256(self) -> str:
        """A fingerprint of all images, in order."""
        digest = hashlib.sha256()
        for images in (self.train_images, self.test_images):
            digest.update(str(images.shape).encode())
            digest.update(np.ascontiguousarray(images).data)
        return digest.hexdigest()


def load(source: str) -> Dataset:
    """The data set of this name, or in this file.

    Names: `mnist` (packaged). Files: .npz with x_train, and y_train, x_test, y_test where there are any.

    Raises:
        SourceError: an unknown name, or data that cannot be trained on; the message says why.
    """
    if source == "mnist":
        return _mnist()
    if source.endswith(".npz"):
        return _npz(Path(source))
    raise SourceError(f"--data {source}: no such data set or file")


def _mnist() -> Dataset:
    train_images, train_labels = mnist.load("train")
    test_images, test_labels = mnist.load("test")
    return Dataset(
        "mnist",
        "CC BY-SA 3.0, Yann LeCun, Corinna Cortes, Christopher J.C. Burges",
        train_images,
        train_labels.astype(np.int64),
        test_images,
        test_labels.astype(np.int64),
    )


def _npz(file: Path) -> Dataset:
    with np.load(file, allow_pickle=False) as arrays:
        images = {name: np.atleast_3d(arrays[name]) for name in ("x_train", "x_test")}
        labels = {name: arrays[name].astype(np.int64) if name in arrays else None for name in ("y_train", "y_test")}
    with_channels = {name: array[..., None] if array.ndim == 3 else array for name, array in images.items()}
    return Dataset(
        file.stem, "unknown", with_channels["x_train"], labels["y_train"], with_channels["x_test"], labels["y_test"]
    )
