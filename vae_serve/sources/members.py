"""Pictures that lie in one opened file, each at a known place: what zip and tar archives have in common.

Members are read by offset, so that every process reads its own. Nothing is written under a member's name.
"""

import hashlib
import posixpath
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from vae_serve.errors import ImageError, SourceError
from vae_serve.sources.described import changed
from vae_serve.sources.files import FILE_LIMIT, Stamp
from vae_serve.sources.listing import is_picture
from vae_serve.sources.names import Labels, Names, PackedNames, first_folders, shown
from vae_serve.sources.readable import Readable
from vae_serve.sources.sent import SentPictures, is_unpacked, refuse_too_large

if TYPE_CHECKING:
    from vae_serve.sources.objects.file import StoredFile
    from vae_serve.sources.objects.pieces import Pieces
    from vae_serve.sources.objects.stored import Stored

    ArchivePath = Path | Stored

Places = npt.NDArray[np.int64]  # (n, the fields of Place)

# Most names: no part is empty, hidden, `.` or `..`, there is no NUL, and no drive in front.
_PLAIN = re.compile(rb"(?![A-Za-z]:/|__MACOSX/)[^./\0][^/\0]*(?:/[^./\0][^/\0]*)*")

_MOST_LINKS = 40  # from one link to the next, as in Linux


class Place(NamedTuple):
    """Where a member lies, and what its archive says about it."""

    offset: int
    packed: int = 0  # bytes in the archive
    size: int = 0  # bytes of the file
    method: int = 0
    crc: int = 0  # of the file; in a tar, of its time of change
    flags: int = 0
    name_length: int = 0  # of the name as the archive has it, and
    name_crc: int = 0


class Failure(NamedTuple):
    """Why a member cannot be read."""

    kind: str
    message: str


@dataclass(frozen=True)
class ArchiveKind:
    """How archives of a kind are read."""

    name: str
    open_file: "Callable[[ArchivePath], AbstractContextManager[tuple[Readable, Stamp]]]"
    """The file that members are read from, and the archive's stamp."""
    read: Callable[[Readable, Place], bytes]
    ahead: int
    """At most so many bytes lie between a place's offset and the contents, beside the name."""


@dataclass(frozen=True, eq=False)
class ArchivedFiles:
    """Some members of an archive whose directory has been read."""

    kind: ArchiveKind
    path: "ArchivePath"
    stamp: Stamp
    names: Names
    first: int
    """The row of the first of them."""
    places: Places
    failures: dict[int, Failure]
    """By row."""
    skipped: Counter[str] = field(default_factory=Counter)
    """Members passed over, by reason; of all of them where they are all."""

    def open(self) -> "Archive":
        """Raises SourceError where the archive cannot be read, or has changed since."""
        with self.kind.open_file(self.path) as (file, stamp):
            if stamp != self.stamp:
                raise changed(self.path)
            return Archive(self, file)

    def select(self, rows: range) -> "ArchivedFiles":
        """Some neighbouring rows alone."""
        failures = {row: why for row, why in self.failures.items() if row in rows}
        places = self.places[rows.start - self.first : rows.stop - self.first]
        path = self.path.absolute() if isinstance(self.path, Path) else self.path
        return ArchivedFiles(self.kind, path, self.stamp, self.names.select(rows), rows.start, places, failures)


