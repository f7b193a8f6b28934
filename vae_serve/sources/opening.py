"""From a command line's word to the source that it names."""

from collections.abc import Iterable
from pathlib import Path

from vae_serve.errors import SourceError
from vae_serve.sources import files
from vae_serve.sources.arrays import Arrays, open_idx, open_npy, open_npz, packaged
from vae_serve.sources.files import Pictures
from vae_serve.sources.listing import Listing

MNIST = "mnist"

_TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_LISTS = (".txt", ".lst", ".list")


def open_source(source: str, listing: Listing | None = None, exclude: Iterable[Path] = ()) -> Pictures | Arrays:
    """The source that a command line's word names, see `sources`; `listing` where it is a folder and has begun.

    A folder or pattern has no pictures in the folders to `exclude`, such as the one that is written to.

    Raises:
        SourceError: it is not there, is of no known kind, cannot be read, or holds no pictures.
    """
    path = Path(source)
    if source == MNIST:
        return packaged(source)
    if source == "-":
        return files.read_list(source)
    if path.is_dir():
        return files.folder(path, listing, exclude)
    file, _, key = source.rpartition(":")
    if file.endswith(".npz") and not path.exists():
        return open_npz(_there(Path(file)), key)
    if not path.exists() and set(source) & set("*?["):
        return files.pattern(source, exclude)
    return _open_file(_there(path))


def _there(path: Path) -> Path:
    if not path.exists():
        raise SourceError(f"{path} is not there")
    return path


def _open_file(path: Path) -> Pictures | Arrays:
    name = path.name.lower()
    if name.endswith((".zip", *_TAR)):
        from vae_serve.sources.archives import open_tar, open_zip

        return open_zip(path) if name.endswith(".zip") else open_tar(path)
    if name.endswith((".parquet", ".pq")):
        from vae_serve.sources.tables import Table

        return Table(path)
    if name.endswith((".npy", ".npz")):
        return open_npy(path) if name.endswith(".npy") else open_npz(path)
    if name.removesuffix(".gz").endswith(("-ubyte", ".idx", ".idx3")):
        return open_idx(path)
    if name.endswith(_LISTS):
        return files.read_list(str(path))
    raise SourceError(
        f"{path} is of no known kind: give a folder, a pattern, a list of paths (.txt or -), .zip, .tar(.gz), .npy, "
        ".npz, IDX (-ubyte), .parquet, or mnist"
    )
