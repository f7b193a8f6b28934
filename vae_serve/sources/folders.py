"""A folder of pictures; where it has none, of Parquet files."""

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from vae_serve.errors import SourceError
from vae_serve.sources.files import Files, known_extensions, passed_over
from vae_serve.sources.listing import Listing, pictures_below, walk

if TYPE_CHECKING:
    from vae_serve.sources.tables import LocalTable

TABLES = (".parquet", ".pq")


class FolderSource(msgspec.Struct, frozen=True):
    """All pictures below a folder; of a folder without any, all Parquet files, as one table."""

    path: Path
    exclude: tuple[Path, ...] = ()
    """Folders below it that are left out, such as the one that is written to."""

    def open(self, listing: Listing | None = None) -> "Files | LocalTable":
        """Lists the folder, unless `listing` has begun to.

        Raises:
            SourceError: it cannot be read, or holds no pictures; or its Parquet files are not alike.
        """
        names, skipped = listing.result() if listing else pictures_below(self.path, self.exclude)
        if names.count:
            return Files("folder", os.fsencode(self.path), names, skipped)
        tables = _tables_below(self.path, self.exclude)
        if not tables:
            raise SourceError(f"{self.path} holds no pictures{passed_over(skipped)}; known are {known_extensions()}")
        from vae_serve.sources.tables import TableSource

        return TableSource(tables).open()


def _tables_below(folder: Path, exclude: tuple[Path, ...]) -> tuple[Path, ...]:
    """The Parquet files below a folder in sorted order of their relative paths, but for those that are hidden, or are
    some program's own by their underscore.
    """
    names = []
    for visit in walk(os.fsencode(folder), Counter(), exclude):
        names += [visit.below + name for name in visit.files if _is_shown(name) and _is_table(name)]
        visit.folders[:] = filter(_is_shown, visit.folders)
    return tuple(folder / os.fsdecode(name) for name in sorted(names))


def _is_table(name: bytes) -> bool:
    return os.fsdecode(name).lower().endswith(TABLES)


def _is_shown(name: bytes) -> bool:
    return not name.startswith((b".", b"_"))
