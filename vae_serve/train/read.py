"""Images and labels for training from any source of `vae_serve.images`, and from Keras' .npz layout.

What cannot be trained on is refused here, with its name: in training a bad picture is an error, not a row.
"""

import io
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vae_serve.errors import ImageError, SourceError
from vae_serve.images.decode import Decoder
from vae_serve.images.pixels import PixelRule, to_bytes
from vae_serve.sources import arrays, names, opening
from vae_serve.sources.files import Pictures
from vae_serve.sources.names import shown

IN_MEMORY = 1 << 30  # bytes of decoded pictures; more are kept in a temporary file and mapped
AT_ONCE = 1024  # pictures asked for together

Bytes = npt.NDArray[np.uint8]
Labels = npt.NDArray[Any]


@dataclass(frozen=True)
class Labelled:
    """Images (n, H, W, C) uint8 and their labels (n,), if any."""

    images: Bytes
    labels: Labels | None

    def part(self, rows: slice) -> "Labelled":
        """Some neighbouring rows, not copied."""
        return Labelled(self.images[rows], None if self.labels is None else self.labels[rows])


def as_bytes(array: npt.NDArray[Any], what: str) -> Bytes:
    """Pixels as (n, H, W, C) uint8: integers 0..255 as they are, floats 0..1 rounded to 1/255.

    Raises:
        SourceError: another shape or type, no images, or a value out of range; `what` names the array.
    """
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or array.shape[-1] not in (1, 3):
        raise SourceError(f"{what} has the shape {array.shape}; images are (n, H, W), or (n, H, W, C) with C 1 or 3")
    if array.size == 0:
        raise SourceError(f"{what} has the shape {array.shape}: there is nothing in it")
    if array.dtype == np.uint8:
        return array
    if np.issubdtype(array.dtype, np.integer):
        if array.min() < 0 or array.max() > 255:
            raise SourceError(f"{what} holds {array.min()} to {array.max()}; integer pixels are 0 to 255")
        return array.astype(np.uint8)
    if not np.issubdtype(array.dtype, np.floating):
        raise SourceError(f"{what} is of type {array.dtype}; pixels are integers 0 to 255 or floats 0 to 1")
    broken = ~np.isfinite(array).all(axis=(1, 2, 3))
    if broken.any():
        first = int(np.argmax(broken))
        raise SourceError(f"{what} has pixels that are not numbers in {broken.sum()} images, the first is {first}")
    low, high = array.min(), array.max()
    if low < 0 or high > 1:
        raise SourceError(f"{what} holds {low:g} to {high:g}; float pixels are 0 to 1, divide them first")
    return to_bytes(array.astype(np.float32))


def source(name: str, image_size: str | None) -> tuple[Labelled, Labelled | None]:
    """The training set at a path, and its test set where the source has one.

    Raises:
        SourceError: it is not there, or cannot be trained on.
    """
    path = Path(name)
    if path.suffix == ".npz" and path.exists() and (found := _keras_npz(path)):
        return found
    if path.is_dir():
        files = [sorted(path.glob(f"{stem}-images*-ubyte*")) for stem in ("train", "t10k")]
        if files[0]:
            train, test = (_opened(str(here[0]), None) if here else None for here in files)
            return train or _opened(name, None), test
        if (path / "train").is_dir() and (path / "test").is_dir():
            return _opened(str(path / "train"), image_size), _opened(str(path / "test"), image_size)
    return _opened(name, image_size), None


