"""The compressed forms of other seeds."""

import bz2
import gzip
import lzma
from collections.abc import Callable, Iterable


def packed(contents: Iterable[bytes], how: Callable[[bytes], bytes]) -> list[bytes]:
    """Each compressed."""
    return [how(data) for data in contents]


def gz(data: bytes) -> bytes:
    """gzip, without the time."""
    return gzip.compress(data, mtime=0)


def xz(data: bytes) -> bytes:
    """xz, of the smallest dictionary: the default reserves 8 MiB for each input."""
    return lzma.compress(data, preset=0)


def bz2_(data: bytes) -> bytes:
    """bzip2 of the smallest block."""
    return bz2.compress(data, 1)
