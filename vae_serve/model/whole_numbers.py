"""Whole numbers, checked without NumPy: `embed` checks its options before it forks, and imports NumPy after."""

import operator
from collections.abc import Sized


def whole_or_none(value: object, least: int, most: int | None) -> int | None:
    """A whole number within these bounds, NumPy's included; None for anything else, an array of one among it."""
    if isinstance(value, bool | Sized):
        return None
    try:
        number = operator.index(value)  # type: ignore[arg-type]  # what is none raises
    except TypeError:
        return None
    return number if number >= least and (most is None or number <= most) else None


def give_whole(least: int, most: int | None) -> str:
    """The end of a message about what is not a whole number within these bounds."""
    return f"give a whole number from {least}" + (f" to {most}" if most is not None else "")
