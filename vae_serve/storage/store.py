"""What a job asks of the place that it writes to."""

from collections.abc import Callable
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
