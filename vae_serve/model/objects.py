"""Files of a bundle in an object store, read as those of a folder are: bounded, hashed while they are read.

Nothing is put on a disk. A size is checked before anything is fetched, and again while it comes: whoever can change the
objects could do so in between.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vae_serve.errors import BundleError
from vae_serve.model.files import DEPTH, ENTRIES, Files
from vae_serve.storage.object_client import FIRST_RETRIES, interruptible, interruptibly, open_bucket
from vae_serve.storage.object_failure import failure, told
from vae_serve.storage.object_url import ObjectUrl
from vae_serve.storage.regular import CHUNK

if TYPE_CHECKING:
    from obstore import GetResult


class ObjectFolder(Files):
    """The objects below a URL."""

    def __init__(self, path: ObjectUrl) -> None:
        """Makes no request yet. Raises MissingExtra and UsageError as `open_bucket` does."""
        self.path: ObjectUrl = path
        self._client = open_bucket(path)

    def files(self) -> Iterator[str]:
        """As `Files.files`."""
        left = ENTRIES
        with told(self.path, "list", BundleError):
            for page in interruptibly(self._client.list(self.path.key)):
                for item in page:
                    name = item["path"].removeprefix(f"{self.path.key}/" if self.path.key else "")
                    left -= 1
                    if left < 0 or name.count("/") >= DEPTH:
                        raise BundleError(f"{self.path} holds more than {ENTRIES:,} files, or folders {DEPTH} deep")
                    yield name

    def _chunks(self, path: str, limit: int, most: int, exactly: bool = False) -> Iterator[bytes]:
        where, left = self.path / path, limit
        found = self._found(where)
        with told(where, "read", BundleError):
            size = found.meta["size"]
            if size > limit or (exactly and size != limit):
                wrong = f"where the manifest says {limit:,}" if exactly else f"which is larger than {limit:,}; none is"
                raise BundleError(f"{where} has {size:,} bytes {wrong}".replace("bytes which", "bytes, which"))
            for chunk in interruptibly(iter(found.stream(min_chunk_size=min(most, CHUNK)))):
                left -= len(chunk)
                if left < 0:
                    break
                yield bytes(chunk)
        if left < 0 or (exactly and left):
            raise BundleError(f"{where} has changed while it was read")

    def _found(self, where: ObjectUrl) -> "GetResult":
        """The object, whose contents are still to come. Raises FileNotFoundError where there is none."""
        with told(where, "read", BundleError):
            try:
                return interruptible(self._client.get, where.key)
            except FileNotFoundError as error:
                if failure(error, where, "read").kind != "missing":
                    raise
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(where))


@contextmanager
def open_objects(path: ObjectUrl) -> Iterator[ObjectFolder]:
    """Opens the place of a bundle. Raises BundleError where the store does not answer as it should."""
    with told(path, "list", BundleError):
        interruptible(open_bucket(path, retries=FIRST_RETRIES).list_with_delimiter, path.key)
    yield ObjectFolder(path)