class Archive:
    """Pictures of one opened file, in sorted order of their names."""

    def __init__(self, listed: ArchivedFiles, file: Readable) -> None:
        """The file stays open for as long as this does."""
        self.kind, self.names = listed.kind.name, listed.names
        self.skipped = listed.skipped
        self.listed = listed
        self._first, self._places = listed.first, listed.places
        self._failures, self._read, self._file = listed.failures, listed.kind.read, file.kept()
        self._pieces: Pieces | None = None

    @property
    def where(self) -> str:
        """The archive's path."""
        return str(self.listed.path)

    def select(self, rows: range) -> "ArchivedFiles | SentPictures":
        """The names and places of some neighbouring rows; of a compressed archive the pictures themselves.

        Raises:
            SourceError: they are too large to be sent.
        """
        if not is_unpacked(self._file):
            return self.listed.select(rows)
        sizes = self._places[rows.start - self._first : rows.stop - self._first, Place._fields.index("size")]
        refuse_too_large(self.where, rows, int(sizes.sum()))
        return SentPictures(self.kind, self.where, self.names.select(rows), rows, [*self.read(rows)])

    def labels(self, rows: range) -> Labels:
        """The first folder's name within the archive."""
        return first_folders(self.names[rows])

    def read(self, rows: range) -> Iterator[bytes | ImageError]:
        """Each member's bytes, or why there are none: `unsafe_name`, `duplicate`, `encrypted`, `unsupported`,
        `not_a_file`, `too_large`, `truncated`, `checksum`, `damaged`, `unreadable`.
        """
        places = self._places[rows.start - self._first : rows.stop - self._first]
        file = self._file
        pieces = None if isinstance(self.listed.path, Path) else self._ahead()
        if pieces:
            pieces.expect(range(rows.start - self._first, rows.stop - self._first))
        for row, numbers in zip(rows, places.tolist(), strict=True):
            place = Place(*numbers)
            try:
                if row in self._failures:
                    raise ImageError(*self._failures[row])
                if place.size > FILE_LIMIT:
                    raise ImageError("too_large", f"it declares {place.size:,} bytes; the limit is {FILE_LIMIT:,}")
                yield self._read(pieces.around(row - self._first) if pieces else file, place)
            except ImageError as error:
                yield error
            except OSError as error:
                yield ImageError("unreadable", f"it cannot be read: {error.strerror}")

    def _ahead(self) -> "Pieces":
        """Made by the process that reads."""
        if self._pieces is None:
            from vae_serve.sources.objects.pieces import Pieces

            file = cast("StoredFile", self._file)
            starts = self._places[:, 0]
            spans = self._places[:, [Place._fields.index("packed"), Place._fields.index("name_length")]]
            self._pieces = Pieces(file, starts, starts + spans.sum(axis=1) + self.listed.kind.ahead)
        return self._pieces

    def stamps(self, rows: range) -> Iterator[Stamp] | None:
        """None: the fingerprint covers sizes, checksums and places."""
        return None

    def mean_length(self, rows: range) -> float:
        """As the archive states it, of all of them."""
        sizes = self._places[rows.start - self._first : rows.stop - self._first, Place._fields.index("size")]
        return float(sizes.mean())

    def fingerprint(self) -> str:
        """Of all names, sizes, checksums and places."""
        return hashlib.sha256(self.names.fingerprint().encode() + self._places.tobytes()).hexdigest()


