"""Bytes that are read by position, wherever they lie: the seam under archives, arrays and tables."""

import os
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    import numpy.typing as npt


class Readable(Protocol):
    """A file of known size; every process that is forked off may read it."""

    @property
    def size(self) -> int:
        """Bytes in it."""

    @property
    def window(self) -> int:
        """Bytes that are worth reading at a time, where what follows is likely to be wanted."""

    def pread(self, size: int, offset: int, /) -> bytes:
        """Up to `size` bytes from `offset` on; none only where the file ends."""

    def preadinto(self, room: memoryview, offset: int, /) -> int:
        """Reads up to as many bytes as there is room for; says how many."""

    def kept(self) -> Self:
        """The same, for longer than the one who has opened it keeps it open."""


class LocalFile:
    """A file that is open here."""

    window = 1 << 16

    def __init__(self, descriptor: int) -> None:
        """The descriptor stays the caller's to close."""
        self.descriptor = descriptor
        self.pread = partial(os.pread, descriptor)

    @property
    def size(self) -> int:
        """Bytes in it, as of now."""
        return os.fstat(self.descriptor).st_size

    def preadinto(self, room: memoryview, offset: int, /) -> int:
        """Reads up to as many bytes as there is room for; says how many."""
        return os.preadv(self.descriptor, [room], offset)

    def kept(self) -> "LocalFile":
        """The same by a descriptor of its own, closed when nobody has it any more."""
        file = LocalFile(os.dup(self.descriptor))
        weakref.finalize(file, os.close, file.descriptor)
        return file


def read_at(file: Readable, size: int, offset: int) -> bytes:
    """`size` bytes from `offset` on, fewer where the file ends."""
    data = file.pread(size, offset)
    while 0 < len(data) < size:
        more = file.pread(size - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def fill(array: "npt.NDArray[Any]", file: Readable, offset: int) -> bool:
    """Reads an array's bytes (C order) from `offset` on; False where the file ends before."""
    done = file.preadinto(array.data, offset)
    if done == array.nbytes:
        return True
    room = array.reshape(-1).view("u1").data
    while 0 < done < len(room):  # one call reads 2 GiB at most
        count = file.preadinto(room[done:], offset + done)
        if not count:
            break
        done += count
    return done == len(room)
