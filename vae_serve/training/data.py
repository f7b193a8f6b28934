"""The images to train on: by name or from files, always as bytes. Needs Keras only for Keras' own data sets."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vae_serve.errors import RunError, SourceError
from vae_serve.images import mnist
from vae_serve.images.pixels import Decode, PixelRule
from vae_serve.sources.names import shown
from vae_serve.training import read
from vae_serve.training.array_files import Labels, Note, as_bytes, resized
from vae_serve.training.config import parse_image_size

KERAS_NAMES = ("fashion-mnist", "cifar10", "cifar100")  # fetched by keras.datasets, kept in ~/.keras
CHUNK = 4096  # images at a time where a data set may be larger than the memory
TEST_SHARE = 10  # where the source has no test set, the last so many-th part becomes one

Bytes = npt.NDArray[np.uint8]


def _silent(_: str) -> None:
    """Ignores the message."""


@dataclass(frozen=True)
class Dataset:
    """Images of one shape, and their labels where the source has any. The arrays may be mapped from a file."""

    name: str
    licence: str
    train_images: Bytes  # (n, H, W, C)
    train_labels: Labels | None  # (n,)
    test_images: Bytes
    test_labels: Labels | None
    decode: Decode = "whole"  # of the rule that picture files among them were decoded by

    @property
    def rule(self) -> PixelRule:
        """By which other pictures become such images."""
        return PixelRule(*self.image_shape, decode=self.decode)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        height, width, channels = self.train_images.shape[1:]
        return height, width, channels

    @cached_property
    def sha256(self) -> str:
        """A fingerprint of all images, in order."""
        digest = hashlib.sha256()
        for images in (self.train_images, self.test_images):
            digest.update(str(images.shape).encode())
            for start in range(0, len(images), CHUNK):
                digest.update(np.ascontiguousarray(images[start : start + CHUNK]).data)
        return digest.hexdigest()


def load(
    source: str,
    image_size: str | None = None,
    rule: PixelRule | None = None,
    note: Note = _silent,
    decode: Decode = "scaled",
) -> Dataset:
    """The data set of this name, or at this path.

    Names: `mnist` (packaged), and KERAS_NAMES where there is a network. Paths: an .npz file with x_train, and y_train,
    x_test, y_test where there are any; a folder of the four IDX files; any source that `embed` reads. A folder may have
    `train` and `test` in it; the next level is the label. Pictures below a folder that vae-serve wrote itself are left
    out.
    `image_size`, HxW or HxWxC, is what images are resized to; without it all must be of one size, and have 3 channels
    where one of them is in colour. `rule` is that of a model: its word counts for pictures, while arrays stay as they
    are. Without it pictures are decoded as `decode` says. `note` is told what a person should know of.

    Raises:
        UsageError: `image_size` is none.
        SourceError: no such data set, or data that cannot be trained on; the message says why.
    """
    fit = read.Fit(None if image_size is None else parse_image_size(image_size), rule, decode)
    if source == "mnist":
        return _resized(_mnist(), fit)
    if source in KERAS_NAMES:
        return _resized(_keras(source, note), fit)
    path = Path(source)
    if source.replace("-", "").isalnum() and not path.exists():
        known = ", ".join(("mnist", *KERAS_NAMES))
        raise SourceError(f"--data {source}: no data set of that name ({known}), and no such folder")
    train, test = read.source(source, fit, note)
    if test is None:
        kept = len(train.images) - len(train.images) // TEST_SHARE
        train, test = train.part(slice(kept)), train.part(slice(kept, None))
    if len(test.images) == 0:
        raise SourceError(f"{path} has too few images: {len(train.images)}, and none is left for a test set")
    if train.images.shape[1:] != test.images.shape[1:]:
        raise SourceError(
            f"{path}: training images are {train.images.shape[1:]}, test images {test.images.shape[1:]}; "
            "they must have one shape"
        )
    name = shown(os.fsencode(path.resolve().stem))
    decoded: Decode = "scaled" if "scaled" in (train.decode, test.decode) else "whole"
    return Dataset(name, "unknown", train.images, train.labels, test.images, test.labels, decoded)


def load_again(record: Mapping[str, Any], whose: str, note: Note = _silent) -> Dataset:
    """The data set that a run was trained on, from the record of the run: by the same rule, and the same images.

    Raises:
        RunError: the images are not those; names both fingerprints. `whose` names the run.
        SourceError: they are no longer there, or cannot be read.
    """
    config = record["config"]
    # what came of --image-size, or of the images themselves: an older version may have decided otherwise
    size = "x".join(map(str, config["image_shape"]))
    dataset = load(config["data"], size, note=note, decode=record.get("pixels", {}).get("decode", "whole"))
    require_same(dataset, record["data"]["sha256"], whose, config["data"])
    return dataset


def require_same(data: Dataset, sha256: str, whose: str, source: str) -> None:
    """Makes sure that images read again are those that a model was trained on.

    Raises:
        RunError: they are not; names both fingerprints.
    """
    if (actual := data.sha256) != sha256:
        raise RunError(
            f"{whose} was trained on other images: those of --data {source} have the SHA-256 {actual}, "
            f"the record says {sha256}"
        )


def _resized(data: Dataset, fit: read.Fit) -> Dataset:
    if fit.size is None:
        return data
    train, test = (resized(images, fit.size, read.room) for images in (data.train_images, data.test_images))
    return replace(data, train_images=train, test_images=test)


def _mnist() -> Dataset:
    train_images, train_labels = mnist.load("train")
    test_images, test_labels = mnist.load("test")
    licence = "CC BY-SA 3.0, Yann LeCun, Corinna Cortes, Christopher J.C. Burges"
    return Dataset("mnist", licence, train_images, train_labels, test_images, test_labels)


def _keras(name: str, note: Note) -> Dataset:
    import keras

    module = getattr(keras.datasets, name.replace("-", "_"))
    try:
        (train_images, train_labels), (test_images, test_labels) = module.load_data()
    except Exception as error:  # Keras raises a plain Exception where the download fails
        raise SourceError(f"--data {name}: Keras could not fetch it ({error}); it needs the network once") from error
    images = [as_bytes(array, name, note) for array in (train_images, test_images)]
    return Dataset(name, "see keras.io/api/datasets", images[0], train_labels.ravel(), images[1], test_labels.ravel())
