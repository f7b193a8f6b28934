"""Regular files, opened and read so that nothing blocks or never ends: neither a pipe nor a device is read.

What cannot be used is an OSError, whose `strerror` says why; each caller makes its own error of it.
"""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

CHUNK = 1 << 20  # bytes read at a time; to read all in one go would reserve room for the whole limit
TO_READ = (
    os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
)  # without O_NONBLOCK, opening a FIFO waits for a writer

_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a link",
}


def require_regular(mode: int) -> None:
    """Raises OSError where a file's mode is that of anything else."""
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, f"it is {_KINDS.get(stat.S_IFMT(mode), 'of another kind')}, not a regular file")


def open_regular(path: str | Path, folder: int | None = None, links: bool = True) -> int:
    """A descriptor of a regular file, below an opened `folder` if one is given; it is the caller's to close.

    Raises:
        OSError: nothing is there, it is not a regular file or (without `links`) a link, or it must not be read.
    """
    # looked at before it is opened, which a device may notice, and after
    require_regular(os.stat(path, dir_fd=folder, follow_symlinks=links).st_mode)
    file = os.open(path, TO_READ | (0 if links else os.O_NOFOLLOW), dir_fd=folder)
    try:
        require_regular(os.fstat(file).st_mode)
    except OSError:
        os.close(file)
        raise
    return file


def chunks(file: int, limit: int, at_once: int = CHUNK) -> Iterator[bytes]:
    """The contents of an open file of at most `limit` bytes, `at_once` at a time.

    Raises:
        OSError: it is larger, is now or gets so while it is read.
    """
    size, left = os.fstat(file).st_size, limit
    while size <= limit and (chunk := os.read(file, min(at_once, left + 1))):
        left -= len(chunk)
        if left < 0:
            break
        yield chunk
    if size > limit or left < 0:
        raise OSError(errno.EFBIG, f"it has {max(size, limit - left):,} bytes; more than {limit:,} are not read")


def read_file(path: Path, limit: int) -> bytes:
    """A regular file of at most `limit` bytes; links are followed.

    Raises:
        OSError: as `open_regular` and `chunks` say.
    """
    file = open_regular(path)
    try:
        return b"".join(chunks(file, limit))
    finally:
        os.close(file)
