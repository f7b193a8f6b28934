"""A Store in an object store: no rename, no overwriting, no condition but "only if absent"."""

import errno
import io
import mmap
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import BinaryIO, cast

from vae_serve.errors import OutputError
from vae_serve.storage.lease import Lease, Note
from vae_serve.storage.object_client import FIRST_RETRIES, interruptible, interruptibly, open_bucket
from vae_serve.storage.object_failure import failure, told
from vae_serve.storage.object_url import ObjectUrl
from vae_serve.storage.store import Write

LEASE = "lease"  # the folder, in the scratch folder, of the lease's numbers

_IN_MEMORY = 64 << 20  # bytes of a file in the making; beyond, it is one on disk
_LARGEST = 5 << 30  # bytes of one PUT, on Amazon's S3 and Google's; Azure takes 5,000 MiB
_SECONDS = 30  # for one request
_SMALL = 8 << 20  # bytes that are written in that time, at 280 kB/s
_WRITE_SECONDS = 600  # for a larger object: 5 GiB at 9 MB/s
_WRITES = 4  # tries of a write; the client tries again only where the store has said no
_READERS = 16  # requests under way when many are read


class ObjectStore:
    """Objects below a URL. `scratch` is the folder in it that holds the lease."""

    def __init__(self, url: ObjectUrl, scratch: str) -> None:
        """Makes no request yet. Raises MissingExtra and UsageError as `open_bucket` does."""
        self.url, self._scratch = url, scratch
        self._client = open_bucket(url, timeout=_SECONDS)
        self._lease: Lease | None = None

    def lock(self, note: Note) -> None:
        """Takes the lease, which is let go by `close`. Raises OutputError as `Lease.take` does."""
        with told(self.url, "list", OutputError):
            first = open_bucket(self.url, retries=FIRST_RETRIES)
            interruptible(first.list_with_delimiter, (self.url / self._scratch).key)
        lease = Lease(self, f"{self._scratch}/{LEASE}", str(self.url), note)
        lease.take()
        self._lease = lease

    def close(self) -> None:
        """Lets the lease go; soon, also where the store has ceased to answer."""
        if self._lease is not None:
            self._client = open_bucket(self.url, timeout=_SECONDS / 6, retries=1)
            self._lease.let_go()

    @property
    def descriptors(self) -> tuple[int, ...]:
        """As `JobStore.descriptors`."""
        return ()

    def require_lock(self) -> None:
        """As `JobStore.require_lock`."""
        if self._lease is not None:
            self._lease.require()

    def create_all(self, files: Mapping[str, Write]) -> None:
        """As `JobStore.create_all`."""
        for name, write in files.items():
            self.require_lock()
            self.create(name, write)

    def create(self, name: str, write: Write) -> None:
        """As `Store.create`. Raises OutputError where the store does not take it."""
        with tempfile.SpooledTemporaryFile(_IN_MEMORY) as spooled:
            file = cast("BinaryIO", spooled)
            write(file)
            if file.tell() > _IN_MEMORY:
                self.create_from(name, file)
            else:
                file.seek(0)
                self._put(name, file.read())

    def create_from(self, name: str, file: BinaryIO) -> None:
        """As `create`, of an open file that is not empty."""
        size = file.seek(0, os.SEEK_END)
        if size > _LARGEST:
            raise OutputError(f"{self.url / name} would have {size:,} bytes; a store takes {_LARGEST:,} at once")
        contents = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            self._put(name, contents)
        finally:
            with suppress(BufferError):  # after Ctrl-C the request is still there
                contents.close()

    def get(self, name: str) -> bytes | None:
        """As `Store.get`."""
        url = self.url / name
        with told(url, "read", OutputError):
            try:
                return interruptible(lambda: bytes(self._client.get(url.key).bytes()))
            except FileNotFoundError as error:
                if failure(error, url, "read").kind != "missing":
                    raise
                return None

    def get_all(self, names: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        """As `JobStore.get_all`, several at a time."""
        wanted = list(names)
        with ThreadPoolExecutor(_READERS) as pool:
            yield from zip(wanted, pool.map(self.get, wanted), strict=True)

    def list(self, folder: str = "") -> list[str]:
        """As `Store.list`. A folder is there while something is in it."""
        url = self.url / folder
        with told(url, "list", OutputError):
            found = interruptible(self._client.list_with_delimiter, url.key)
        paths = [*(item["path"] for item in found["objects"]), *found["common_prefixes"]]
        return sorted(path.rpartition("/")[2] for path in paths)

    def exists(self, name: str) -> bool:
        """As `JobStore.exists`."""
        url = self.url / name
        with told(url, "read", OutputError):
            try:
                interruptible(self._client.head, url.key)
            except FileNotFoundError:
                return False
        return True

    def existing(self, names: Iterable[str]) -> set[str]:
        """As `JobStore.existing`; each folder is listed once."""
        wanted = set(names)
        folders = {name.rpartition("/")[0] for name in wanted}
        return wanted & {f"{folder}/{leaf}".lstrip("/") for folder in folders for leaf in self.list(folder)}

    def open(self, name: str) -> BinaryIO:
        """As `JobStore.open`: all of it, in memory."""
        contents = self.get(name)
        if contents is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        return io.BytesIO(contents)

    def delete(self, name: str) -> None:
        """As `Store.delete`."""
        self._delete([(self.url / name).key])

    def make_folder(self, name: str) -> None:
        """As `JobStore.make_folder`: there are none."""

    def delete_folder(self, name: str) -> None:
        """As `JobStore.delete_folder`."""
        url = self.url / name
        lease = (self.url / self._scratch / LEASE).key
        self.require_lock()
        with told(url, "list", OutputError):
            keys = [item["path"] for page in interruptibly(self._client.list(url.key)) for item in page]
        self._delete([key for key in keys if not key.startswith(f"{lease}/")])

    def _delete(self, keys: Sequence[str]) -> None:
        with told(self.url, "delete", OutputError):
            try:
                if keys:
                    interruptible(self._client.delete, [*keys])
            except FileNotFoundError as error:
                if failure(error, self.url, "delete").kind != "missing":
                    raise

    def _put(self, name: str, contents: "bytes | mmap.mmap") -> None:
        from obstore.exceptions import AlreadyExistsError, BaseError

        url = self.url / name
        client = self._client if len(contents) <= _SMALL else open_bucket(self.url, timeout=_WRITE_SECONDS)
        for attempt in range(_WRITES):
            try:
                interruptible(client.put, url.key, contents, mode="create")
                return
            except AlreadyExistsError:
                if self.get(name) == contents[:]:  # also where a try before has come through unheard
                    return
                raise FileExistsError(errno.EEXIST, "it exists with other contents", name) from None
            except (BaseError, OSError, ValueError) as error:
                met = failure(error, url, "write")
                if not met.passing or attempt + 1 == _WRITES:
                    raise OutputError(met.message) from None
                time.sleep(2**attempt / 4)
