"""The one opener for files of a bundle: plain files below an opened folder, bounded, hashed while they are read.

`model.objects` has the same for a bundle in an object store.

Every component of a path is opened relative to the folder before it and never through a link, so a change of the
folder in the meantime cannot lead out of it. Anything but a plain file (a link, a pipe, a device, a socket) is an error
at once: nothing here waits for the writer of a pipe.
"""

import hashlib
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from vae_serve.errors import BundleError
from vae_serve.storage.regular import CHUNK, chunks, open_regular, require_regular

if TYPE_CHECKING:
    from vae_serve.storage.object_url import Place

ENTRIES = 4096  # files and folders under one folder
DEPTH = 8  # of folders within each other

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Files(ABC):
    """The files of a bundle, wherever they are."""

    path: "Place"

    @abstractmethod
    def files(self) -> Iterator[str]:
        """The relative path of every file, with forward slashes.

        Raises:
            BundleError: there is a link, a pipe or the like, or more than anybody needs.
        """

    @abstractmethod
    def _chunks(self, path: str, limit: int, most: int, exactly: bool = False) -> Iterator[bytes]:
        """The contents: at most `limit` bytes, or just as many, about `most` at a time.

        The size is checked before and while reading.
        """

    def read(self, path: str, limit: int) -> bytes:
        """A file of at most `limit` bytes.

        Raises:
            FileNotFoundError: it is not there.
            BundleError: it is not a plain file, is larger, cannot be read, or leads out of the folder.
        """
        return b"".join(self._chunks(path, limit, CHUNK))

    def read_checked(self, path: str, size: int, sha256: str) -> bytes:
        """A file of which size and SHA-256 are known. Raises BundleError where it is another."""
        # one read: joining parts would take twice as much
        contents = b"".join(self._chunks_of_size(path, size, size + 1))
        self._require(path, hashlib.sha256(contents).hexdigest(), sha256)
        return contents

    def check(self, path: str, size: int, sha256: str) -> None:
        """As `read_checked`, for a file of which nothing is kept."""
        self._require(path, self.sha256(path, size), sha256)

    def sha256(self, path: str, size: int) -> str:
        """Of a file of just `size` bytes, read in chunks."""
        digest = hashlib.sha256()
        for chunk in self._chunks_of_size(path, size, CHUNK):
            digest.update(chunk)
        return digest.hexdigest()

    def _chunks_of_size(self, path: str, size: int, most: int) -> Iterator[bytes]:
        try:
            yield from self._chunks(path, size, most, exactly=True)
        except FileNotFoundError:
            raise BundleError(f"{self.path / path} is missing") from None

    def _require(self, path: str, digest: str, sha256: str) -> None:
        if digest != sha256:
            raise BundleError(f"{self.path / path} is not the file that the manifest names: its SHA-256 differs")


class Folder(Files):
    """An opened folder; see `open_folder`."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path: Path = path
        self._descriptor = descriptor

    def files(self) -> Iterator[str]:
        """As `Files.files`."""
        left = ENTRIES
        waiting = [PurePosixPath()]
        while waiting:
            relative = waiting.pop()
            with self._folder(relative) as descriptor:
                for name in sorted(os.listdir(descriptor)):  # noqa: PTH208  of a descriptor
                    left -= 1
                    inner = relative / name
                    if left < 0 or len(inner.parts) > DEPTH:
                        raise BundleError(f"{self.path} holds more than {ENTRIES:,} files, or folders {DEPTH} deep")
                    mode = os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode
                    if stat.S_ISDIR(mode):
                        waiting.append(inner)
                    else:
                        self._require_plain(inner, mode)
                        yield inner.as_posix()

    def _chunks(self, path: str, limit: int, most: int, exactly: bool = False) -> Iterator[bytes]:
        relative = PurePosixPath(path)
        where = self.path / relative
        try:
            with self._folder(relative.parent) as folder, self._file(folder, relative) as descriptor:
                size, left = os.fstat(descriptor).st_size, limit
                if exactly and size != limit:
                    raise BundleError(f"{where} has {size:,} bytes where the manifest says {limit:,}")
                for chunk in chunks(descriptor, limit, most):
                    left -= len(chunk)
                    yield chunk
                if exactly and left:
                    raise BundleError(f"{where} has changed while it was read")
        except FileNotFoundError:
            raise
        except OSError as error:
            raise BundleError(f"{where} cannot be read: {error.strerror}") from error

    @contextmanager
    def _folder(self, relative: PurePosixPath) -> Iterator[int]:
        """A folder below this one, opened component by component."""
        if relative.is_absolute() or ".." in relative.parts:
            raise BundleError(f"{self.path} names a file outside its folder: {str(relative)!r}")
        descriptor = os.dup(self._descriptor)
        try:
            walked = PurePosixPath()
            for part in relative.parts:
                walked /= part
                mode = os.stat(part, dir_fd=descriptor, follow_symlinks=False).st_mode
                if not stat.S_ISDIR(mode):
                    self._require_plain(walked, mode)
                    raise BundleError(f"{self.path / walked} is a file where a folder should be")
                inner = os.open(part, _FOLDER, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = inner
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def _file(self, folder: int, relative: PurePosixPath) -> Iterator[int]:
        descriptor = open_regular(relative.name, folder, links=False)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _require_plain(self, relative: PurePosixPath, mode: int) -> None:
        try:
            require_regular(mode)
        except OSError as error:
            raise BundleError(f"{self.path / relative} cannot be read: {error.strerror}") from error


@contextmanager
def open_folder(path: Path) -> Iterator[Folder]:
    """Opens a folder to read files below it. The folder itself may be named through links, as a user likes.

    Raises:
        FileNotFoundError: there is none.
        BundleError: it is not a folder, or cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise BundleError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    try:
        yield Folder(path, descriptor)
    finally:
        os.close(descriptor)


def read_file(path: Path, limit: int) -> bytes:
    """One plain file of at most `limit` bytes, which is not a link.

    Raises:
        FileNotFoundError: it is not there.
        BundleError: it is not a plain file, is larger, or cannot be read.
    """
    with open_folder(path.parent) as folder:
        return folder.read(path.name, limit)
