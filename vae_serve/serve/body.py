"""The body of a request, read and unpacked within the limits of size and time."""

import asyncio
import zlib
from contextlib import suppress

from vae_serve.serve.answers import Refusal
from vae_serve.serve.limits import MIB, Limits
from vae_serve.serve.request import Request

DRAIN_BYTES, DRAIN_SECONDS = 64 * MIB, 2.0  # that are read and dropped of a body too large, so that its answer is seen
ASIDE = 1 << 18  # bytes that are unpacked in a thread of their own, not on the loop

_WINDOWS = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}  # of zlib: with gzip's header, with zlib's (RFC 9110, 8.4.1)


def declared(request: Request) -> int | None:
    """The length that the header states; None where it is sent in chunks, or there is no body."""
    length = request.headers.get(b"content-length")
    return int(length) if length is not None and length.isdigit() else None


async def read(request: Request, limits: Limits, most: int) -> bytes:
    """The whole body, unpacked.

    Raises:
        Refusal: 413 where it is more than `most` bytes as it comes or unpacked, 408 where it takes too long, 400 where
            it ends early or cannot be unpacked, 415 where it is packed in another way, 503 where memory is short.
    """
    coding = request.headers.get(b"content-encoding", b"identity").strip().lower()
    if coding != b"identity" and coding not in _WINDOWS:
        raise Refusal(415, "the Content-Encoding is not known; send gzip, deflate or none", headers=_ACCEPTED)
    length = declared(request)
    if length is not None and length > most:
        raise _too_large(most)
    try:
        body = await request.arrived(most, limits.body_seconds)
    except TimeoutError:
        raise Refusal(
            408, f"the body did not come within {limits.body_seconds:g} s; send it faster, or in parts"
        ) from None
    if body is None:
        raise _too_large(most)
    if coding == b"identity":
        return body
    unpacked = await _unpacked(body, coding, most)
    request.hold(len(unpacked))
    return unpacked


_ACCEPTED = [(b"accept-encoding", b"gzip, deflate")]


def _too_large(most: int) -> Refusal:
    return Refusal(413, f"the body is larger than {most:,} bytes, which is the limit here; send it in parts")


async def drop(request: Request) -> bool:
    """Reads and drops the rest of a body that is refused; whether that was all of it.

    A connection that is closed with bytes unread is reset, and the caller, who is still sending, may never see why.
    One who waits to be asked for the body (Expect) has sent none.
    """
    if b"expect" in request.headers:
        return False
    with suppress(TimeoutError):
        await request.drop(DRAIN_BYTES, DRAIN_SECONDS)
    return request.complete


async def _unpacked(body: bytes, coding: bytes, most: int) -> bytes:
    if len(body) > ASIDE:
        return await asyncio.to_thread(unpack, body, coding, most)
    return unpack(body, coding, most)


def unpack(body: bytes, coding: bytes, most: int) -> bytes:
    """A body of one coding, unpacked to at most `most` bytes. A gzip body may be several, one after another."""
    parts: list[bytes] = []
    total = 0
    try:
        while True:
            packed = zlib.decompressobj(_WINDOWS[coding])
            part = packed.decompress(body, most - total + 1)
            parts.append(part)
            total += len(part)
            if total > most:
                raise Refusal(413, f"the body unpacks to more than {most:,} bytes, which is the limit here")
            if not packed.eof:
                raise Refusal(400, f"the body ends within its {coding.decode()} data; send all of it")
            body = packed.unused_data
            if not body:
                return b"".join(parts)
            if coding == b"deflate":
                raise Refusal(400, "bytes follow the end of the body's deflate data")
    except zlib.error as error:
        raise Refusal(400, f"the body is not the {coding.decode()} data that it is said to be: {error}") from None


def pack(body: bytes, coding: bytes) -> bytes:
    """A body as `gzip` or `deflate`, quickly."""
    packed = zlib.compressobj(1, zlib.DEFLATED, _WINDOWS[coding])
    return packed.compress(body) + packed.flush()


def wanted_coding(request: Request) -> bytes | None:
    """`gzip` or `deflate` where the caller takes it; None otherwise (RFC 9110, 12.5.3)."""
    accepted = request.headers.get(b"accept-encoding")
    if accepted is None:
        return None
    for coding in (b"gzip", b"deflate"):
        for word in accepted.lower().split(b","):
            name, _, weight = word.strip().partition(b";")
            if name.strip() == coding and weight.replace(b" ", b"") not in (b"q=0", b"q=0.0", b"q=0.00", b"q=0.000"):
                return coding
    return None
