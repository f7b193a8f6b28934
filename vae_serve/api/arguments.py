"""Arguments of the API, checked: what is not what it should be is one of the project's errors, whatever it is.

Options are named in messages as the command line has them (`--batch`); a program gives them as keywords (`batch=`).
"""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vae_serve.errors import InputError, UsageError
from vae_serve.model.whole_numbers import give_whole, whole_or_none

LINE = 200  # characters

if TYPE_CHECKING:
    from vae_serve.storage.object_url import Place

StrPath = str | os.PathLike[str]


def option(name: str) -> str:
    """A keyword as it is typed."""
    return f"--{name.replace('_', '-')}"


def whole(name: str, value: object, least: int, most: int | None = None) -> int:
    """A whole number, NumPy's included."""
    number = whole_or_none(value, least, most)
    if number is None:
        raise UsageError(f"{option(name)} {_brief(value)}: {give_whole(least, most)}")
    return number


def seed(value: object) -> int:
    """The seed of a stream of random numbers: 64 bits."""
    try:
        return whole("seed", value, 0, (1 << 64) - 1)
    except UsageError:
        raise UsageError(f"--seed {_brief(value)} is not in 0..2^64-1") from None


def number(name: str, value: object) -> float:
    """A real number, NumPy's included. NaN is one: it fails every comparison, so the check of a range refuses it."""
    try:
        if isinstance(value, bool | str | bytes):
            raise TypeError
        return float(value)  # type: ignore[arg-type]  # what is none raises
    except (TypeError, ValueError, OverflowError):
        raise UsageError(f"{option(name)} {_brief(value)}: give a number") from None


def picture_timeout(value: object) -> float:
    """Seconds above 0; infinity is no limit."""
    seconds = number("picture_timeout", value)
    if seconds > 0:
        return seconds
    raise UsageError(f"--picture-timeout {seconds:g}: give seconds above 0")


def flag(name: str, value: object) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise UsageError(f"{option(name)} {_brief(value)}: give True or False")
    return value


def choice(name: str, value: object, known: Sequence[str]) -> Any:
    """One of some words."""
    if not isinstance(value, str) or value not in known:
        raise UsageError(f"{option(name)} {_brief(value)}: choose from {', '.join(known)}")
    return value


def text(name: str, value: object) -> str:
    """A text."""
    if not isinstance(value, str):
        raise UsageError(f"{option(name)} {_brief(value)}: give a text")
    return value


def line(name: str, value: object) -> str:
    """A text of one line that can be shown: 1 to 200 characters."""
    found = text(name, value).strip()
    if not 1 <= len(found) <= LINE or not found.isprintable():
        raise UsageError(f"{option(name)} {_brief(value)}: give a line of 1 to {LINE} characters that can be shown")
    return found


def path(name: str, value: object) -> Path:
    """A path, as text or as an object that is one."""
    if isinstance(value, str | os.PathLike):
        word = os.fsdecode(value)
        if word == "-":
            raise UsageError(f"{option(name)} -: give a path; ./- is a file of that name")
        if word and "\0" not in word:
            return Path(word)
    raise UsageError(f"{option(name)} {_brief(value)}: give a path")


def path_or_none(name: str, value: object) -> Path | None:
    """A path, or None."""
    return None if value is None else path(name, value)


def place(name: str, value: object) -> "Place":
    """A path, or the URL of a place in an object store.

    Raises:
        UsageError: it is neither, or a URL that can hold a secret.
    """
    found = path(name, value)
    word = os.fsdecode(value)  # type: ignore[arg-type]  # `path` has seen to it
    if ":/" not in word:
        return found
    from vae_serve.storage.object_url import is_url, parse_object_url

    return parse_object_url(word) if is_url(word) else found


def place_or_none(name: str, value: object) -> "Place | None":
    """A path or a URL, or None."""
    return None if value is None else place(name, value)


def place_shown(found: "Place") -> Path | str:
    """A place as the API returns it: a path, or the text of a URL, which is what other libraries take."""
    return found if isinstance(found, Path) else str(found)


def callback(name: str, value: object) -> None:
    """A function, or None."""
    if value is not None and not callable(value):
        raise UsageError(f"{name} is {_brief(value)}; give a function, or None")


def workers(value: object) -> int:
    """A number from 1; None is as many as this process has cores."""
    from vae_serve.cores import cores

    return cores() if value is None else whole("workers", value, 1)


def share(value: object) -> tuple[int, int]:
    """(I, N): the I-th of N shares, from 1."""
    which, shares = pair("shard", value, "give (I, N) with I from 1 to N, such as (1, 4)")
    if not 1 <= which <= shares:
        raise UsageError(f"--shard {which}/{shares}: give I/N with I from 1 to N, such as 1/4")
    return which, shares


def pair(name: str, value: object, wanted: str) -> tuple[int, int]:
    """Two whole numbers."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise UsageError(f"{option(name)} {_brief(value)}: {wanted}")
    return whole(name, value[0], 0), whole(name, value[1], 0)


def words(name: str, value: object, known: Sequence[str]) -> tuple[str, ...]:
    """Some of the known words, at least one and each once, in the order of the known ones."""
    chosen = value.split(",") if isinstance(value, str) else _list(value)
    if not chosen or len({*map(str, chosen)}) != len(chosen) or any(word not in known for word in chosen):
        shown = ",".join(map(str, chosen)) if chosen else _brief(value)
        raise UsageError(f"{option(name)} {shown:.100}: give some of {','.join(known)}, each once")
    return tuple(word for word in known if word in chosen)


def _list(value: object) -> list[object]:
    return list(value) if isinstance(value, Iterable) and not isinstance(value, bytes) else []


def word_or_path(value: StrPath) -> str:
    """A source as a command line's word. An object that is a path is always a path, never `mnist` or `-`."""
    word = os.fsdecode(value)
    if "\0" in word:
        raise UsageError(f"the source {word!r:.100} holds a NUL; no path does")
    return os.path.join(os.curdir, word) if not isinstance(value, str) and os.sep not in word else word  # noqa: PTH118


def array(name: str, value: object, known: Callable[[], str]) -> Any:
    """An array of numbers, out of what NumPy makes one of. `known` says what else could have been given.

    Raises:
        InputError: it is not an array, or a masked one with values that are not there.
    """
    import numpy as np

    from vae_serve.model.arguments import as_array

    if value is None or isinstance(value, bytes | dict | set | int | float | complex):
        raise InputError(f"{name} is {_brief(value)}; give {known()}")
    values = as_array(value, name)
    if values.ndim == 0 or values.dtype.kind not in "biufc":
        raise InputError(f"{name} is {_brief(value)}; give {known()}")
    return np.asarray(values)


def _brief(value: object) -> str:
    """A value in a message: short, whatever it is."""
    try:
        shown = value if isinstance(value, str) and value else repr(value)
    except Exception:  # noqa: BLE001  a repr of somebody else's may raise anything
        shown = f"a {type(value).__name__}"
    return shown if len(shown) <= 100 else f"{shown[:100]}..."
