"""Arrays of images as training data: .npy and .npz, of any plain dtype."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vae_serve.errors import SourceError
from vae_serve.images.array_pixels import integers_to_bytes, is_deep
from vae_serve.images.pixels import Decode, PixelRule, to_bytes
from vae_serve.sources.npy import LONGEST_HEADER, MAGIC, open_array, parse_header
from vae_serve.sources.npz import NpzFile
from vae_serve.sources.readable import LocalFile, read_at
from vae_serve.sources.regular import regular_file

IMAGE_KEYS = ("images", "image", "x", "data", "arr_0")
LABEL_KEYS = ("labels", "label", "y")

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]
Labels = npt.NDArray[Any]  # integers, floats or text
Note = Callable[[str], None]  # told one line worth reading
Room = Callable[[tuple[int, ...]], Bytes]


@dataclass(frozen=True)
class Labelled:
    """Images (n, H, W, C) uint8 and their labels (n,), if any."""

    images: Bytes
    labels: Labels | None
    decode: Decode = "whole"  # of the rule that picture files among them were decoded by

    def part(self, rows: slice) -> "Labelled":
        """Some neighbouring rows, not copied."""
        return replace(self, images=self.images[rows], labels=None if self.labels is None else self.labels[rows])


def from_npy(file: Path, note: Note) -> Labelled:
    """The images of an .npy file, mapped where they are bytes.

    Raises:
        SourceError: it cannot be read, or is none.
    """
    stored = _load(file)
    if not isinstance(stored, np.ndarray):
        raise SourceError(f"{file} cannot be read: it is not an .npy file")
    return Labelled(as_bytes(stored, str(file), note), None)


def from_npz(file: Path, key: str, note: Note) -> tuple[Labelled, Labelled | None]:
    """Training and test set of an .npz file: x_train, y_train, x_test, y_test, as in Keras' own, or one array alone.

    That is the array `key`, or the one that is named or shaped like images; labels where some are named.

    Raises:
        SourceError: it cannot be read, or holds no such array.
    """
    stored = _load(file)
    if isinstance(stored, np.ndarray):  # an .npy file by another name
        return Labelled(as_bytes(stored, str(file), note), None), None
    with stored:
        lower = {name.lower(): name for name in stored.names}

        def array(name: str) -> Array:
            values = stored.load(name)
            return values if isinstance(values, np.ndarray) else values[:]

        def part(images: str, labels: str | None) -> Labelled:
            pixels = as_bytes(array(images), f"{file}: {images}", note)
            if labels is None:
                return Labelled(pixels, None)
            return Labelled(pixels, _labels(array(labels), len(pixels), f"{file}: {labels}"))

        if not key and "x_train" in lower:
            train = part(lower["x_train"], lower.get("y_train"))
            return train, part(lower["x_test"], lower.get("y_test")) if "x_test" in lower else None
        key = key or _only_images(file, stored)
        if key not in stored.names:
            raise SourceError(f"{file} holds no array {key!r}, but {', '.join(stored.names)}")
        beside = (key.replace("x", "y", 1).replace("X", "y", 1), *LABEL_KEYS) if key[0] in "xX" else LABEL_KEYS
        return part(key, next((lower[name] for name in beside if name in lower and lower[name] != key), None)), None


def _load(file: Path) -> Array | NpzFile:
    """An .npy file's array, mapped, or the arrays of an .npz file; their first bytes tell which it is."""
    with regular_file(file) as opened:
        head = read_at(LocalFile(opened), LONGEST_HEADER, 0)
    if not head.startswith(MAGIC):
        return NpzFile(file)
    header = parse_header(head, file)
    open_array(file)  # which refuses a file that is longer or shorter than its header says
    if not header.data_bytes:  # what cannot be mapped
        return np.empty(header.shape, header.dtype)
    return np.memmap(file, header.dtype, "r", header.size, header.shape, "F" if header.is_fortran else "C")