def _keras_npz(file: Path) -> tuple[Labelled, Labelled | None] | None:
    """x_train, y_train, x_test, y_test of an .npz file, as in Keras' own; None where there is no x_train."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            found = {name: stored[name] for name in ("x_train", "y_train", "x_test", "y_test") if name in stored}
    except Exception as error:  # numpy, zip and zlib each raise their own kinds
        raise SourceError(f"{file} cannot be read as .npz: {error}") from error
    if "x_train" not in found:
        return None

    def part(x: str, y: str) -> Labelled:
        images, labels = as_bytes(found[x], f"{file}: {x}"), found.get(y)
        if labels is not None and labels.size != len(images):
            raise SourceError(f"{file}: {y} has {labels.size:,} labels for {len(images):,} images")
        return Labelled(images, None if labels is None else labels.ravel())

    return part("x_train", "y_train"), part("x_test", "y_test") if "x_test" in found else None


def _opened(name: str, image_size: str | None) -> Labelled:
    found = opening.open_source(name)
    if isinstance(found, arrays.Arrays):
        every = range(found.names.count)
        return Labelled(as_bytes(found[every], found.where), _as_text(found.labels(every)))
    return _decoded(name, found, image_size)


def _decoded(name: str, pictures: Pictures, image_size: str | None) -> Labelled:
    """Decoded by the pixel rule of `embed`; shuffled, always alike: a part of a sorted folder is of few classes."""
    count = pictures.names.count
    place = np.random.Generator(np.random.Philox(key=[0, 0])).permutation(count)
    decoder, size, images = None, (0, 0), np.empty(0, np.uint8)
    for start in range(0, count, AT_ONCE):
        rows = range(start, min(start + AT_ONCE, count))
        for row, file, data in zip(rows, pictures.names[rows], pictures.read(rows), strict=True):
            where = f"{name}: {shown(file)}"
            try:
                if isinstance(data, ImageError):
                    raise data
                if decoder is None:
                    decoder = Decoder(_rule(data, image_size))
                    images = _room((count, *decoder.rule.shape))
                picture = decoder(data)
            except ImageError as error:
                raise SourceError(f"{where} cannot be trained on: {error}; remove it, or mend it") from error
            size = size if row else picture.size
            if image_size is None and picture.size != size:
                raise SourceError(
                    f"{name} holds two sizes: the first picture is {_text(size)}, {shown(file)} is "
                    f"{_text(picture.size)}; give --image-size {_text(size)} to make them fit"
                )
            images[place[row]] = picture.pixels
    labels = _as_text(pictures.labels(range(count)))
    if labels is not None:
        labels = labels[np.argsort(place)]
    return Labelled(images, labels)


def _text(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"


def _as_text(labels: names.Labels) -> Labels | None:
    if labels.codes.min() < 0:
        return None
    return np.array([category.decode() for category in labels.categories])[labels.codes]


def _rule(data: bytes, image_size: str | None) -> PixelRule:
    """The rule that makes all pictures like the first one, or of the size asked for."""
    from PIL import Image

    from vae_serve.images import pillow

    try:
        with Image.open(io.BytesIO(data), formats=pillow.FORMATS) as image:
            grey = image.mode in ("1", "L", "LA", "I", "I;16", "F")
            width, height = image.size
    except Exception as error:  # a decoder over any bytes raises anything
        raise ImageError("damaged", f"it cannot be decoded: {error}") from error
    if image_size is None:
        return PixelRule(height, width, 1 if grey else 3)
    sizes = image_size.lower().split("x")
    if len(sizes) not in (2, 3) or not all(size.isdecimal() and int(size) > 0 for size in sizes):
        raise SourceError(f"--image-size {image_size}: write HxW or HxWxC, such as 28x28 or 64x64x3")
    channels = int(sizes[2]) if len(sizes) == 3 else (1 if grey else 3)
    if channels not in (1, 3):
        raise SourceError(f"--image-size {image_size}: an image has 1 channel (grey) or 3 (RGB)")
    return PixelRule(int(sizes[0]), int(sizes[1]), channels)


def _room(shape: tuple[int, ...]) -> Bytes:
    if np.prod(shape, dtype=np.int64) <= IN_MEMORY:
        return np.empty(shape, np.uint8)
    with tempfile.TemporaryFile() as file:  # the mapping keeps it alive
        return np.memmap(file, np.uint8, "w+", shape=shape)
