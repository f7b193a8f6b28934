"""Parquet files that are objects of a store, read by row groups."""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow.parquet as pq

from vae_serve.errors import SourceError
from vae_serve.sources.objects.ahead import begin
from vae_serve.sources.objects.file import StoredFile
from vae_serve.sources.objects.stored import Stored
from vae_serve.sources.tables import Table, TableFile


@dataclass(frozen=True)
class StoredTable:
    """Parquet files whose footers have been read, as one table; or those of them that some rows lie in."""

    files: tuple[tuple[Stored, pq.FileMetaData], ...]
    count: int
    """Rows of the whole table."""
    mark: str
    """Of all files."""
    first: int = 0
    """The row of the first of them."""

    def open(self) -> "StoredRows":
        """Nothing is read yet. Raises SourceError where the files are not alike."""
        return StoredRows(self)


class StoredRows(Table):
    """Its rows."""

    def __init__(self, about: StoredTable) -> None:
        files = [TableFile(stored, partial(ObjectStream, stored), metadata) for stored, metadata in about.files]
        super().__init__(files, about.first, about.count)
        self._about = about
        self._labels_read: dict[int, bytes | None] = {}

    def keep_labels(self, start: int, labels: Iterable[bytes | None]) -> None:
        """Keeps them: none but the processes that decode may read."""
        self._labels_read |= dict(enumerate(labels, start))

    def labels_read(self, rows: range) -> list[bytes | None]:
        """The labels that reading some rows has found; None where there was none."""
        labels, self._labels_read = self._labels_read, {}
        return [labels.get(row) for row in rows]

    def select(self, rows: range) -> StoredTable:
        """The files that some rows lie in."""
        about, first = self._about, self._about.first
        files, before = [], None
        for stored, metadata in about.files:
            if first < rows.stop and first + metadata.num_rows > rows.start:
                before = first if before is None else before
                files.append((stored, metadata))
            first += metadata.num_rows
        return StoredTable(tuple(files), about.count, about.mark, before or 0)

    def fingerprint(self) -> str:
        """The number of rows, and each file's size and ETag."""
        return f"{self._about.count} {self._about.mark}"


class ObjectStream(io.RawIOBase):
    """An object as Arrow reads files. Nothing is read before it is asked for."""

    def __init__(self, stored: Stored) -> None:
        super().__init__()
        self._file = StoredFile(stored)
        self._at = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where the next byte is read."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Goes there."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._file.size}[whence]
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """Raises SourceLost."""
        data = self._file.pread(self._file.size if size is None or size < 0 else size, self._at)
        self._at += len(data)
        return data


def described(tables: Sequence[Stored]) -> StoredTable:
    """The table that some objects are, their footers being read at the same time.

    Raises:
        SourceError: one is damaged, has no column of pictures, or their columns differ.
    """
    pieces = [begin(partial(_opened, stored)) for stored in tables]
    files = [piece.result() for piece in pieces]
    mark = " ".join(stored.mark for stored in tables)
    table = Table(files)  # raises where they are not alike
    return StoredTable(
        tuple((stored, file.metadata) for stored, file in zip(tables, files, strict=True)), table.names.count, mark
    )


def _opened(stored: Stored) -> TableFile:
    if stored.size < 12:
        raise SourceError(f"{stored} cannot be read as Parquet: it has {stored.size} bytes")
    return TableFile(stored, partial(ObjectStream, stored))
