"""A result of one file in an object store: made on this machine, since it is written in place, then created whole.

What is done stays in the user's own folder for temporary files until the object is there, so the same command goes on.
"""

import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from vae_serve.errors import OutputError, UsageError
from vae_serve.jobs.plan import STATE
from vae_serve.storage.local import LocalStore
from vae_serve.storage.object_store import ObjectStore
from vae_serve.storage.object_url import ObjectUrl


@contextmanager
def uploaded(url: ObjectUrl, overwrite: bool, job: object) -> Iterator[Path]:
    """A path on this machine to write the file to; it becomes the object when the block ends without an error.

    The same `job`, by its `repr`, gets the same path, and with it what an earlier run has left in NAME.partial beside.

    Raises:
        UsageError: the URL has no file's name, or something is to be replaced, which may be anything.
        OutputError: the object exists, another run makes it, or the store does not take it.
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
    folder = _own_folder(hashlib.sha256(repr((str(url), job)).encode()).hexdigest()[:16])
    with closing(LocalStore(folder, STATE)) as here:
        try:
            here.lock()
        except OSError:
            raise OutputError(f"{url} is being made by another run on this machine, in {folder}") from None
        file = folder / url.name
        file.unlink(missing_ok=True)  # whole, and not stored; nothing says any more what it was made of
        try:
            yield file
            _store(store, url, file)
        finally:
            with suppress(OSError):
                file.unlink(missing_ok=True)
                folder.rmdir()  # unless some shards are done


def _store(store: ObjectStore, url: ObjectUrl, file: Path) -> None:
    try:
        with file.open("rb") as opened:
            store.create_from(url.key, opened)
    except FileExistsError:
        raise OutputError(f"{url} has appeared while the work went on, and is kept; choose another --out") from None


def _own_folder(name: str) -> Path:
    """A folder of this name that nobody else can write to, in the one for temporary files."""
    own = Path(tempfile.gettempdir(), f"vae-serve-{os.getuid()}")
    try:
        own.mkdir(0o700, exist_ok=True)
        status = own.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
            raise OutputError(f"{own} is not a folder that this user alone can use; move it away, or set TMPDIR")
        folder = own / name
        folder.mkdir(0o700, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{own} cannot be used: {error.strerror}; set TMPDIR to another folder") from error
    return folder
