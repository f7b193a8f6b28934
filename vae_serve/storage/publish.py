"""A whole file or folder under its name, or nothing.

    NAME                     the result, once it is whole
    .NAME.RANDOM             what is being made; it stays only where NAME was taken meanwhile
    .NAME.RANDOM.replaced    the earlier result, while --overwrite replaces it

Nothing that has the name is replaced without `overwrite`, and with it only an earlier result of the same kind, which is
moved aside first and looked at again there. No link in the place of NAME is followed.
"""

import os
import shutil
import stat
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vae_serve.errors import OutputError
from vae_serve.storage.rename import rename_new
from vae_serve.storage.store import Write

IsEarlier = Callable[[Path], bool]  # whether what lies there is an earlier result of the same kind

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_URLS = {"s3:", "gs:", "az:"}  # what pathlib makes of them begins so
_SHOWN = 40  # characters of a name in those made from it: a file's name has 255 bytes at most


def settled(out: Path) -> Path:
    """The same place under a path that ends in a name: `.` and `..` have none."""
    return out if out.name and out.name != ".." else out.resolve()


class Destination:
    """The name that a result is to have, and the open folder around it."""

    def __init__(self, out: Path, kind: str, is_earlier: IsEarlier, overwrite: bool = False) -> None:
        """Before any work: makes the folder around `out`. `kind` is for messages, such as "a result of reconstruct".

        Raises:
            OutputError: `out` exists and may not be replaced, or its folder cannot be written to.
        """
        self.out = settled(out)
        self._shown, self._kind, self._is_earlier, self._overwrite = out, kind, is_earlier, overwrite
        if self.out.parts[0] in _URLS:
            raise OutputError(
                f"{out} is a URL, and this result is a folder written on this machine; choose another --out"
            )
        if not self.out.name:
            raise OutputError(f"{out} is the root of the file system; choose another --out")
        self.refuse_existing()
        parent = self.out.parent
        try:
            parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"the folder {parent} cannot be made: {error.strerror}; choose another --out") from error
        if not os.access(parent, os.W_OK | os.X_OK):
            raise OutputError(f"the folder {parent.absolute()} cannot be written to; choose another --out")
        self.folder = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self.folder)

    def refuse_existing(self) -> None:
        """Raises OutputError where something is there that may not be replaced."""
        try:
            mode = self.out.lstat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise OutputError(f"{self._shown} cannot be written: {error.strerror}; choose another --out") from error
        if not self._overwrite:
            raise OutputError(f"{self._shown} exists; choose another --out, or replace it with --overwrite")
        if stat.S_ISLNK(mode):
            raise OutputError(f"{self._shown} is a link, which is not followed; name what it leads to with --out")
        if not self._is_earlier(self.out):
            raise OutputError(f"{self._shown} is not {self._kind} and is not overwritten; choose another --out")

    def publish(self, staged: str, staged_folder: int, staged_path: Path) -> None:
        """Gives a finished file or folder, which is at `staged` in an open folder, its name.

        Raises:
            OutputError: the name is taken, or cannot be given. Both stay, and the message says where.
        """
        finished = f"the finished result is {staged_path}"
        replaced = self._move_aside(finished)
        try:
            rename_new(staged, self.out.name, staged_folder, self.folder)
        except OSError as error:
            earlier = f", the earlier one {self.out.parent / replaced}" if replaced else ""
            taken = isinstance(error, FileExistsError)
            why = "has appeared while the work went on, and is kept" if taken else f"cannot be made: {error.strerror}"
            raise OutputError(f"{self._shown} {why}; {finished}{earlier}") from error
        os.fsync(self.folder)
        if replaced:
            self._remove(replaced)

    def beside(self, ending: str = "") -> str:
        """A random name in the folder, which nobody can have planted something at."""
        return f".{self.out.name[:_SHOWN]}.{os.urandom(8).hex()}{ending}"

    def _move_aside(self, finished: str) -> str | None:
        """Moves an earlier result to another name, and looks at it there, where nobody else puts anything."""
        if not self._overwrite:
            return None
        name = self.beside(".replaced")
        aside = self.out.parent / name
        try:
            rename_new(self.out.name, name, self.folder, self.folder)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise OutputError(f"{self._shown} cannot be replaced: {error.strerror}; {finished}") from error
        if not aside.is_symlink() and self._is_earlier(aside):
            return name
        where = ""
        try:
            rename_new(name, self.out.name, self.folder, self.folder)
        except OSError:
            where = f" and is now at {aside}"
        raise OutputError(
            f"{self._shown} is no longer {self._kind}: it has changed while the work went on, and is kept{where}; "
            f"{finished}"
        )

    def _remove(self, name: str) -> None:
        if stat.S_ISDIR(os.lstat(name, dir_fd=self.folder).st_mode):
            shutil.rmtree(name, dir_fd=self.folder)
        else:
            os.unlink(name, dir_fd=self.folder)


@contextmanager
def publish_folder(destination: Destination) -> Iterator[Path]:
    """An empty folder to fill. When the block ends it is synced and gets its name; if the block raises it is removed.

    Raises:
        OutputError: it cannot be written, or the name is taken by then.
    """
    name = destination.beside()
    path = destination.out.parent / name
    keep = False
    try:
        os.mkdir(name, 0o700, dir_fd=destination.folder)
        yield path
        path.chmod(0o777 & ~_umask())
        _sync_tree(path)
        keep = True
        destination.publish(name, destination.folder, path)
    except OSError as error:
        if error.filename is not None and not os.fsdecode(error.filename).startswith((str(path), name)):
            raise  # of something that was read
        raise OutputError(f"{destination.out} cannot be written: {error.strerror or error}") from error
    finally:
        if not keep:
            shutil.rmtree(name, ignore_errors=True, dir_fd=destination.folder)


def publish_file(destination: Destination, write: Write) -> None:
    """Writes a file, whole or not at all.

    Raises:
        OutputError: it cannot be written, or the name is taken by then.
    """
    name = destination.beside()
    keep = False
    try:
        _write_new(name, destination.folder, write)
        keep = True
        destination.publish(name, destination.folder, destination.out.parent / name)
    except OSError as error:
        raise OutputError(f"{destination.out} cannot be written: {error.strerror or error}") from error
    finally:
        if not keep:
            with suppress(OSError):
                os.unlink(name, dir_fd=destination.folder)


def replace_file(file: Path, write: Write) -> None:
    """Writes a file of a folder of our own, such as a record that changes: whoever looks finds the old one or the new.

    Raises:
        OSError: it cannot be written; the old one stays.
    """
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    name = f".{file.name[:_SHOWN]}.{os.urandom(8).hex()}"
    try:
        _write_new(name, folder, write)
        os.rename(name, file.name, src_dir_fd=folder, dst_dir_fd=folder)
        os.fsync(folder)
    finally:
        with suppress(OSError):
            os.unlink(name, dir_fd=folder)
        os.close(folder)


def _write_new(name: str, folder: int, write: Write) -> None:
    with os.fdopen(os.open(name, _NEW, 0o666, dir_fd=folder), "wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_tree(path: Path) -> None:
    for folder, _, names in os.walk(path):
        for each in (*(Path(folder, name) for name in names), Path(folder)):
            descriptor = os.open(each, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
