"""Files of a bundle in an object store, read as those of a folder are: bounded, hashed while they are read.

Nothing is put on a disk. A size is checked before anything is fetched, and again while it comes: whoever can change the
objects could do so in between.
"""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vae_serve.errors import BundleError
from vae_serve.model.files import DEPTH, ENTRIES
from vae_serve.storage.object_client import open_bucket
from vae_serve.storage.object_failure import failure, told
from vae_serve.storage.object_url import ObjectUrl
from vae_serve.storage.regular import CHUNK

if TYPE_CHECKING:
    from obstore import GetResult


class ObjectFolder:
    """The objects below a URL. It has the methods of `files.Folder`."""

    def __init__(self, path: ObjectUrl) -> None:
        """Makes no request yet. Raises MissingExtra and UsageError as `open_bucket` does."""
        self.path = path
        self._client = open_bucket(path)

    def read(self, path: str, limit: int) -> bytes:
        """As `Folder.read`."""
        return b"".join(self._chunks(path, limit))

    def read_checked(self, path: str, size: int, sha256: str) -> bytes:
        """As `Folder.read_checked`."""
        contents = b"".join(self._chunks(path, size, exactly=True))
        self._require(path, hashlib.sha256(contents).hexdigest(), sha256)
        return contents

    def check(self, path: str, size: int, sha256: str) -> None:
        """As `Folder.check`."""
        self._require(path, self.sha256(path, size), sha256)

    def sha256(self, path: str, size: int) -> str:
        """As `Folder.sha256`."""
        digest = hashlib.sha256()
        for chunk in self._chunks(path, size, exactly=True):
            digest.update(chunk)
        return digest.hexdigest()

    def files(self) -> Iterator[str]:
        """As `Folder.files`."""
        left = ENTRIES
        with told(self.path, "list", BundleError):
            for page in self._client.list(self.path.key):
                for item in page:
                    name = item["path"].removeprefix(f"{self.path.key}/" if self.path.key else "")
                    left -= 1
                    if left < 0 or name.count("/") >= DEPTH:
                        raise BundleError(f"{self.path} holds more than {ENTRIES:,} files, or folders {DEPTH} deep")
                    yield name

    def _chunks(self, path: str, limit: int, exactly: bool = False) -> Iterator[bytes]:
        where, left = self.path / path, limit
        found = self._found(where, exactly)
        with told(where, "read", BundleError):
            size = found.meta["size"]
            if size > limit or (exactly and size != limit):
                wrong = f"where the manifest says {limit:,}" if exactly else f"which is larger than {limit:,}; none is"
                raise BundleError(f"{where} has {size:,} bytes {wrong}".replace("bytes which", "bytes, which"))
            for chunk in found.stream(min_chunk_size=CHUNK):
                left -= len(chunk)
                if left < 0:
                    break
                yield bytes(chunk)
        if left < 0 or (exactly and left):
            raise BundleError(f"{where} has changed while it was read")

    def _found(self, where: ObjectUrl, exactly: bool) -> "GetResult":
        """The object, whose contents are still to come. Raises FileNotFoundError unless it should be there."""
        with told(where, "read", BundleError):
            try:
                return self._client.get(where.key)
            except FileNotFoundError as error:
                if failure(error, where, "read").kind != "missing":
                    raise
        if exactly:
            raise BundleError(f"{where} is missing")
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(where))

    def _require(self, path: str, digest: str, sha256: str) -> None:
        if digest != sha256:
            raise BundleError(f"{self.path / path} is not the file that the manifest names: its SHA-256 differs")


@contextmanager
def open_objects(path: ObjectUrl) -> Iterator[ObjectFolder]:
    """Opens the place of a bundle. Raises BundleError where the store does not answer as it should."""
    with told(path, "list", BundleError):
        open_bucket(path, first=True).list_with_delimiter(path.key)
    yield ObjectFolder(path)
