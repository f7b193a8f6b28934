"""The test images that an export compares on, kept in the run, so that an export needs no data set."""

import hashlib
import io
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from vae_serve.errors import RunError
from vae_serve.training import data, stored
from vae_serve.training.runs import Run, read_plain

FILE = "gate_inputs.npz"
COUNT = 10_000  # images at most: MNIST's whole test set
BYTES = 64 << 20  # of pixels at most, but at least one image
OVERHEAD = 1 << 16  # bytes of headers, and what compression adds to noise

Bytes = npt.NDArray[np.uint8]


def chosen(test_images: Bytes) -> Bytes:
    """The first test images (n, H, W, C): as many as `COUNT` and `BYTES` allow."""
    return test_images[: max(1, min(COUNT, BYTES // test_images[0].nbytes))]


def packed(images: Bytes) -> tuple[bytes, dict[str, Any]]:
    """The file's contents, an .npz with the array `images`, and what run.json says of it."""
    contents = io.BytesIO()
    np.savez_compressed(contents, images=images)
    note = {"images": len(images), "sha256": hashlib.sha256(contents.getbuffer()).hexdigest()}
    return contents.getvalue(), note


def of(run: Run) -> Bytes:
    """The images (n, H, W, C) that the copies of a run's model are compared on, at the model's size.

    A run of before they were kept reads its data set again, which must not have changed.

    Raises:
        RunError: the file is missing or damaged, or the data changed.
        SourceError: the data of an older run cannot be read.
    """
    note = run.record.get("gate")
    if note is None:
        return chosen(data.load_again(run.record, str(run.path)).test_images)
    file, limit = run.path / FILE, BYTES + OVERHEAD + math.prod(run.image_shape)
    try:
        contents = read_plain(file, limit)
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(f"{file} is missing: an export compares on its images; train the run again") from None
    digest = hashlib.sha256(contents).hexdigest()
    if digest != note["sha256"]:
        raise RunError(f"{file} is damaged: its SHA-256 is {digest}, run.json says {note['sha256']}")
    images = stored.arrays(contents, limit, file).get("images")
    if images is None:
        raise RunError(f"{file} holds no array `images`; train the run again")
    shape = (note["images"], *run.image_shape)
    if images.dtype != np.uint8 or images.shape != shape:
        raise RunError(f"{file} holds {images.dtype} {images.shape}, not uint8 {shape} as run.json says")
    return images
