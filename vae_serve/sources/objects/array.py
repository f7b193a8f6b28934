"""An array in a .npy object, read by ranges."""

from dataclasses import dataclass, replace

from vae_serve.errors import SourceError
from vae_serve.sources.arrays import Arrays
from vae_serve.sources.npy import ArrayFile, Header, array_in
from vae_serve.sources.objects.file import StoredFile
from vae_serve.sources.objects.stored import Stored


@dataclass(frozen=True)
class StoredArray:
    """An array whose header has been read."""

    stored: Stored
    header: Header
    deep: bool
    """As `array_pixels` has it."""
    stop: int | None = None
    """The row after the last that is wanted."""

    def open(self) -> "StoredArrays":
        """Nothing is read yet."""
        header = self.header
        row_bytes = header.data_bytes // header.shape[0]
        stop = None if self.stop is None else header.size + self.stop * row_bytes
        return StoredArrays(self, ArrayFile(StoredFile(self.stored, stop), header.size, header, self.stored))


class StoredArrays(Arrays):
    """Its pictures. Reading them raises SourceLost."""

    def __init__(self, about: StoredArray, images: ArrayFile) -> None:
        super().__init__(
            "npy", images, None, where=str(about.stored), stamp=about.stored.mark, source=about, deep=about.deep
        )
        self._about = about

    def select(self, rows: range) -> StoredArray:
        """The same, for whom it ends with these rows."""
        return replace(self._about, stop=rows.stop)


def described(stored: Stored) -> StoredArray:
    """The array of a .npy object.

    Raises:
        SourceError: it is damaged, holds no pictures, or its pictures do not lie one after another.
    """
    array = array_in(StoredFile(stored), stored)
    if array.is_fortran:
        raise SourceError(
            f"{stored} is in Fortran order, so that no picture lies in one piece; save it by numpy.ascontiguousarray, "
            "or give a local copy"
        )
    arrays = Arrays("npy", array, None, where=str(stored), stamp=stored.mark)
    return StoredArray(stored, array.header, arrays.deep)
