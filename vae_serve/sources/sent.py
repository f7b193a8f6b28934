"""Pictures that go along with a job's task: those of a compressed archive, which is unpacked once, by the process that
plans, and nowhere else.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence

from vae_serve.errors import ImageError, SourceError
from vae_serve.sources.files import Stamp
from vae_serve.sources.names import Labels, Names, first_folders
from vae_serve.sources.readable import LocalFile, Readable

LARGEST = 1 << 27  # bytes of the pictures that one task carries; some copies of them are in memory at a time


class SentPictures:
    """Some neighbouring rows of an archive. It is its own description: there is nothing to open."""

    def __init__(
        self, kind: str, where: str, names: Names, rows: range, contents: Sequence[bytes | ImageError]
    ) -> None:
        self.kind, self.where, self.names, self._rows, self._contents = kind, where, names, rows, contents
        self.skipped: Counter[str] = Counter()

    def open(self) -> "SentPictures":
        """The same."""
        return self

    def select(self, rows: range) -> "SentPictures":
        """Some neighbouring rows alone."""
        contents = self._contents[rows.start - self._rows.start : rows.stop - self._rows.start]
        return SentPictures(self.kind, self.where, self.names.select(rows), rows, contents)

    def labels(self, rows: range) -> Labels:
        """The first folder's name within the archive."""
        return first_folders(self.names[rows])

    def read(self, rows: range) -> Iterator[bytes | ImageError]:
        """Each row's file, or why there is none."""
        yield from self._contents[rows.start - self._rows.start : rows.stop - self._rows.start]

    def stamps(self, rows: range) -> Iterator[Stamp] | None:
        """None: these do not change."""
        return None

    def mean_length(self, rows: range) -> float:
        """Of all rows that were sent."""
        return sum(len(data) for data in self._contents if isinstance(data, bytes)) / len(self._contents)

    def fingerprint(self) -> str:
        """Of the names."""
        return self.names.fingerprint()


def is_unpacked(file: Readable) -> bool:
    """Whether it is a temporary file without a name, by which another process could open it."""
    return isinstance(file, LocalFile) and os.fstat(file.descriptor).st_nlink == 0


def refuse_too_large(where: str, rows: range, size: int) -> None:
    """Raises SourceError where so many bytes are more than a task carries."""
    if size > LARGEST:
        most = max(1, len(rows) * LARGEST // (2 * size))
        raise SourceError(
            f"{where} is compressed: it is unpacked once, and its pictures are sent to the processes that decode them. "
            f"Rows {rows.start:,} to {rows.stop - 1:,} have {size:,} bytes, and a task carries {LARGEST:,}: unpack it "
            f"first, or give --rows-per-shard {most}"
        )