def _only_images(file: Path, stored: NpzFile) -> str:
    for key in IMAGE_KEYS:
        if key in stored.names:
            return key
    shaped = [name for name in stored.names if stored.dimensions(name) in {3, 4}]
    if len(shaped) != 1:
        raise SourceError(
            f"{file} holds {len(shaped)} arrays of pictures ({', '.join(stored.names)}); "
            f"say which: {file}:{(shaped or stored.names or ['NAME'])[0]}"
        )
    return shaped[0]


def _labels(labels: Array, images: int, what: str) -> Labels:
    """One label for each image, (n,): numbers, or text."""
    if labels.size != images:
        raise SourceError(f"{what} has {labels.size:,} labels for {images:,} images")
    labels = labels.ravel()
    if labels.dtype.kind == "S":
        return np.char.decode(labels, "utf-8", "backslashreplace")
    if labels.dtype.kind == "f" and np.isfinite(labels).all() and (labels == np.rint(labels)).all():
        return labels.astype(np.int64)
    if labels.dtype.kind not in "biufU":
        raise SourceError(f"{what} is of type {labels.dtype}; labels are numbers or text")
    return labels


def as_bytes(array: Array, what: str, note: Note) -> Bytes:
    """Pixels as (n, H, W, C) uint8.

    Bytes as they are; truth values and integers as `array_pixels` says; floats 0..1 rounded to 1/255.

    Raises:
        SourceError: another shape or type, no images, or a value out of range; `what` names the array.
    """
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or array.shape[-1] not in (1, 3):
        raise SourceError(f"{what} has the shape {array.shape}; images are (n, H, W), or (n, H, W, C) with C 1 or 3")
    if array.size == 0:
        raise SourceError(f"{what} has the shape {array.shape}: there is nothing in it")
    match array.dtype.kind:
        case "u" if array.dtype.itemsize == 1:
            return array
        case "b":
            return integers_to_bytes(array, deep=False)
        case "u" | "i":
            return _from_integers(array, what, note)
        case "f":
            return _from_floats(array, what)
    raise SourceError(f"{what} is of type {array.dtype}; pixels are integers 0 to 255 or floats 0 to 1")


def _from_integers(array: Array, what: str, note: Note) -> Bytes:
    low, high = int(array.min()), int(array.max())
    deep = is_deep(array.dtype, high, what)
    if deep:
        note(f"{what} holds {low:,} to {high:,} in uint16: taken for 0 to 65,535, and scaled to 0 to 255")
    if deep or (low >= 0 and high <= 255):
        return integers_to_bytes(array, deep)
    raise SourceError(f"{what} holds {low} to {high}; integer pixels are 0 to 255, or in uint16 0 to 65,535")


def _from_floats(array: Array, what: str) -> Bytes:
    broken = ~np.isfinite(array).all(axis=(1, 2, 3))
    if broken.any():
        first = int(np.argmax(broken))
        raise SourceError(f"{what} has pixels that are not numbers in {broken.sum()} images, the first is {first}")
    low, high = array.min(), array.max()
    if low < 0 or high > 1:
        raise SourceError(f"{what} holds {low:g} to {high:g}; float pixels are 0 to 1, divide them first")
    return to_bytes(array.astype(np.float32))


def resized(images: Bytes, size: tuple[int, int, int | None], room: Room) -> Bytes:
    """Images (n, H, W, C) at another size, by the pixel rule of picture files; `room` is where they go."""
    from vae_serve.images import pillow

    height, width, channels = size
    rule = PixelRule(height, width, channels or images.shape[-1])
    if rule.shape == images.shape[1:]:
        return images
    fitted = room((len(images), *rule.shape))
    for row, image in enumerate(images):
        pixels = np.ascontiguousarray(image[..., 0] if image.shape[-1] == 1 else image)
        fitted[row] = pillow.from_pixels(pixels, rule).pixels
    return fitted
