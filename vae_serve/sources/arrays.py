"""Pictures that are numbers already."""

from collections import Counter
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from vae_serve.errors import SourceError
from vae_serve.images.array_pixels import is_deep
from vae_serve.sources.described import Described, Unchanged
from vae_serve.sources.labels import labels_of, one_for_each
from vae_serve.sources.names import Labels, Names, Numbers
from vae_serve.sources.npy import ArrayFile

Array = npt.NDArray[Any]

_LOOKED_AT = 1024  # pictures at a time


class Arrays:
    """Pictures (n, H, W, C), bytes 0..255, other integers, truth values or floats 0..1, with their labels (n,) where
    known.
    """

    def __init__(
        self,
        kind: str,
        images: Array | ArrayFile,
        labels: Array | None,
        *,
        where: str,
        stamp: object,
        source: "Described[Arrays] | None" = None,
        deep: bool | None = None,
    ) -> None:
        """`stamp` changes when the file does; `source` is the file, for other processes, or None where there is none.

        `deep` as `array_pixels` has it; None: it is found out.

        Raises:
            SourceError: the array's shape or type is none of pictures, or the labels are not theirs.
        """
        if images.dtype.kind not in "buif":
            raise SourceError(f"{where} holds {images.dtype}; pictures are integers 0..255 or floats 0..1")
        if images.ndim not in {3, 4}:
            raise SourceError(f"{where} has the shape {images.shape}; pictures are (n, H, W) or (n, H, W, C)")
        if 0 in images.shape:
            raise SourceError(f"{where} holds no pictures: its shape is {images.shape}")
        self._labels = None if labels is None else one_for_each(labels, len(images), where)
        self.kind, self.where = kind, where
        self.dtype = images.dtype
        self.shape: tuple[int, ...] = images.shape[1:] if images.ndim == 4 else (*images.shape[1:], 1)  # of a picture
        self.names: Names = Numbers(len(images))
        self.skipped: Counter[str] = Counter()
        self._images, self._stamp, self._source = images, stamp, source
        self.deep = self._is_deep() if deep is None else deep
        self._first = 0  # the row of the first picture

    def select(self, rows: range) -> "Described[Arrays]":
        """The file; of arrays that are in memory alone, the pictures and labels of some neighbouring rows."""
        if self._source:
            return Unchanged(self._source, self.fingerprint())
        labels = None if self._labels is None else self._labels[self._own(rows)]
        return ArrayRows(self.kind, self[rows], labels, self.where, rows.start, self.names, self.deep)

    def _is_deep(self) -> bool:
        if self.dtype.kind != "u" or self.dtype.itemsize != 2:
            return False
        starts = range(0, len(self._images), _LOOKED_AT)
        return is_deep(self.dtype, max(int(self._images[at : at + _LOOKED_AT].max()) for at in starts), self.where)

    def _own(self, rows: range) -> slice:
        """Where some rows of the job are in these arrays."""
        return slice(rows.start - self._first, rows.stop - self._first)

    def room(self, rows: int) -> Array:
        """Where `take` may put so many pictures: memory that is used again comes without a page fault each time."""
        return np.empty((rows if isinstance(self._images, ArrayFile) else 0, *self.shape), self.dtype)

    def take(self, rows: range, room: Array) -> Array:
        """Some neighbouring pictures, (n, H, W, C): in `room`, where they have to be read, until the next `take`."""
        if isinstance(self._images, ArrayFile):
            self._images.read(rows, room[: len(rows)])
            return room[: len(rows)]
        return self._images[self._own(rows)].reshape(len(rows), *self.shape)

    def __getitem__(self, rows: range) -> Array:
        """Some neighbouring pictures, (n, H, W, C)."""
        return self.take(rows, self.room(len(rows)))

    def labels(self, rows: range) -> Labels:
        """The labels as text."""
        if self._labels is None:
            return Labels((), np.full(len(rows), -1, np.int32))
        return labels_of(self._labels[self._own(rows)])

    def fingerprint(self) -> str:
        """The shape, the type, and the file's stamp."""
        return f"{self.dtype} {self.shape} {self._stamp}"


class ArrayRows(msgspec.Struct, frozen=True, eq=False):
    """Some rows of arrays that are in memory."""

    kind: str
    images: Array
    labels: Array | None
    where: str
    first: int
    """The row of the first picture."""
    names: Names
    deep: bool

    def open(self) -> Arrays:
        """The same rows, under their own numbers."""
        arrays = Arrays(self.kind, self.images, None, where=self.where, stamp="", deep=self.deep)
        # the labels are as `one_for_each` has left them: of a few rows it could take the same for one-hot ones
        arrays._labels, arrays._first, arrays.names = self.labels, self.first, self.names
        return arrays
