"""From a command line's word to the source that it names.

    pictures/            every picture below the folder, in sorted order of the relative paths
    'data/**/*.png'      a pattern, taken apart at its first wildcard: the part before it is the folder
    one.png              one picture
    list.txt, -          a file, or standard input, of paths, one a line (or NUL-separated)
    x.zip, x.tar(.gz)    the pictures in an archive
    x.npy, x.npz, *-idx3-ubyte(.gz), mnist      arrays
    x.parquet            a column of pictures; of a folder without pictures, all Parquet files in it
    s3://..., gs://..., az://...   a prefix, a pattern or an object of these kinds, see `sources/remote.py`

A source is described first: a small object that can be pickled. It is opened where it is read, says then how many
pictures there are and what they are called, and is read in any order, from any process that is forked off.
"""

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from vae_serve.errors import SourceError, UsageError
from vae_serve.sources.described import Described
from vae_serve.sources.folders import TABLES, FolderSource
from vae_serve.sources.listing import LISTS, TARS, Listing, is_picture
from vae_serve.sources.regular import status

if TYPE_CHECKING:
    from vae_serve.sources.arrays import Arrays
    from vae_serve.sources.files import Pictures
    from vae_serve.storage.object_url import ObjectUrl

# A kind's module is imported where one is named: a folder needs none of the others.

MNIST = "mnist"

_JOB_STATE = (".job", "_job")  # of a folder that embed has written


def open_source(
    source: str, listing: Listing | None = None, exclude: "Iterable[Path | ObjectUrl]" = ()
) -> "Pictures | Arrays":
    """The opened source that a command line's word names; `listing` where it is a folder and has begun.

    A folder or pattern has no pictures in the folders to `exclude`, such as the one that is written to.

    Raises:
        UsageError: the word is empty, or may mean two things.
        SourceError: it is not there, is of no known kind, cannot be read, or holds no pictures.
    """
    described = describe(source, exclude)
    if isinstance(described, FolderSource):
        return described.open(listing)
    return described.open()


def describe(source: str, exclude: "Iterable[Path | ObjectUrl]" = ()) -> "Described[Pictures | Arrays]":
    """The source that a command line's word names; nothing is read yet but standard input.

    Raises:
        UsageError, SourceError: as `open_source` says.
    """
    if ":/" in source:
        from vae_serve.storage.object_url import is_url

        if is_url(source):
            from vae_serve.sources.remote import remote_source

            return remote_source(source, exclude)
    paths = tuple(place for place in exclude if isinstance(place, Path))
    if not source:
        raise UsageError("the source is an empty word; give a folder (. is this one), a file, a pattern, - or mnist")
    path = Path(source)
    if source == MNIST:
        from vae_serve.sources.array_files import PackagedSource

        _refuse_ambiguous(path)
        return PackagedSource(source)
    if source == "-":
        from vae_serve.sources.lists import standard_input

        return standard_input()
    about = status(path)
    if about is None:
        return _describe_absent(source, paths)
    return FolderSource(path, paths) if stat.S_ISDIR(about.st_mode) else _describe_file(path)


def _describe_absent(source: str, exclude: tuple[Path, ...]) -> "Described[Pictures | Arrays]":
    """A word that is not a file's name: FILE.npz:NAME, or a pattern."""
    file, _, name = source.rpartition(":")
    if file.lower().endswith(".npz"):
        from vae_serve.sources.array_files import ArraySource

        return ArraySource(Path(file), name)
    if set(source) & set("*?["):
        from vae_serve.sources.patterns import PatternSource

        return PatternSource(source, exclude)
    raise SourceError(f"{source} is not there")


def _refuse_ambiguous(folder: Path) -> None:
    """`mnist` is the packaged set, unless a folder of this name may be meant that is not a result of embed."""
    about = status(folder)
    if about is not None and stat.S_ISDIR(about.st_mode) and not any((folder / name).is_dir() for name in _JOB_STATE):
        raise UsageError(
            f"{folder} is the packaged test set and also a folder here; say ./{folder} for the folder, "
            "or rename it for the packaged set"
        )


def _describe_file(path: Path) -> "Described[Pictures | Arrays]":  # noqa: PLR0911  a return for each kind
    name = path.name.lower()
    if name.endswith(".zip"):
        from vae_serve.sources.zip_archive import ZipSource

        return ZipSource(path)
    if name.endswith(TARS):
        from vae_serve.sources.tar_archive import TarSource

        return TarSource(path)
    if name.endswith(TABLES):
        from vae_serve.sources.tables import TableSource

        return TableSource((path,))
    if name.endswith((".npy", ".npz")):
        from vae_serve.sources.array_files import ArraySource

        return ArraySource(path)
    if name.removesuffix(".gz").endswith(("-ubyte", ".idx", ".idx3")):
        from vae_serve.sources.array_files import IdxSource

        return IdxSource(path)
    if name.endswith(LISTS):
        from vae_serve.sources.lists import ListSource

        return ListSource(path)
    if is_picture(os.fsencode(name)):
        from vae_serve.sources.files import PictureSource

        return PictureSource(path)
    raise SourceError(
        f"{path} is of no known kind: give a folder, a pattern, a picture, a list of paths (.txt or -), .zip, "
        ".tar(.gz), .npy, .npz, IDX (-ubyte), .parquet, or mnist"
    )
