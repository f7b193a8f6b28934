"""Picture files: what a source of pictures offers, and the one whose pictures are files below a folder."""

import errno
import os
import stat
import weakref
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

import msgspec

from vae_serve.errors import ImageError, SourceError
from vae_serve.sources.described import Described
from vae_serve.sources.listing import EXTENSIONS, open_far
from vae_serve.sources.names import Labels, Names, PackedNames, first_folders, shown
from vae_serve.storage.regular import TO_READ

FILE_LIMIT = 1 << 29  # bytes; no picture within `pixels.PIXEL_LIMIT` needs more
READ_AT_ONCE = 1 << 16  # bytes
READ_ON_AT_ONCE = 1 << 24
GROWTH = 1 << 26  # bytes that a file may have got beyond its size when it was opened

Stamp = tuple[int, int]  # a file's size in bytes and its time of change in ns: another stamp, another file
GONE = (-1, 0)
LOOKED_AT = 16  # files whose sizes stand for those of all


class Pictures(Protocol):
    """A source of encoded pictures."""

    kind: str
    names: Names
    skipped: Counter[str]  # files passed over, by reason

    @property
    def where(self) -> str:
        """For messages: the path."""
        ...

    def select(self, rows: range) -> "Described[Pictures]":
        """Some neighbouring rows for another process to open: nothing is listed again, and rows keep their numbers."""
        ...

    def labels(self, rows: range) -> Labels:
        """What the rows show."""
        ...

    def read(self, rows: range) -> Iterator[bytes | ImageError]:
        """Each row's file, or why there is none. Raises nothing but SourceLost, which ends the job."""
        ...

    def stamps(self, rows: range) -> Iterator[Stamp] | None:
        """Each row's stamp as of now; None where the plan's fingerprint says that nothing has changed."""
        ...

    def mean_length(self, rows: range) -> float:
        """Bytes of a picture, in the mean of some or all of these rows, without reading one."""
        ...

    def fingerprint(self) -> str:
        """Changes when pictures come, go or are renamed (or, in one file, are any different)."""
        ...


@runtime_checkable
class LabelsWithPictures(Protocol):
    """A source whose labels come with the pictures, to the process that reads those; `labels` is not asked then."""

    def labels_read(self, rows: range) -> list[bytes | None]:
        """The labels of the rows that have just been read; to be called once."""
        ...


class Files:
    """Picture files below a folder."""

    def __init__(self, kind: str, root: bytes, names: Names, skipped: Counter[str]) -> None:
        self.kind, self.names, self.skipped, self._path = kind, names, skipped, root
        try:
            self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)  # relative paths open sooner
        except OSError as error:
            raise SourceError(f"{shown(root)} cannot be read: {error.strerror}") from error
        weakref.finalize(self, os.close, self._root)

    @property
    def where(self) -> str:
        """The folder's path."""
        return shown(self._path)

    def select(self, rows: range) -> "ListedFiles":
        """The names of some neighbouring rows, and the folder's absolute path."""
        return ListedFiles(self.kind, os.path.abspath(self._path), self.names.select(rows))

    def labels(self, rows: range) -> Labels:
        """The first subfolder's name."""
        return first_folders(self.names[rows])

    def read(self, rows: range) -> Iterator[bytes | ImageError]:
        """Each file's bytes, or why there are none: `unreadable` (vanished, no permission), `not_a_file`,
        `too_large`.
        """
        root = self._root
        for name in self.names[rows]:
            try:
                yield read_file(name, root)
            except ImageError as error:
                yield error

    def stamps(self, rows: range) -> Iterator[Stamp]:
        """Each file's stamp, without reading it."""
        for name in self.names[rows]:
            try:
                about = os.stat(name, dir_fd=self._root)
            except (OSError, ValueError):
                yield GONE
            else:
                yield about.st_size, about.st_mtime_ns

    def mean_length(self, rows: range) -> float:
        """Of `LOOKED_AT` files that are spread over the rows."""
        some = rows[:: max(1, -(-len(rows) // LOOKED_AT))]
        sizes = [size for row in some for size, _ in self.stamps(range(row, row + 1))]
        return sum(max(0, size) for size in sizes) / len(sizes)

    def fingerprint(self) -> str:
        """Of the names."""
        return self.names.fingerprint()


class ListedFiles(msgspec.Struct, frozen=True):
    """Some files of a folder that has been listed."""

    kind: str
    root: bytes
    names: Names

    def open(self) -> Files:
        """Raises SourceError where the folder cannot be read."""
        return Files(self.kind, self.root, self.names, Counter())


def read_file(name: bytes, folder: int | None = None) -> bytes:
    """A file's bytes; nothing that could block or never end is read.

    Raises:
        ImageError: as `Files.read` says.
    """
    try:
        opened = _open(name, folder)
        try:
            data = os.read(opened, READ_AT_ONCE)
            if 0 < len(data) < READ_AT_ONCE:  # most often; a pipe or device that gives this much is harmless, too
                return data
            return _read_on(opened, data)
        finally:
            os.close(opened)
    except OSError as error:
        kind = "not_a_file" if isinstance(error, IsADirectoryError | BlockingIOError) else "unreadable"
        what = "the folder" if name.endswith(b"/") else "it"
        raise ImageError(kind, f"{what} cannot be read: {error.strerror}") from error
    except ValueError as error:  # a NUL in the name
        raise ImageError("unreadable", f"its name is none of a file: {error}") from error


def _open(name: bytes, folder: int | None) -> int:
    try:
        return os.open(name, TO_READ, dir_fd=folder)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
    return open_far(name, TO_READ, folder)


def _read_on(opened: int, data: bytes) -> bytes:
    about = os.fstat(opened)
    if not stat.S_ISREG(about.st_mode):
        raise ImageError("not_a_file", "it is a pipe or a device, not a file")
    if about.st_size > FILE_LIMIT:
        raise ImageError("too_large", f"it has {about.st_size:,} bytes; the limit is {FILE_LIMIT:,}")
    parts, total, limit = [data], len(data), min(FILE_LIMIT, about.st_size + GROWTH)
    while parts[-1]:
        parts.append(os.read(opened, min(about.st_size or READ_AT_ONCE, READ_ON_AT_ONCE)))
        total += len(parts[-1])
        if total > limit:  # it grows, or is one of those in /proc that declare no size
            raise ImageError(
                "too_large", f"it declares {about.st_size:,} bytes and has no end after {limit:,}, as far as it is read"
            )
    return b"".join(parts)


class PictureSource(msgspec.Struct, frozen=True):
    """One picture file; its row is called by the file's name."""

    path: Path

    def open(self) -> Files:
        """Raises SourceError where its folder cannot be read."""
        return Files("picture", os.fsencode(self.path.parent), PackedNames([os.fsencode(self.path.name)]), Counter())


def known_extensions() -> str:
    """For messages: `.png .jpg ...`."""
    return " ".join(sorted(f".{extension.decode()}" for extension in EXTENSIONS))


def passed_over(skipped: Counter[str]) -> str:
    """For messages: how many other files there were."""
    return f" ({skipped.total():,} other files)" if skipped else ""
