"""Where the pictures of a job come from: one ordered sequence of (path, label, bytes or pixels).

A source says at once how many there are and what they are called, and is read in any order afterwards, from any
process that was forked off. Names are bytes as the file system has them; `shown` makes text of them.
"""

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from vae_serve.errors import ImageError, SourceError

EXTENSIONS = frozenset(
    b".png .apng .jpg .jpeg .jpe .jfif .webp .gif .bmp .dib .tif .tiff .ppm .pgm .pbm .pnm .avif".split()
)
FILE_LIMIT = 1 << 30  # bytes; no picture within `decode.PIXEL_LIMIT` needs as many


Stamp = tuple[int, int]  # a file's size in bytes and its time of change in ns: another stamp, another file
GONE = (-1, -1)


class Raw(NamedTuple):
    """The bytes of one picture file."""

    data: bytes
    stamp: Stamp


class Names:
    """A long list of names in little memory: one run of bytes and the offsets of blocks in it."""

    BLOCK = 64

    def __init__(self, names: Iterable[bytes]) -> None:
        blocks, block = [], []
        self.count = 0
        for name in names:
            block.append(name)
            if len(block) == self.BLOCK:
                blocks.append(b"\0".join(block))
                block = []
                self.count += self.BLOCK
        self.count += len(block)
        self._blocks = [*blocks, b"\0".join(block)] if block else blocks

    def __getitem__(self, rows: range) -> list[bytes]:
        found: list[bytes] = []
        first = rows.start // self.BLOCK
        for packed in self._blocks[first : -(-rows.stop // self.BLOCK)]:
            found += packed.split(b"\0")
        return found[rows.start - first * self.BLOCK :][: len(rows)]

    def fingerprint(self) -> str:
        """SHA-256 over the names in order, each ended by a NUL."""
        digest = hashlib.sha256()
        for packed in self._blocks:
            digest.update(packed + b"\0")
        return digest.hexdigest()


def shown(name: bytes) -> str:
    """A name as text; a byte that is no UTF-8 becomes a backslash escape."""
    return name.decode("utf-8", "backslashreplace")


@dataclass
class Files:
    """Picture files below a folder, in sorted order of their relative paths."""

    root: bytes
    names: Names  # relative to `root`, with forward slashes
    skipped: Counter[str] = field(default_factory=Counter)  # files passed over, by reason

    @property
    def count(self) -> int:
        """Pictures in all."""
        return self.names.count

    def labels(self, rows: range) -> list[str | None]:
        """The first subfolder's name, or None."""
        parts = (name.partition(b"/") for name in self.names[rows])
        return [shown(first) if rest else None for first, _, rest in parts]

    def read(self, rows: range) -> Iterator[Raw | ImageError]:
        """Each file's bytes, or why there are none: kind `unreadable` (vanished, no permission), `not_a_file` or
        `too_large`. Never raises.
        """
        for name in self.names[rows]:
            try:
                yield read_file(os.path.join(self.root, name))
            except ImageError as error:
                yield error

    def stamps(self, rows: range) -> Iterator[Stamp]:
        """What `read` would stamp the files with, without reading them."""
        for name in self.names[rows]:
            try:
                about = os.stat(os.path.join(self.root, name))
            except OSError:
                yield GONE
            else:
                yield about.st_size, about.st_mtime_ns


def read_file(path: bytes) -> Raw:
    """A regular file's bytes; nothing that could block or never end is read."""
    try:
        # without O_NONBLOCK, opening a FIFO waits for a writer
        opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ImageError("unreadable", f"it cannot be opened: {error.strerror}") from error
    try:
        about = os.fstat(opened)
        if not stat.S_ISREG(about.st_mode):
            raise ImageError("not_a_file", "it is a folder, pipe or device, not a file")
        if about.st_size > FILE_LIMIT:
            raise ImageError("too_large", f"it has {about.st_size:,} bytes; the limit is {FILE_LIMIT:,}")
        data = os.read(opened, about.st_size)
        while len(data) < about.st_size:  # a read gives 2 GiB at most, a network file system sometimes less
            more = os.read(opened, about.st_size - len(data))
            if not more:
                break
            data += more
        return Raw(data, (about.st_size, about.st_mtime_ns))
    except OSError as error:
        raise ImageError("unreadable", f"it cannot be read: {error.strerror}") from error
    finally:
        os.close(opened)


def open_source(source: str) -> Files:
    """The source that a command line's word names.

    Raises:
        SourceError: it is not there, cannot be read, or holds no pictures.
    """
    path = Path(source)
    if not path.exists():
        raise SourceError(f"{source} is not there")
    return folder(path)


def folder(path: Path) -> Files:
    """All pictures below a folder. Links to folders are followed, once round."""
    root = os.fsencode(path)
    found: list[bytes] = []
    skipped: Counter[str] = Counter()
    _walk(root, b"", [], found, skipped)
    if not found:
        passed = f" ({sum(skipped.values()):,} other files)" if skipped else ""
        raise SourceError(f"{path} holds no pictures{passed}; known are {_known()}")
    found.sort()
    return Files(root, Names(found), skipped)


def _known() -> str:
    return " ".join(sorted(extension.decode() for extension in EXTENSIONS))


def _walk(root: bytes, below: bytes, above: list[tuple[int, int]], found: list[bytes], skipped: Counter[str]) -> None:
    """Adds the pictures of one folder and those below it, unordered. `above`: (device, inode) of the folders around."""
    here = os.path.join(root, below)
    try:
        about = os.stat(here)
        entries = os.scandir(here)
    except OSError as error:
        if not below:
            raise SourceError(f"{shown(root)} cannot be read: {error.strerror}") from error
        skipped["unreadable folder"] += 1
        return
    if (about.st_dev, about.st_ino) in above:
        skipped["link to a folder around it"] += 1
        return
    folders = []
    with entries:
        for entry in entries:
            name = entry.name
            if name.startswith(b"."):
                skipped["hidden"] += 1
            elif entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and _leads_to_folder(entry)):
                folders.append(name)
            elif os.path.splitext(name)[1].lower() in EXTENSIONS:
                found.append(below + name)
            else:
                skipped["no picture's extension"] += 1
    for name in folders:
        _walk(root, below + name + b"/", [*above, (about.st_dev, about.st_ino)], found, skipped)


def _leads_to_folder(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
