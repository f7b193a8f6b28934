"""A Store in a local folder.

Everything is reached through open descriptors of folders, and no link is followed below the folder itself: what
somebody plants or swaps there leads nowhere else. A file is written aside under a random name, synced, and renamed
without replacing anything; then its folder is synced.
"""

import errno
import fcntl
import os
import shutil
import stat
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from vae_serve.storage.rename import rename_new
from vae_serve.storage.store import Write

PARTIAL = "partial-"  # begins the name of a file in the making

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # opening a pipe would wait for its writer
_COMPARED = 1 << 20  # bytes at a time


class LocalStore:
    """Files below a folder. `scratch` is the folder in it that holds files in the making."""

    def __init__(self, path: Path, scratch: str) -> None:
        """Makes the folder if need be; the folders around it, too.

        Raises:
            OSError: it cannot be made or opened; NotADirectoryError where it is a link or a file.
        """
        self.path, self._scratch = path, scratch
        path.mkdir(parents=True, exist_ok=True)
        self.descriptor = os.open(path, _FOLDER)
        self._folders = {"": self.descriptor}
        weakref.finalize(self, _close_all, self._folders)

    @property
    def descriptors(self) -> tuple[int, ...]:
        """All that is open: a process that is forked off must not keep them, nor the lock with them."""
        return tuple(self._folders.values())

    def close(self) -> None:
        """Closes its descriptors, and so ends its lock."""
        _close_all(self._folders)

    def lock(self) -> None:
        """The kernel's lock on the folder, which ends with this store or its process.

        Raises:
            BlockingIOError: another process has it.
            FileNotFoundError: another process had it, and has renamed or removed the folder.
        """
        fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(self.descriptor), self.path.lstat()):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path))

    def create(self, name: str, write: Write) -> None:
        """As `Store.create`."""
        self.create_all({name: write})

    def create_all(self, files: Mapping[str, Write]) -> None:
        """Several files in this order, none without those before it. All are written before the first is renamed, so
        that folders are synced once: a file system with a journal writes it for the first.
        """
        scratch = self.folder(self._scratch)
        aside: dict[str, str] = {}
        try:
            for name, write in files.items():
                aside[name] = f"{PARTIAL}{os.urandom(8).hex()}"
                with os.fdopen(os.open(aside[name], _NEW, 0o666, dir_fd=scratch), "wb") as file:
                    write(file)
                    file.flush()
                    os.fsync(file.fileno())
            folders = {self._split(name)[0] for name in files}
            for name, partial in aside.items():
                folder, leaf = self._split(name)
                try:
                    rename_new(partial, leaf, scratch, folder)
                except FileExistsError:
                    if not _same(scratch, partial, folder, leaf):
                        raise FileExistsError(errno.EEXIST, "it exists with other contents", name) from None
            for folder in folders:
                os.fsync(folder)
        finally:
            for partial in aside.values():
                with suppress(OSError):
                    os.unlink(partial, dir_fd=scratch)

    def open(self, name: str) -> BinaryIO:
        """A file to read from.

        Raises:
            FileNotFoundError: there is none.
            OSError: it cannot be read; a link or a pipe never is.
        """
        folder, leaf = self._split(name)
        file = os.fdopen(os.open(leaf, _READ, dir_fd=folder), "rb")
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise OSError(errno.EINVAL, "it is not a regular file", name)
        return file

    def get(self, name: str) -> bytes | None:
        """As `Store.get`."""
        try:
            with self.open(name) as file:
                return file.read()
        except FileNotFoundError:
            return None

    def exists(self, name: str) -> bool:
        """Whether there is a regular file of this name."""
        try:
            folder, leaf = self._split(name)
            return stat.S_ISREG(os.lstat(leaf, dir_fd=folder).st_mode)
        except FileNotFoundError:
            return False

    def existing(self, names: Iterable[str]) -> set[str]:
        """As `JobStore.existing`."""
        return {name for name in names if self.exists(name)}

    def get_all(self, names: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        """As `JobStore.get_all`."""
        return ((name, self.get(name)) for name in names)

    def require_lock(self) -> None:
        """As `JobStore.require_lock`: the kernel takes no lock away."""

    def list(self, folder: str = "") -> list[str]:
        """As `Store.list`."""
        try:
            return sorted(os.listdir(self.folder(folder, make=False)))  # noqa: PTH208  pathlib takes no descriptor
        except FileNotFoundError:
            return []

    def delete(self, name: str) -> None:
        """As `Store.delete`."""
        with suppress(FileNotFoundError):
            folder, leaf = self._split(name)
            os.unlink(leaf, dir_fd=folder)

    def delete_folder(self, name: str) -> None:
        """Removes a folder with all that is in it, if it is there."""
        parent, leaf = self._split(name)
        for below in [below for below in self._folders if below == name or below.startswith(f"{name}/")]:
            os.close(self._folders.pop(below))
        with suppress(FileNotFoundError):
            # what is no folder is refused here: the words of Python 3.13's rmtree for a link are `[Errno None] None`
            os.close(os.open(leaf, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent))
            shutil.rmtree(leaf, dir_fd=parent)

    def make_folder(self, name: str) -> None:
        """As `JobStore.make_folder`."""
        self.folder(name)

    def folder(self, name: str, make: bool = True) -> int:
        """An open folder below; `make` it if need be. It is closed with the store.

        Raises:
            NotADirectoryError: it is a link or a file.
        """
        if name not in self._folders:
            above, _, leaf = name.rpartition("/")
            parent = self.folder(above, make)
            if make:
                with suppress(FileExistsError):
                    os.mkdir(leaf, dir_fd=parent)
            self._folders[name] = os.open(leaf, _FOLDER, dir_fd=parent)
        return self._folders[name]

    def _split(self, name: str) -> tuple[int, str]:
        """The open folder that a name is in, and the name there."""
        folder, _, leaf = name.rpartition("/")
        return self.folder(folder, make=False), leaf


def _close_all(folders: dict[str, int]) -> None:
    while folders:
        os.close(folders.popitem()[1])


def _same(folder: int, name: str, other_folder: int, other: str) -> bool:
    """Whether two files have the same contents. A link is never the same."""
    try:
        with (
            os.fdopen(os.open(name, _READ, dir_fd=folder), "rb") as file,
            os.fdopen(os.open(other, _READ, dir_fd=other_folder), "rb") as found,
        ):
            about = os.fstat(found.fileno())
            if not stat.S_ISREG(about.st_mode) or about.st_size != os.fstat(file.fileno()).st_size:
                return False
            while part := file.read(_COMPARED):
                if part != found.read(_COMPARED):
                    return False
            return True
    except OSError:
        return False
