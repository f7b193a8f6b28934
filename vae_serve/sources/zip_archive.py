"""The pictures of a zip archive."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from vae_serve.errors import ImageError, SourceError
from vae_serve.sources.files import Stamp
from vae_serve.sources.listing import is_picture
from vae_serve.sources.members import Archive, ArchiveKind, Failure, Members
from vae_serve.sources.names import shown
from vae_serve.sources.readable import LocalFile, Readable
from vae_serve.sources.regular import file_stamp, regular_file
from vae_serve.sources.zip_directory import MEMBER_AHEAD, Entry, entries, local_name, read_member

if TYPE_CHECKING:
    from vae_serve.sources.members import ArchivePath
    from vae_serve.sources.objects.file import StoredFile

_LONGEST_TARGET = 4096  # bytes of a symbolic link


@dataclass(frozen=True)
class ZipSource:
    """A .zip file."""

    path: "ArchivePath"

    def _near(self, file: Readable, others: list[Entry]) -> Iterator[Readable]:
        """The file for each of some entries, their headers being at hand."""
        if isinstance(self.path, Path) or not others:
            return repeat(file)
        from vae_serve.sources.objects.pieces import Pieces

        starts, names = np.array([(entry.place.offset, entry.place.name_length) for entry in others], np.int64).T
        pieces = Pieces(cast("StoredFile", file), starts, starts + names + MEMBER_AHEAD)
        pieces.expect(range(len(others)))
        return map(pieces.around, range(len(others)))

    def open(self) -> Archive:
        """Reads its directory. Members that cannot be read are rows that say so.

        Raises:
            SourceError: it is damaged, or holds no pictures.
        """
        members = Members()
        with _opened(self.path) as (file, stamp):
            found = entries(file, self.path)
            others = [entry for entry in found if not is_picture(entry.name)]
            for entry, near in zip(others, self._near(file, others), strict=False):
                if is_picture(local := local_name(near, entry.place)):
                    raise SourceError(
                        f"{self.path} cannot be read as a zip archive: its directory has {shown(entry.name)} "
                        f"where the member itself has the picture's name {shown(local)}"
                    )
            for entry in found:
                _add(members, file, entry)
            return members.archive(_ZIP, self.path, file, stamp)


@contextmanager
def _opened(path: "ArchivePath") -> Iterator[tuple[Readable, Stamp]]:
    if not isinstance(path, Path):
        from vae_serve.sources.objects.file import StoredFile

        yield StoredFile(path), path.stamp
        return
    with regular_file(path) as file:
        yield LocalFile(file), file_stamp(file)


_ZIP = ArchiveKind("zip", _opened, read_member, MEMBER_AHEAD)


def _add(members: Members, file: Readable, entry: Entry) -> None:
    """A symbolic link's contents are the path that it leads to."""
    if entry.is_link and not entry.failure:
        try:
            if entry.place.size > _LONGEST_TARGET:
                raise ImageError("not_a_file", "it is a link whose target is longer than any path")
            members.add_symbolic_link(entry.name, read_member(file, entry.place))
        except (ImageError, OSError) as error:
            kind = error.kind if isinstance(error, ImageError) else "unreadable"
            members.add(entry.name, entry.place, Failure(kind, str(error)))
    else:
        members.add(entry.name, entry.place, entry.failure)
