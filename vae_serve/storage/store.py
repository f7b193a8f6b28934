"""What a job asks of the place that it writes to."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import BinaryIO, Protocol

Write = Callable[[BinaryIO], object]  # writes a file's contents into an open binary file


class Store(Protocol):
    """Named files that are there whole or not at all. Names are relative, with forward slashes."""

    def create(self, name: str, write: Write) -> None:
        """Makes a file; where it exists with the same bytes that is success.

        Raises:
            FileExistsError: it exists with other bytes, which stay.
            OSError: it cannot be written; nothing of it is there.
        """

    def get(self, name: str) -> bytes | None:
        """A file's contents; None where there is none."""

    def list(self, folder: str = "") -> list[str]:
        """The names in a folder, sorted; none where there is no such folder."""

    def delete(self, name: str) -> None:
        """Removes a file, if it is there."""


class JobStore(Store, Protocol):
    """A store that one job alone writes to while it is open: what `jobs.folder` works over.

    The local one holds the kernel's lock, the one of objects a lease. Both are opened locked.
    """

    @property
    def descriptors(self) -> tuple[int, ...]:
        """Open files that a process which is forked off must not keep."""

    def create_all(self, files: Mapping[str, Write]) -> None:
        """As `create`, several files in this order, none without those before it.

        Raises:
            OutputError: this job is no longer the one that may write.
        """

    def open(self, name: str) -> BinaryIO:
        """A file to read from. Raises FileNotFoundError where there is none."""

    def exists(self, name: str) -> bool:
        """Whether there is a file of this name."""

    def existing(self, names: Iterable[str]) -> set[str]:
        """Those of the names that there are files of."""

    def get_all(self, names: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        """The contents of each file, in order, as `get` gives them."""

    def make_folder(self, name: str) -> None:
        """Makes a folder where folders must be made."""

    def delete_folder(self, name: str) -> None:
        """Removes all that is in a folder, if it is there; not what holds the lock."""

    def require_lock(self) -> None:
        """Raises OutputError where this job is no longer the one that may write."""

    def close(self) -> None:
        """Lets the lock go."""
