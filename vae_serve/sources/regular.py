"""Regular files of a source."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vae_serve.errors import SourceError
from vae_serve.storage import regular


def status(path: Path) -> os.stat_result | None:
    """What a path names, links followed; None where nothing is.

    Raises:
        SourceError: that cannot be found out.
    """
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # a NUL in the name
        raise SourceError(f"{str(path)!r} is not a path: {error}") from error


def open_regular(path: Path) -> int:
    """A descriptor of a regular file; it is the caller's to close.

    Raises:
        SourceError: nothing is there, it is a pipe, a device or a folder, or it must not be read.
    """
    about = status(path)
    if about is None:
        raise SourceError(f"{path} is not there")
    try:
        return regular.open_regular(path)
    except OSError as error:
        advice = "; a list of paths is read from a pipe as -" if stat.S_ISFIFO(about.st_mode) else ""
        raise SourceError(f"{path} cannot be read: {error.strerror}{advice}") from error


@contextmanager
def regular_file(path: Path) -> Iterator[int]:
    """The same, closed in the end.

    Raises:
        SourceError: as `open_regular` says, or an OSError came up meanwhile.
    """
    file = open_regular(path)
    try:
        yield file
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}") from error
    finally:
        os.close(file)


def file_stamp(file: int) -> tuple[int, int]:
    """Size in bytes and time of change in ns of an open file: another stamp, another file."""
    about = os.fstat(file)
    return about.st_size, about.st_mtime_ns