class Members:
    """The members of an archive as they are found in it."""

    def __init__(self) -> None:
        self._names: list[bytes] = []
        self._places = array("q")
        self._failures: dict[int, Failure] = {}  # by number
        self._links: dict[int, tuple[bytes, bool]] = {}  # target, and whether it must come before
        self.skipped: Counter[str] = Counter()

    def add(self, name: bytes, place: Place, failure: Failure | None = None) -> None:
        """A file, or what stands in the place of one."""
        name, unsafe = _safe(name)
        failure = unsafe or failure
        if failure:
            self._failures[len(self._names)] = failure
        self._names.append(name)
        self._places.extend(place)

    def add_hard_link(self, name: bytes, target: bytes) -> None:
        """A link to a member before it, by that one's name."""
        self._add_link(name, normal(target), earlier=True)

    def add_symbolic_link(self, name: bytes, target: bytes) -> None:
        """A link to any member, by a path that begins at the link's folder."""
        self._add_link(name, posixpath.normpath(posixpath.join(posixpath.dirname(normal(name)), target)), earlier=False)

    def _add_link(self, name: bytes, target: bytes, *, earlier: bool) -> None:
        if _safe(name)[1] is None:
            self._links[len(self._names)] = target, earlier
        self.add(name, Place(0))

    def archive(self, kind: ArchiveKind, path: "ArchivePath", file: Readable, stamp: Stamp) -> Archive:
        """The pictures among them.

        Raises:
            SourceError: there is none.
        """
        places = np.frombuffer(self._places, np.int64).reshape(-1, len(Place._fields))
        self._follow_links(places)
        wanted = [number for number, name in enumerate(self._names) if self._is_wanted(number, name)]
        if not wanted:
            others = f" ({self.skipped.total():,} other files)" if self.skipped else ""
            raise SourceError(f"{path} holds no pictures{others}")
        wanted.sort(key=self._names.__getitem__)
        names = [self._names[number] for number in wanted]
        failures = {row: self._failures[number] for row, number in enumerate(wanted) if number in self._failures}
        failures |= _duplicates(names)
        listed = ArchivedFiles(kind, path, stamp, PackedNames(names), 0, places[wanted], failures, self.skipped)
        return Archive(listed, file)

    def _is_wanted(self, number: int, name: bytes) -> bool:
        if not _PLAIN.fullmatch(name) and _is_hidden(name):
            self.skipped["hidden"] += 1
        elif is_picture(name):
            return True
        else:
            self.skipped["no picture's extension"] += 1
        return False

    def _follow_links(self, places: Places) -> None:
        """Gives each link the place of what it leads to, or a failure."""
        if not self._links:
            return
        numbers: dict[bytes, list[int]] = {}
        for number, name in enumerate(self._names):
            numbers.setdefault(name, []).append(number)
        for number in self._links:
            end = self._end_of(number, numbers)
            if isinstance(end, Failure):
                self._failures[number] = end
                continue
            places[number] = places[end]
            if end in self._failures:
                self._failures[number] = self._failures[end]

    def _end_of(self, number: int, numbers: dict[bytes, list[int]]) -> int | Failure:
        for _ in range(_MOST_LINKS):
            if number not in self._links:
                return number
            target, earlier = self._links[number]
            targets = [other for other in numbers.get(target, ()) if other < number or not earlier]
            if not targets:
                return Failure("not_a_file", f"it is a link to {_text(target)}, which is not a file of the archive")
            if len(targets) > 1 and not earlier:
                return Failure("duplicate", f"it is a link to {_text(target)}, which the archive holds more than once")
            number = targets[-1]
        return Failure("not_a_file", "it is a link that leads to itself")


def _is_hidden(name: bytes) -> bool:
    parts = name.split(b"/")
    return parts[0] == b"__MACOSX" or any(part.startswith(b".") and part != b".." for part in parts)


def _text(name: bytes) -> str:
    return shown(name.replace(b"\0", b"\\x00"))


def normal(name: bytes) -> bytes:
    """A name without empty parts and those that mean "here": `./a//b.png` -> `a/b.png`."""
    if b"//" not in name and not name.startswith((b"./", b"/")) and b"/./" not in name and not name.endswith(b"/"):
        return name
    slash = b"/" if name.startswith(b"/") else b""
    return slash + b"/".join(part for part in name.split(b"/") if part not in {b"", b"."})


def _safe(name: bytes) -> tuple[bytes, Failure | None]:
    """A member's name as a row's path; and why it is none that may be read."""
    if _PLAIN.fullmatch(name):
        return name, None
    name = normal(name)
    if b"\0" in name:
        return name.replace(b"\0", b"\\x00"), Failure("unsafe_name", "its name holds a NUL byte")
    if name.startswith(b"/") or b".." in name.split(b"/") or re.match(rb"[A-Za-z]:/", name):
        return name, Failure("unsafe_name", "its name leads out of the archive")
    return name, None


def _duplicates(names: list[bytes]) -> dict[int, Failure]:
    """Rows of one name, which may be any of several members; `names` are sorted."""
    failures: dict[int, Failure] = {}
    row = 0
    for _, same in groupby(names):
        count = sum(1 for _ in same)
        if count > 1:
            why = Failure("duplicate", f"the archive holds {count} files of this name; which is meant cannot be told")
            failures |= dict.fromkeys(range(row, row + count), why)
        row += count
    return failures
