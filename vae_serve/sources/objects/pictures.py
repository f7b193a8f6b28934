"""Pictures that are objects of a store, each read whole."""

from collections import Counter
from collections.abc import Iterator

import msgspec
import numpy as np
import numpy.typing as npt

from vae_serve.errors import ImageError
from vae_serve.sources.files import Stamp
from vae_serve.sources.names import Labels, Names, first_folders
from vae_serve.sources.objects.ahead import Ahead
from vae_serve.sources.objects.bucket import whole
from vae_serve.storage.object_url import ObjectUrl

Stamps = npt.NDArray[np.int64]  # (n, 2): size in bytes, time of change in ns


class ListedObjects(msgspec.Struct, frozen=True):
    """Some pictures below a prefix that has been listed."""

    folder: ObjectUrl
    names: Names
    """Of the keys what follows the prefix."""
    stamps: Stamps
    """As they were listed."""
    first: int
    """The row of the first of them."""
    skipped: Counter[str] = msgspec.field(default_factory=Counter)

    def open(self) -> "ObjectPictures":
        """Nothing is read yet."""
        return ObjectPictures(self)


class ObjectPictures:
    """The pictures below a prefix. One that is replaced while the job runs is read as it is then, like a file."""

    kind = "objects"

    def __init__(self, listed: ListedObjects) -> None:
        self.names, self.skipped = listed.names, listed.skipped
        self._listed = listed
        self._ahead: Ahead[bytes | ImageError] | None = None
        self._next = -1  # the row after those that were read last

    @property
    def where(self) -> str:
        """The prefix."""
        return str(self._listed.folder)

    def select(self, rows: range) -> ListedObjects:
        """The names of some neighbouring rows."""
        listed = self._listed
        stamps = listed.stamps[rows.start - listed.first : rows.stop - listed.first].copy()
        return ListedObjects(listed.folder, self.names.select(rows), stamps, rows.start)

    def labels(self, rows: range) -> Labels:
        """The first part of the name, where it has several."""
        return first_folders(self.names[rows])

    def read(self, rows: range) -> Iterator[bytes | ImageError]:
        """Each object, or why there is none: `unreadable` (vanished, no permission), `too_large`.

        Raises:
            SourceLost: the store cannot be read.
        """
        if self._ahead is None:  # made by the process that reads
            self._ahead = Ahead(self._fetch, self._listed.stamps[:, 0])
        first, end = self._listed.first, len(self._listed.stamps)
        last = end - 1 if rows.start == self._next else rows.stop - 1 - first
        self._next = rows.stop
        for row in rows:
            yield self._ahead.take(row - first, last)

    def _fetch(self, number: int) -> bytes | ImageError:
        listed = self._listed
        row = listed.first + number
        name = self.names[range(row, row + 1)][0].decode()
        try:
            return whole(listed.folder, name, int(listed.stamps[number, 0]))
        except ImageError as error:
            return error

    def stamps(self, rows: range) -> Iterator[Stamp]:
        """Each object's stamp as it was listed."""
        for size, changed_ns in self._listed.stamps[rows.start - self._listed.first : rows.stop - self._listed.first]:
            yield int(size), int(changed_ns)

    def mean_length(self, rows: range) -> float:
        """As they were listed, of all of them."""
        first = self._listed.first
        return float(self._listed.stamps[rows.start - first : rows.stop - first, 0].mean())

    def fingerprint(self) -> str:
        """Of the names."""
        return self.names.fingerprint()
