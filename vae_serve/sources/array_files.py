"""Files of arrays: .npy, .npz and IDX files; and the packaged MNIST."""

from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from vae_serve.errors import SourceError
from vae_serve.images import mnist
from vae_serve.sources import npz
from vae_serve.sources.arrays import Arrays
from vae_serve.sources.labels import label_name
from vae_serve.sources.npy import MAGIC, ArrayFile, Header, open_array
from vae_serve.sources.readable import LocalFile, read_at
from vae_serve.sources.regular import regular_file
from vae_serve.sources.unpacking import unpacked_file

Array = npt.NDArray[Any]
Described = TypeVar("Described", "ArraySource", "IdxSource")

_IDX_BYTES = 0x08  # third byte of the magic number: unsigned bytes; the fourth is the number of dimensions
_IMAGE_NAMES = ("images", "image", "x", "data", "arr_0")


class PackagedSource(msgspec.Struct, frozen=True):
    """The test set that ships with the package."""

    name: str

    def open(self) -> Arrays:
        """Raises SourceError where the package is damaged."""
        images, labels = mnist.load("test")
        return Arrays("mnist", images, labels, where=self.name, stamp="", source=self)


class ArraySource(msgspec.Struct, frozen=True):
    """A .npy or .npz file, which of them its first bytes tell.

    Of an .npz the array `name`, or the one that is called or shaped like pictures; and labels where some are called so.
    """

    path: Path
    name: str = ""

    def open(self) -> Arrays:
        """Raises SourceError where it is damaged, or holds no pictures."""
        with regular_file(self.path) as file:
            start = read_at(LocalFile(file), len(MAGIC), 0)
        if start == MAGIC:
            if self.name:
                raise SourceError(f"{self.path} is one array, a .npy file; give it without :{self.name}")
            array, stamp = open_array(self.path)
            return Arrays("npy", array, None, where=str(self.path), stamp=stamp, source=_absolute(self))
        if not start.startswith(b"PK"):
            raise SourceError(f"{self.path} cannot be read: it is neither a .npy nor a .npz file")
        with npz.NpzFile(self.path) as archive:
            name = _images_name(archive, self.name)
            labels = label_name(name, archive.names)
            return Arrays(
                "npz",
                archive.load(name),
                None if labels is None else _labels(archive, labels),
                where=f"{self.path}:{name}",
                stamp=archive.stamp,
                source=_absolute(self),
            )


def _images_name(archive: npz.NpzFile, name: str) -> str:
    """The array that is asked for by name, called as pictures are, or alone in being shaped like them."""
    names = archive.names
    if name:
        if name not in names:
            raise SourceError(f"{archive.path} holds no array {name!r}, but {', '.join(names) or 'none at all'}")
        return name
    shaped = [other for other in names if archive.dimensions(other) in {3, 4}]
    called = [other for word in _IMAGE_NAMES for other in names if other.lower() == word]
    if called:
        return called[0]
    if not shaped and len(names) == 1:
        return names[0]  # whose shape or type is then refused
    if len(shaped) != 1:
        raise SourceError(
            f"{archive.path} holds {len(shaped)} arrays of pictures ({', '.join(names)}); "
            f"say which: {archive.path}:{(shaped or names or ['NAME'])[0]}"
        )
    return shaped[0]


def _labels(archive: npz.NpzFile, name: str) -> Array | None:
    if archive.dimensions(name) == 0:
        return None  # a single value is not a label of any picture
    labels = archive.load(name)
    return labels[:] if isinstance(labels, ArrayFile) else labels


class IdxSource(msgspec.Struct, frozen=True):
    """An IDX file of bytes as MNIST has them, gzipped or not; labels from the file beside it that is named for them."""

    path: Path

    def open(self) -> Arrays:
        """Raises SourceError where one of the two is damaged or does not fit the other."""
        images, stamp = _open_idx(self.path)
        name = self.path.name.replace("images-idx3", "labels-idx1").replace("images.idx3", "labels.idx1")
        beside = self.path.with_name(name)
        labels = _open_idx(beside)[0][:] if beside != self.path and beside.exists() else None
        return Arrays("idx", images, labels, where=str(self.path), stamp=stamp, source=_absolute(self))


def _absolute(source: Described) -> Described:
    """The same source for a process that may be in another folder."""
    return msgspec.structs.replace(source, path=source.path.absolute())


def _open_idx(path: Path) -> tuple[ArrayFile, tuple[int, int]]:
    with unpacked_file(path) as (file, stamp):
        magic = read_at(file, 4, 0)
        if len(magic) < 4:
            raise SourceError(f"{path} cannot be read as IDX: it has {len(magic)} bytes")
        if magic[:3] != bytes([0, 0, _IDX_BYTES]) or not 1 <= magic[3] <= 4:
            raise SourceError(f"{path} is not an IDX file of bytes")
        sizes = read_at(file, 4 * magic[3], 4)
        if len(sizes) < 4 * magic[3]:
            raise SourceError(f"{path} cannot be read as IDX: its header is cut short")
        shape = tuple(int.from_bytes(sizes[at : at + 4], "big") for at in range(0, len(sizes), 4))
        header = Header(np.dtype(np.uint8), shape, False, len(magic) + len(sizes))
        array = ArrayFile(file, header.size, header, path)
        if array.extra:
            raise SourceError(f"{path} declares {shape} and holds {array.extra:,} bytes more")
        return array, stamp
