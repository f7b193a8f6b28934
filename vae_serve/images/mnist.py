"""The MNIST database of handwritten digits, packed into the package without loss.

Yann LeCun, Corinna Cortes, Christopher J.C. Burges; Creative Commons Attribution-ShareAlike 3.0. The four IDX files are
xz-compressed; `scripts/pack_mnist` makes them from the originals and checks the same published sums.
"""

import hashlib
import lzma
from importlib.resources import files
from typing import Literal

import numpy as np
import numpy.typing as npt

from vae_serve.errors import SourceError

Split = Literal["train", "test"]

# MD5 of the unzipped IDX files, as published with them. A sum against damage, not against an attacker.
PUBLISHED_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
_IMAGE_HEADER = 16  # magic, count, rows, columns: big-endian int32 each
_LABEL_HEADER = 8  # magic, count


def load(split: Split) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Images (n, 28, 28, 1), 0 = background and 255 = ink, and their labels (n,), 0..9.

    n is 60,000 for `train` and 10,000 for `test`, in the published order.

    Raises:
        SourceError: a packed file is missing or its contents are not the published ones.
    """
    stem = {"train": "train", "test": "t10k"}[split]
    images = np.frombuffer(_unpack(f"{stem}-images-idx3-ubyte"), np.uint8, offset=_IMAGE_HEADER)
    labels = np.frombuffer(_unpack(f"{stem}-labels-idx1-ubyte"), np.uint8, offset=_LABEL_HEADER)
    return images.reshape(-1, 28, 28, 1), labels


def _unpack(name: str) -> bytes:
    packed = files("vae_serve.images").joinpath("mnist_data", f"{name}.xz")
    try:
        contents = lzma.decompress(packed.read_bytes())
    except (OSError, lzma.LZMAError) as error:
        raise SourceError(f"the packaged MNIST file {name}.xz cannot be read ({error}); reinstall vae-serve") from error
    digest = hashlib.md5(contents, usedforsecurity=False).hexdigest()
    if digest != PUBLISHED_MD5[name]:
        raise SourceError(f"the packaged MNIST file {name}.xz is damaged (MD5 {digest}); reinstall vae-serve")
    return contents
