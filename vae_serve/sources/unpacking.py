"""Compressed files, unpacked block by block to their end: check sums verified, bytes counted.

gzip (RFC 1952), bzip2 and xz, each of one stream or several. What follows the last stream must be zeros.
"""

import bz2
import lzma
import os
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vae_serve.errors import SourceError
from vae_serve.sources.readable import LocalFile, Readable, read_at
from vae_serve.sources.regular import file_stamp, regular_file

BLOCK = 1 << 20  # bytes unpacked at a time, at most
_PACKED_BLOCK = 1 << 16  # bytes read at a time; what follows a stream's end is copied, so that many short ones cost
_LEAST_LIMIT = 1 << 30
_LARGEST_RATIO = 100
_XZ_MEMORY = 1 << 29  # bytes; `xz -9` needs 65 MiB


class _Gunzip:
    """One stream, read as `bz2` and `lzma` have it; zlib checks the CRC and the length at its end."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(wbits=31)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        """Whether the stream's end was reached."""
        return self._stream.eof

    @property
    def unused_data(self) -> bytes:
        """What came after the end."""
        return self._stream.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """At most `max_length` bytes."""
        unpacked = self._stream.decompress(self._stream.unconsumed_tail + data, max_length)
        self.needs_input = len(unpacked) < max_length
        return unpacked


_Stream = _Gunzip | bz2.BZ2Decompressor | lzma.LZMADecompressor

_MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz"}
MAGIC_SIZE = 6


def compression(data: bytes) -> str | None:
    """`gzip`, `bzip2` or `xz` by a file's first six bytes; None where it is none of them."""
    return next((name for magic, name in _MAGIC.items() if data.startswith(magic)), None)


def unpacked_limit(packed: int) -> int:
    """How many bytes a compressed file of `packed` bytes may unpack to: 1 GiB, or 100 times its own size if that is
    more. Pictures and arrays of pictures stay far below; a decompression bomb is stopped there.
    """
    return max(_LEAST_LIMIT, _LARGEST_RATIO * packed)


def bomb(where: object, limit: int) -> SourceError:
    """The error for a file that passes its limit."""
    return SourceError(
        f"{where} unpacks to more than {limit:,} bytes (the limit: 1 GiB, or 100 times the packed size); "
        "if it is to be trusted, unpack it first"
    )


def unpack(file: Readable, path: Path) -> Iterator[bytes]:
    """An open compressed file's contents in blocks of at most BLOCK bytes.

    Raises:
        SourceError: it is damaged, cut short, followed by other data, or passes the limit.
    """
    limit, total = unpacked_limit(file.size), 0
    for block in _blocks(file, path):
        total += len(block)
        if total > limit:
            raise bomb(path, limit)
        yield block


def _blocks(file: Readable, path: Path) -> Iterator[bytes]:
    data = read_at(file, _PACKED_BLOCK, 0)
    offset = len(data)
    while data:
        name = compression(data)
        if name is None:
            raise SourceError(f"{path} is damaged: its compressed data are followed by other data")
        stream = _open(name)
        try:
            while not stream.eof:
                if stream.needs_input and not data:
                    data = file.pread(_PACKED_BLOCK, offset)
                    offset += len(data)
                    if not data:
                        raise SourceError(f"{path} is cut short: its {name} data have no end")
                yield stream.decompress(data, BLOCK)
                data = b""
        except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError, MemoryError) as error:
            raise SourceError(f"{path} cannot be unpacked, its {name} data are damaged: {error}") from error
        data = stream.unused_data.lstrip(b"\0")
        while len(data) < MAGIC_SIZE and (more := file.pread(_PACKED_BLOCK, offset)):
            data = (data + more) if data else more.lstrip(b"\0")
            offset += len(more)


def _open(name: str) -> _Stream:
    match name:
        case "gzip":
            return _Gunzip()
        case "bzip2":
            return bz2.BZ2Decompressor()
    return lzma.LZMADecompressor(memlimit=_XZ_MEMORY)


@contextmanager
def unpacked_file(path: Path) -> Iterator[tuple[Readable, tuple[int, int]]]:
    """A regular file, or what a compressed one unpacks to, opened; and the file's stamp.

    Raises:
        SourceError: as `regular_file`, `unpack` and `spool` say.
    """
    with regular_file(path) as descriptor:
        file, stamp = LocalFile(descriptor), file_stamp(descriptor)
        if compression(file.pread(MAGIC_SIZE, 0)) is None:
            yield file, stamp
            return
        unpacked = spool(unpack(file, path), path)
        try:
            yield LocalFile(unpacked), stamp
        finally:
            os.close(unpacked)


def spool(blocks: Iterator[bytes], path: Path) -> int:
    """The blocks in an unnamed temporary file, whose descriptor is the caller's to close.

    Raises:
        SourceError: there is no room for it, or what `blocks` raises.
    """
    try:
        with tempfile.TemporaryFile(buffering=0) as file:
            for block in blocks:
                left = memoryview(block)
                while left:
                    left = left[file.write(left) :]
            return os.dup(file.fileno())
    except OSError as error:
        raise SourceError(
            f"{path} cannot be unpacked to {_temporary_folder()}: {error.strerror or error}; "
            "free some space there, or set TMPDIR to a folder that has it"
        ) from error


def _temporary_folder() -> str:
    try:
        return tempfile.gettempdir()
    except OSError:
        return "a temporary folder"
