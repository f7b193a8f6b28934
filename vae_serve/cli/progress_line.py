"""How far a long job is, in one line of any width: what matters least goes first where there is no room for all."""

from collections.abc import Mapping
from typing import NamedTuple

GAP = "  "
BAR = (10, 24)  # least and most characters
MARKS, ASCII_MARKS = "━─", "#-"  # what is done, what is not


class State(NamedTuple):
    """What is known of the job."""

    what: str
    unit: str
    """A plural: steps, pictures."""
    done: int = 0
    total: int | None = None
    seconds: float = 0.0
    """Since the first report."""
    rate: float = 0.0
    """Units a second, without what was done before."""
    figures: Mapping[str, float | str] = {}
    """Worth seeing, such as the loss; numbers stay longer than words."""


def line(state: State, width: int, marks: str = MARKS) -> str:
    """The line, of at most `width` characters.

    In this order they survive: percent, time left, numbers such as the loss, words, the rate, the name, the bar, count.
    """
    numbers = [not isinstance(value, str) for value in state.figures.values()]
    pieces = [  # as they stand; the lowest number is the last to go
        (5, state.what),
        (6, _bar(state, BAR[0], marks)),
        (0, f"{100 * state.done // state.total} %" if state.total else f"{state.done:,} {state.unit}"),
        (7, f"{state.done:,}/{state.total:,} {state.unit}" if state.total else ""),
        (1, time_left(state)),
        *((2 if number else 3, text) for number, text in zip(numbers, figures(state), strict=True)),
        (4, rate(state)),
    ]
    shown: dict[int, str] = {}
    room = width + len(GAP)
    for number in sorted(range(len(pieces)), key=lambda number: pieces[number][0]):
        text = pieces[number][1]
        if text and len(text) + len(GAP) <= room:
            shown[number] = text
            room -= len(text) + len(GAP)
    if 1 in shown:
        shown[1] = _bar(state, min(BAR[1], BAR[0] + room), marks)
    return GAP.join(shown[number] for number in sorted(shown))


def _bar(state: State, size: int, marks: str) -> str:
    if not state.total:
        return ""
    filled = size * min(state.done, state.total) // state.total
    return marks[0] * filled + marks[1] * (size - filled)


def duration(seconds: float) -> str:
    """As a person says it: 8 s, 3 min 20 s, 25 min, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 3600:
        return f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def figures(state: State) -> list[str]:
    """Each with its name."""
    return [
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in state.figures.items()
    ]


def time_left(state: State) -> str:
    """What is left, or what it took; nothing where that cannot be known."""
    if state.total and state.done >= state.total:
        return f"in {duration(state.seconds)}"
    if state.total and state.rate:
        return f"{duration((state.total - state.done) / state.rate)} left"
    return ""


def rate(state: State) -> str:
    """Units a second, or seconds for a unit where that is more."""
    if not state.rate:
        return ""
    if state.rate < 1:
        return f"{1 / state.rate:.1f} s/{state.unit.removesuffix('s')}"
    return f"{state.rate:,.{0 if state.rate >= 10 else 1}f} {state.unit}/s"
