"""Where the pictures of a job come from: one ordered sequence of (path, label, bytes or pixels).

A source says at once how many there are and what they are called, and is read in any order afterwards, from any
process that was forked off.

    pictures/            every picture below the folder, in sorted order of the relative paths
    'data/**/*.png'      a pattern, taken apart at its first wildcard: the part before it is the folder
    list.txt, -          a file, or standard input, of paths, one a line (or NUL-separated)
    x.zip, x.tar(.gz)    see `archives`
    x.npy, x.npz, *-idx3-ubyte(.gz), mnist      see `arrays`
    x.parquet            see `tables`
"""

import os
import stat
import sys
import weakref
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from glob import iglob
from pathlib import Path
from typing import Protocol

from vae_serve.errors import ImageError, SourceError
from vae_serve.sources.listing import EXTENSIONS, Listing, identities, is_picture, pictures_below
from vae_serve.sources.names import Labels, Names, PackedNames, first_folders

FILE_LIMIT = 1 << 29  # bytes; no picture within `pixels.PIXEL_LIMIT` needs more
READ_AT_ONCE = 1 << 16  # bytes

Stamp = tuple[int, int]  # a file's size in bytes and its time of change in ns: another stamp, another file
GONE = (-1, 0)


class Pictures(Protocol):
    """A source of encoded pictures."""

    kind: str
    names: Names
    skipped: Counter[str]  # files passed over, by reason

    def labels(self, rows: range) -> Labels:
        """What the rows show."""
        ...

    def read(self, rows: range) -> Iterator[bytes | ImageError]:
        """Each row's file, or why there is none. Never raises."""
        ...

    def stamps(self, rows: range) -> Iterator[Stamp] | None:
        """Each row's stamp as of now; None where the plan's fingerprint says that nothing has changed."""
        ...

    def fingerprint(self) -> str:
        """Changes when pictures come, go or are renamed (or, in one file, are any different)."""
        ...


class Files:
    """Picture files below a folder."""

    def __init__(self, kind: str, root: bytes, names: Names, skipped: Counter[str]) -> None:
        self.kind, self.names, self.skipped = kind, names, skipped
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)  # relative paths open sooner
        weakref.finalize(self, os.close, self._root)

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
            except OSError:
                yield GONE
            else:
                yield about.st_size, about.st_mtime_ns

    def fingerprint(self) -> str:
        """Of the names."""
        return self.names.fingerprint()


_TO_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC  # without O_NONBLOCK, opening a FIFO waits for a writer


def read_file(name: bytes, folder: int | None = None) -> bytes:
    """A file's bytes; nothing that could block or never end is read.

    Raises:
        ImageError: as `Files.read` says.
    """
    try:
        opened = os.open(name, _TO_READ, dir_fd=folder)
        try:
            data = os.read(opened, READ_AT_ONCE)
            if 0 < len(data) < READ_AT_ONCE:  # most often; a pipe or device that gives this much is harmless, too
                return data
            return _read_on(opened, data)
        finally:
            os.close(opened)
    except OSError as error:
        kind = "not_a_file" if isinstance(error, IsADirectoryError | BlockingIOError) else "unreadable"
        raise ImageError(kind, f"it cannot be read: {error.strerror}") from error


def _read_on(opened: int, data: bytes) -> bytes:
    about = os.fstat(opened)
    if not stat.S_ISREG(about.st_mode):
        raise ImageError("not_a_file", "it is a pipe or a device, not a file")
    if about.st_size > FILE_LIMIT:
        raise ImageError("too_large", f"it has {about.st_size:,} bytes; the limit is {FILE_LIMIT:,}")
    parts = [data]
    while parts[-1]:
        parts.append(os.read(opened, about.st_size or READ_AT_ONCE))
    return b"".join(parts)


def folder(path: Path, listing: Listing | None = None, exclude: Iterable[Path] = ()) -> Files:
    """All pictures below a folder, as `pictures_below` has them; `listing` where that has begun already."""
    names, skipped = listing.result() if listing else pictures_below(path, exclude)
    if not names.count:
        raise SourceError(f"{path} holds no pictures{_passed_over(skipped)}; known are {_known()}")
    return Files("folder", os.fsencode(path), names, skipped)


def pattern(text: str, exclude: Iterable[Path] = ()) -> Files:
    """Pictures whose path fits a pattern with *, ?, [] and ** (any folders); none in the folders to `exclude`."""
    parts = Path(text).parts
    fixed = next((at for at, part in enumerate(parts) if set(part) & set("*?[")), len(parts))
    root = os.path.join(*parts[:fixed]) if fixed else "."
    rest = os.path.join(*parts[fixed:])
    found, skipped = [], Counter[str]()
    excluded = identities(exclude)
    within = cache(lambda folder: _is_within(root, folder, excluded))
    for name in iglob(os.fsencode(rest), root_dir=os.fsencode(root), recursive=True):
        if excluded and within(os.path.dirname(name)):
            continue
        if is_picture(name):
            found.append(name)
        elif not os.path.isdir(os.path.join(os.fsencode(root), name)):
            skipped["no picture's extension"] += 1
    if not found:
        raise SourceError(f"no picture fits the pattern {text}{_passed_over(skipped)}; known are {_known()}")
    return Files("pattern", os.fsencode(root), PackedNames(sorted(found)), skipped)


def _is_within(root: str, folder: bytes, excluded: frozenset[tuple[int, int]]) -> bool:
    """Whether a folder below `root`, or one around it there, is among the excluded ones."""
    while folder:
        about = os.stat(os.path.join(os.fsencode(root), folder))
        if (about.st_dev, about.st_ino) in excluded:
            return True
        folder = os.path.dirname(folder)
    return False


def listed(text: bytes, where: str) -> Files:
    """The files whose paths stand in a list, relative to the current folder: one a line, or NUL-separated."""
    separator = b"\0" if b"\0" in text else b"\n"
    names = sorted(line for line in text.replace(b"\r\n", b"\n").split(separator) if line.strip())
    if not names:
        raise SourceError(f"{where} names no files; give one path a line")
    return Files("list", b".", PackedNames(names), Counter())


def read_list(source: str) -> Files:
    """`-` is standard input, anything else a text file."""
    if source == "-":
        return listed(sys.stdin.buffer.read(), "standard input")
    return listed(Path(source).read_bytes(), source)


def _known() -> str:
    return " ".join(sorted(f".{extension.decode()}" for extension in EXTENSIONS))


def _passed_over(skipped: Counter[str]) -> str:
    return f" ({skipped.total():,} other files)" if skipped else ""
