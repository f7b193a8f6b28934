"""Reading from object stores: one client a process, whole objects or ranges, and what an error means for a job.

A process that has used the client must not fork others that use it: they would hang. So the process that plans a job
uses it in a forked one (`own_process`), and pictures are read by the decoding processes.
"""

import errno
import os
import time
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from vae_serve.errors import ImageError, MissingExtra, SourceError, SourceLost, UsageError
from vae_serve.sources.described import changed
from vae_serve.sources.files import FILE_LIMIT
from vae_serve.sources.objects.stored import Stored, nanoseconds
from vae_serve.storage import object_client
from vae_serve.storage.object_failure import failure
from vae_serve.storage.object_url import ObjectUrl

T = TypeVar("T")

REQUEST_SECONDS = 60.0  # for one request with its body; the largest picture comes within it at 9 MB/s
PATIENCE = (
    60.0  # seconds after which a body that breaks off is not asked for again: requests have a patience of their own
)
_TRIES, _PAUSE = 4, 0.2


def whole(folder: ObjectUrl, name: str, size: int) -> bytes:
    """An object as it is now, of which `size` bytes were listed.

    Raises:
        ImageError: `unreadable` where it is gone or forbidden, `too_large`.
        SourceLost: the store cannot be read.
    """
    if size > FILE_LIMIT:
        raise _too_large(size)
    if not size:
        return b""
    url = folder.joined(name)

    def read() -> bytes:
        import obstore

        result = obstore.get(client(url), url.key)
        stop = result.range[1]
        if stop > FILE_LIMIT:
            raise _too_large(stop)
        return bytes(result.bytes())

    try:
        return _patiently(url, read)
    except client_errors() as error:
        why = failure(error, url, "read")
        if why.kind in _ROWS:
            raise ImageError("unreadable", f"it cannot be read: {os.strerror(_ROWS[why.kind])}") from None
        raise SourceLost(why.message) from None


_ROWS = {"missing": errno.ENOENT, "forbidden": errno.EACCES}  # the failures that are one object's alone


def part(stored: Stored, start: int, stop: int) -> bytes:
    """Bytes `start` to `stop` of an object that must be the one that was looked at.

    Raises:
        SourceLost: it has changed or is gone, or the store cannot be read.
    """
    url = stored.url

    def read() -> bytes:
        import obstore

        result = obstore.get(client(url), url.key, options={"range": (start, stop)})
        if not stored.is_same(result.meta):
            raise changed(url, SourceLost)
        data = bytes(result.bytes())
        if len(data) != stop - start:
            raise TimeoutError(f"timed out: {len(data)} of {stop - start} bytes")
        return data

    try:
        return _patiently(url, read)
    except client_errors() as error:
        why = failure(error, url, "read")
        raise changed(url, SourceLost) if why.kind == "missing" else SourceLost(why.message) from None


def look(url: ObjectUrl) -> Stored | None:
    """An object's size, time and ETag; None where there is no such object.

    Raises:
        SourceError: that cannot be found out.
    """
    import obstore

    try:
        meta = object_client.interruptible(obstore.head, client(url, first=True), url.key)
    except client_errors() as error:
        why = failure(error, url, "read")
        if why.kind == "missing":
            return None
        raise SourceError(why.message) from None
    return Stored(url, meta["size"], nanoseconds(meta["last_modified"]), meta["e_tag"])


def refusal(url: ObjectUrl) -> str | None:
    """Why an object may not be read; None where it may, or cannot be for another reason.

    Raises:
        SourceError: the store cannot be read at all.
    """
    import obstore

    try:
        object_client.interruptible(obstore.head, client(url, first=True), url.key)
    except client_errors() as error:
        why = failure(error, url, "read")
        if why.kind == "forbidden":
            return why.message
        if why.kind != "missing":
            raise SourceError(why.message) from None
    return None


def client(url: ObjectUrl, first: bool = False) -> Any:
    """This process's client of a bucket. The `first` contact gives up soon."""
    return _client(os.getpid(), url.scheme, url.bucket, first)


@cache
def _client(process: int, scheme: str, bucket: str, first: bool) -> Any:
    # a decoding process needs few threads for what is little work; each one's stack counts against its memory
    os.environ.setdefault("TOKIO_WORKER_THREADS", "2")
    retries = object_client.FIRST_RETRIES if first else object_client.RETRIES
    try:
        return object_client.open_bucket(ObjectUrl(scheme, bucket), timeout=REQUEST_SECONDS, retries=retries)
    except (MissingExtra, UsageError) as error:
        if first:
            raise
        raise SourceLost(str(error)) from None  # no row is to blame


@cache
def client_errors() -> tuple[type[Exception], ...]:
    """What the client raises."""
    from obstore.exceptions import BaseError

    return BaseError, OSError, ValueError


def _patiently(url: ObjectUrl, read: Callable[[], T]) -> T:
    """Reads, and again where a body has broken off; requests as such are tried again by the client."""
    end = time.monotonic() + PATIENCE
    for attempt in range(_TRIES):
        try:
            return object_client.interruptible(read)
        except client_errors() as error:
            passing = failure(error, url, "read").passing
            if not passing or attempt + 1 == _TRIES or time.monotonic() > end:
                raise
        time.sleep(_PAUSE * 2**attempt)
    raise AssertionError("the last attempt returns or raises")


def _too_large(size: int) -> ImageError:
    return ImageError("too_large", f"it has {size:,} bytes; the limit is {FILE_LIMIT:,}")
