"""Which pictures are below a folder, in order. A process of its own looks, so that imports need not wait for it.

Its names come back packed: the list of objects that they were sorted in goes with the process.
"""

import os
import pickle
import select
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from vae_serve.errors import SourceError
from vae_serve.forks import fork
from vae_serve.sources.names import PackedNames, shown

EXTENSIONS = frozenset(b"png apng jpg jpeg jpe jfif webp gif bmp dib tif tiff ppm pgm pbm pnm avif".split())

Found = tuple[PackedNames, Counter[str]]  # the relative paths, sorted by their bytes; files passed over, by reason


class Listing:
    """`pictures_below` in a process of its own."""

    def __init__(self, folder: Path, exclude: Iterable[Path] = ()) -> None:
        """Begins at once."""
        self._folder = folder
        answers, answer = os.pipe()

        def work() -> None:
            os.close(answers)  # the parent's alone: with it gone, writing ends, and so does this process
            with os.fdopen(answer, "wb") as out:
                pickle.dump(_answer(folder, exclude), out, pickle.HIGHEST_PROTOCOL)

        self._process = fork(work)
        os.close(answer)
        self._answers = os.fdopen(answers, "rb")

    def takes_longer_than(self, seconds: float) -> bool:
        """Waits so long at most."""
        return not select.select([self._answers], [], [], seconds)[0]

    def result(self) -> Found:
        """Waits for it; to be called once. Raises as `pictures_below`, or SourceError where the process was ended."""
        with self._answers:
            try:
                found: Found | SourceError = pickle.load(self._answers)  # noqa: S301  from our own child
            except (EOFError, pickle.UnpicklingError):
                found = SourceError(f"{self._folder}: the process that listed its pictures was ended")
        os.waitpid(self._process, 0)
        if isinstance(found, SourceError):
            raise found
        return found


def begin(source: str, exclude: Iterable[Path] = ()) -> Listing | None:
    """Lists what a command line's word names, where it names a folder; nothing in the folders to `exclude`."""
    path = Path(source)
    return Listing(path, exclude) if path.is_dir() else None


def pictures_below(folder: Path, exclude: Iterable[Path] = ()) -> Found:
    """The pictures below a folder, links to folders followed, once round; none in the folders to `exclude`.

    Raises:
        SourceError: the folder cannot be read.
    """
    found: list[bytes] = []
    skipped: Counter[str] = Counter()
    _walk(os.fsencode(folder), b"", [], found, skipped, identities(exclude))
    found.sort()
    return PackedNames(found), skipped


def identities(folders: Iterable[Path]) -> frozenset[tuple[int, int]]:
    """(device, inode) of the folders that are there: what one is found by, whatever the path to it."""
    abouts = [os.stat(folder) for folder in folders if os.path.isdir(folder)]
    return frozenset((about.st_dev, about.st_ino) for about in abouts)


def _answer(folder: Path, exclude: Iterable[Path]) -> Found | SourceError:
    try:
        return pictures_below(folder, exclude)
    except SourceError as error:
        return error


def is_picture(name: bytes) -> bool:
    """Whether the extension, in any case, is a picture's."""
    return name.rpartition(b".")[2].lower() in EXTENSIONS


def _walk(
    root: bytes,
    below: bytes,
    above: list[tuple[int, int]],
    found: list[bytes],
    skipped: Counter[str],
    excluded: frozenset[tuple[int, int]],
) -> None:
    """Adds the pictures of one folder and those below it, unordered. `above`: (device, inode) of the folders around."""
    here = os.path.join(root, below)
    try:
        about = os.stat(here)
        if below and (about.st_dev, about.st_ino) in excluded:
            return
        if (about.st_dev, about.st_ino) in above:
            skipped["link to a folder around it"] += 1
            return
        entries = os.scandir(here)
    except OSError as error:
        if not below:
            raise SourceError(f"{shown(root)} cannot be read: {error.strerror}") from error
        skipped["unreadable folder"] += 1
        return
    folders = []
    with entries:
        for entry in entries:
            name = entry.name
            if name.startswith(b"."):
                skipped["hidden"] += 1
            elif not entry.is_file(follow_symlinks=False) and _leads_to_folder(entry):
                folders.append(name)
            elif name.rpartition(b".")[2].lower() in EXTENSIONS:
                found.append(below + name)
            else:
                skipped["no picture's extension"] += 1
    for name in folders:
        _walk(root, below + name + b"/", [*above, (about.st_dev, about.st_ino)], found, skipped, excluded)


def _leads_to_folder(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
