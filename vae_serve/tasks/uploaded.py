"""A result of one file in an object store: made on this machine, since it is written in place, then created whole."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from vae_serve.errors import OutputError, UsageError
from vae_serve.jobs.plan import STATE
from vae_serve.storage.object_store import ObjectStore
from vae_serve.storage.object_url import ObjectUrl


@contextmanager
def uploaded(url: ObjectUrl, overwrite: bool) -> Iterator[Path]:
    """A path on this machine to write the file to; it becomes the object when the block ends without an error.

    Raises:
        UsageError: the URL has no file's name, or something is to be replaced, which may be anything.
        OutputError: the object exists, or the store does not take it.
    """
    if "." not in url.name or not url.key:
        raise UsageError(
            f"{url} names no file: an object store has no way to make a folder of pictures appear whole; write "
            f"{url}.zip or {url}.parquet, or give a folder of this machine"
        )
    if overwrite:
        raise UsageError(f"--overwrite is for results on this machine; delete {url}, or choose another --out")
    store = ObjectStore(ObjectUrl(url.scheme, url.bucket), STATE)
    if store.exists(url.key):
        raise OutputError(f"{url} exists; choose another --out")
    with TemporaryDirectory(prefix="vae-serve-") as folder:
        file = Path(folder, url.name)
        yield file
        try:
            with file.open("rb") as opened:
                store.create_from(url.key, opened)
        except FileExistsError:
            raise OutputError(f"{url} has appeared while the work went on, and is kept; choose another --out") from None
