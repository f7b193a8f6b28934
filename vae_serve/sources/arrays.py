"""Pictures that are numbers already: .npy, .npz, IDX files, the packaged MNIST."""

import gzip
import os
import struct
import weakref
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vae_serve.errors import SourceError
from vae_serve.images import mnist
from vae_serve.sources.names import Labels, Names, Numbers

Array = npt.NDArray[Any]

_IDX_BYTES = 0x08  # third byte of the magic number: unsigned bytes; the fourth is the number of dimensions
_IMAGE_KEYS = ("images", "image", "x", "data", "arr_0")
_LABEL_KEYS = ("labels", "label", "y")


Read = Callable[[range, Array], None]  # some neighbouring pictures into an array of their shape


class Arrays:
    """Pictures (n, H, W, C), bytes 0..255 or floats 0..1, with their labels (n,) where known."""

    def __init__(
        self, kind: str, images: Array, labels: Array | None, *, where: str, stamp: object, read: Read | None = None
    ) -> None:
        """`images` may be mapped from a file that `read` reads in its place; `stamp` changes when the file does.

        Raises:
            SourceError: the array's shape or type is none of pictures.
        """
        if images.dtype != np.uint8 and images.dtype.kind != "f":
            raise SourceError(f"{where} holds {images.dtype}; pictures are uint8 0..255 or floats 0..1")
        if images.ndim not in {3, 4}:
            raise SourceError(f"{where} has the shape {images.shape}; pictures are (n, H, W) or (n, H, W, C)")
        if not len(images):
            raise SourceError(f"{where} holds no pictures: its shape is {images.shape}")
        if labels is not None and len(labels) != len(images):
            raise SourceError(f"{where} has {len(images):,} pictures and {len(labels):,} labels")
        self.kind, self.where = kind, where
        self.dtype = images.dtype
        self.shape: tuple[int, ...] = images.shape[1:] if images.ndim == 4 else (*images.shape[1:], 1)  # of a picture
        self.names: Names = Numbers(len(images))
        self.skipped: Counter[str] = Counter()
        self._labels, self._stamp = labels, stamp
        self._images, self._read = images, read

    def room(self, rows: int) -> Array:
        """Where `take` may put so many pictures: memory that is used again comes without a page fault each time."""
        return np.empty((rows if self._read else 0, *self.shape), self.dtype)

    def take(self, rows: range, room: Array) -> Array:
        """Some neighbouring pictures, (n, H, W, C): in `room`, where they have to be read, until the next `take`."""
        if self._read is None:
            return self._images[rows.start : rows.stop].reshape(len(rows), *self.shape)
        self._read(rows, room[: len(rows)])
        return room[: len(rows)]

    def __getitem__(self, rows: range) -> Array:
        """Some neighbouring pictures, (n, H, W, C)."""
        return self.take(rows, self.room(len(rows)))

    def labels(self, rows: range) -> Labels:
        """The labels as text."""
        if self._labels is None:
            return Labels((), np.full(len(rows), -1, np.int32))
        found, codes = np.unique(self._labels[rows.start : rows.stop], axis=0, return_inverse=True)
        return Labels([str(label).encode() for label in found.tolist()], codes.reshape(-1).astype(np.int32))

    def fingerprint(self) -> str:
        """The shape, the type, and the file's stamp."""
        return f"{self.dtype} {self.shape} {self._stamp}"


def packaged(name: str) -> Arrays:
    """The test set that ships with the package."""
    images, labels = mnist.load("test")
    return Arrays("mnist", images, labels, where=name, stamp="")


def open_npy(path: Path) -> Arrays:
    """A .npy file. It is mapped to learn its shape, and read piece by piece: mapped pages would count as memory."""
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise _refused(path, error) from error
    if not isinstance(mapped, np.memmap) or not mapped.flags.c_contiguous:
        return Arrays("npy", mapped, None, where=str(path), stamp=_stamp(path))
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    size = mapped.nbytes // max(len(mapped), 1)
    start = mapped.offset

    def read(rows: range, room: Array) -> None:
        if os.preadv(file, [room.data], start + rows.start * size) != room.nbytes:
            raise SourceError(f"{path} was cut short while it was read")

    arrays = Arrays("npy", mapped, None, where=str(path), stamp=_stamp(path), read=read)
    weakref.finalize(arrays, os.close, file)
    return arrays


def open_npz(path: Path, key: str = "") -> Arrays:
    """A .npz file: the array `key`, or the one that is named or shaped like pictures; labels where some are named."""
    try:
        with np.load(path, allow_pickle=False) as found:
            key = key or _only_images(path, found)
            if key not in found.files:
                raise SourceError(f"{path} holds no array {key!r}, but {', '.join(found.files)}")
            images = found[key]
            labels = next((found[name] for name in _label_keys(key) if name in found.files and name != key), None)
    except (ValueError, EOFError, OSError, zlib.error) as error:
        raise _refused(path, error) from error
    return Arrays("npz", images, labels, where=f"{path}:{key}", stamp=_stamp(path))


def _only_images(path: Path, found: Any) -> str:
    for key in _IMAGE_KEYS:
        if key in found.files:
            return key
    shaped = [key for key in found.files if found[key].ndim in {3, 4}]
    if len(shaped) != 1:
        raise SourceError(
            f"{path} holds {len(shaped)} arrays of pictures ({', '.join(found.files)}); "
            f"say which: {path}:{(shaped or found.files or ['NAME'])[0]}"
        )
    return str(shaped[0])


def _label_keys(key: str) -> tuple[str, ...]:
    return (key.replace("x", "y", 1), *_LABEL_KEYS) if key.startswith("x") else _LABEL_KEYS


def open_idx(path: Path) -> Arrays:
    """An IDX file of bytes as MNIST has them, gzipped or not; labels from the file beside it that is named for them."""
    images = _read_idx(path)
    beside = path.with_name(path.name.replace("images-idx3", "labels-idx1").replace("images.idx3", "labels.idx1"))
    labels = _read_idx(beside) if beside != path and beside.exists() else None
    return Arrays("idx", images, labels, where=str(path), stamp=_stamp(path))


def _read_idx(path: Path) -> Array:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            zero, kind, dimensions = struct.unpack(">HBB", file.read(4))
            if zero or kind != _IDX_BYTES or not 1 <= dimensions <= 4:
                raise SourceError(f"{path} is no IDX file of bytes")
            shape = struct.unpack(f">{dimensions}I", file.read(4 * dimensions))
            size = int(np.prod(shape, dtype=np.int64))
            data = file.read(size + 1)  # one more than declared: a longer file is noticed, a gzip bomb gets no further
    except (OSError, EOFError, struct.error, zlib.error) as error:
        raise _refused(path, error) from error
    if len(data) != size:
        raise SourceError(f"{path} declares {shape} and holds {'more' if len(data) > size else f'{len(data):,} bytes'}")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _stamp(path: Path) -> tuple[int, int]:
    about = path.stat()
    return about.st_size, about.st_mtime_ns


def _refused(path: Path, error: Exception) -> SourceError:
    return SourceError(f"{path} cannot be read: {error}")
