"""Which pictures are below a folder, in order. A process of its own looks, so that imports need not wait for it.

Its names come back packed: the list of objects that they were sorted in goes with the process.
"""

import errno
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from vae_serve.errors import SourceError
from vae_serve.sources.names import PackedNames, shown
from vae_serve.sources.own_process import Answer

EXTENSIONS = frozenset(b"png apng jpg jpeg jpe jfif webp gif bmp dib tif tiff ppm pgm pbm pnm avif".split())
TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz")
LISTS = (".txt", ".lst", ".list")

_PATH_BYTES = 1000  # that are opened at once; PATH_MAX is 4096 on Linux, 1024 on macOS
_PASSING = (os.O_PATH if hasattr(os, "O_PATH") else os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC

Listed = tuple[PackedNames, Counter[str]]  # the relative paths, sorted by their bytes; files passed over, by reason


class Listing(Answer[Listed]):
    """`pictures_below` in a process of its own."""

    def __init__(self, folder: Path, exclude: Iterable[Path] = ()) -> None:
        """Begins at once."""
        ended = SourceError(f"{folder}: the process that listed its pictures was ended")
        super().__init__(lambda _: pictures_below(folder, exclude), ended)


def begin(source: str, exclude: Iterable[Path] = ()) -> Listing | None:
    """Lists what a command line's word names, where it names a folder; nothing in the folders to `exclude`."""
    path = Path(source)
    return Listing(path, exclude) if source and path.is_dir() else None


def pictures_below(folder: Path, exclude: Iterable[Path] = ()) -> Listed:
    """The pictures below a folder, links to folders followed, but not in circles; none in the folders to `exclude`.
    A folder that cannot be read is among them, with a slash at its end: reading it says why its pictures are missing.

    Raises:
        SourceError: the folder itself cannot be read.
    """
    names: list[bytes] = []
    skipped: Counter[str] = Counter()
    for visit in walk(os.fsencode(folder), skipped, exclude):
        names += visit.unreadable
        below, files = visit.below, visit.files
        pictures = [
            below + name
            for name in files
            if name.rpartition(b".")[2].lower() in EXTENSIONS and b"." in name and name[:1] != b"."
        ]
        names += pictures
        hidden = sum(name[:1] == b"." for name in files) if len(pictures) < len(files) else 0
        skipped["hidden"] += hidden
        skipped["no picture's extension"] += len(files) - len(pictures) - hidden
        for name in [name for name in visit.folders if name.startswith(b".")]:
            skipped["hidden"] += 1
            visit.folders.remove(name)
    names.sort()
    return PackedNames(names), +skipped


def is_picture(name: bytes) -> bool:
    """Whether the extension, in any case, is a picture's."""
    _, dot, extension = name.rpartition(b".")
    return bool(dot) and extension.lower() in EXTENSIONS


class Visit(NamedTuple):
    """A folder on a walk."""

    below: bytes  # its path below the first one, with a slash at its end
    folders: list[bytes]  # the names of those in it; what is taken out here is not visited
    files: list[bytes]  # the names of everything else in it
    unreadable: list[bytes]  # paths of what cannot be listed: this folder, or entries that may be folders


def walk(root: bytes, skipped: Counter[str], exclude: Iterable[Path] = ()) -> Iterator[Visit]:
    """Visits a folder and all folders below it, whatever their depth, links followed but not in circles. The folders to
    `exclude`, by whatever path they are reached, are not visited.

    Raises:
        SourceError: `root` cannot be read.
    """
    excluded = _identities(exclude)
    above: list[tuple[int, int]] = []  # (device, inode) of the folders around
    waiting: list[tuple[bytes, int]] = [(b"", 0)]  # paths, and how many folders are around each
    while waiting:
        below, depth = waiting.pop()
        del above[depth:]
        try:
            with _scan(root, below) as (about, entries):
                if below and (about.st_dev, about.st_ino) in excluded:
                    continue
                if (about.st_dev, about.st_ino) in above:
                    skipped["link to a folder around it"] += 1
                    continue
                above.append((about.st_dev, about.st_ino))
                visit = Visit(below, [], [], [])
                _sort_out(entries, visit)
        except OSError as error:
            if not below:
                raise SourceError(f"{shown(root)} cannot be read: {error.strerror}") from error
            visit = Visit(below, [], [], [below])
        yield visit
        waiting += [(below + name + b"/", depth + 1) for name in visit.folders]


@contextmanager
def _scan(root: bytes, below: bytes) -> Iterator[tuple[os.stat_result, Iterable[Any]]]:
    """A folder's status and entries."""
    here = os.path.join(root, below)
    try:
        about = os.stat(here)
        entries = os.scandir(here)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
    else:
        with entries:
            yield about, entries
        return
    folder = open_far(here, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with os.scandir(folder) as far:  # names are text there
            yield os.fstat(folder), far
    finally:
        os.close(folder)


def open_far(path: bytes, flags: int, folder: int | None = None) -> int:
    """`os.open` of a path that is longer than the system takes at once: folder by folder."""
    parts = path.split(b"/")
    opened = folder
    while parts:
        count = 1
        while count < len(parts) and sum(map(len, parts[: count + 1])) + count < _PATH_BYTES:
            count += 1
        piece, parts = b"/".join(parts[:count]) or b"/", parts[count:]
        try:
            deeper = os.open(piece, flags if not any(parts) else _PASSING, dir_fd=opened)
        finally:
            if opened is not None and opened != folder:
                os.close(opened)
        opened = deeper
        if not any(parts):
            return opened
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)


def _sort_out(entries: Iterable[Any], visit: Visit) -> None:
    """Adds a folder's entries to its visit."""
    files, folders = visit.files, visit.folders
    for entry in entries:
        try:
            if entry.is_file(follow_symlinks=False) or not entry.is_dir():
                files.append(entry.name)
            else:
                folders.append(entry.name)
        except OSError as error:
            if error.errno == errno.ELOOP:
                files.append(entry.name)
            else:
                visit.unreadable.append(visit.below + os.fsencode(entry.name))
    for names in (files, folders):
        if names and isinstance(names[0], str):
            names[:] = map(os.fsencode, names)


def _identities(folders: Iterable[Path]) -> frozenset[tuple[int, int]]:
    """(device, inode) of the folders that are there: what one is known by, whatever the path to it."""
    abouts = [os.stat(folder) for folder in folders if os.path.isdir(folder)]
    return frozenset((about.st_dev, about.st_ino) for about in abouts)
