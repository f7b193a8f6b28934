"""How the functions of the API say how far they are: callables of the caller's."""

from collections.abc import Callable
from typing import Protocol


class Progress(Protocol):
    """Told how far a job is: units done, units in all where known, and figures such as errors=3 or loss=151.2."""

    def __call__(self, done: int, total: int | None = None, /, **figures: float | str) -> None: ...  # noqa: D102


Note = Callable[[str], None]
"""Told one line that a person may want to read, such as which model is used."""


def no_progress(_done: int, _total: int | None = None, /, **_figures: float | str) -> None:
    """Nobody listens."""


def no_note(_line: str) -> None:
    """Nobody listens."""
