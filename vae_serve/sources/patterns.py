"""Pictures whose paths fit a pattern with *, ?, [] and ** (any number of folders), each of them once."""

import os
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import translate
from pathlib import Path

from vae_serve.errors import SourceError
from vae_serve.sources.files import Files, known_extensions, passed_over
from vae_serve.sources.listing import Visit, is_picture, walk
from vae_serve.sources.names import PackedNames
from vae_serve.sources.regular import status

_ANY_FOLDERS = "**"
_LONGEST = 4_096  # characters, as of a path; the time to prepare a pattern grows with the square of its length


def is_pattern(text: str) -> bool:
    """Whether there is a wildcard in it."""
    return bool(set(text) & set("*?["))


@dataclass(frozen=True)
class PatternSource:
    """A pattern. Paths are relative to the part before its first wildcard.

    A part that exists by its very name, such as a folder `photos[1]`, is that name and no pattern.
    """

    text: str
    exclude: tuple[Path, ...] = ()
    """Folders that are left out, such as the one that is written to."""

    def open(self) -> Files:
        """Looks for the files.

        Raises:
            SourceError: none fits, or the part before the first wildcard cannot be read.
        """
        if len(self.text) > _LONGEST:
            raise SourceError(f"{self.text[:40]}...: a pattern has at most {_LONGEST:,} characters; shorten it")
        root, parts = _split(self.text)
        if not parts or any(part == ".." for part in parts):
            raise SourceError(
                f"{self.text}: a pattern ends with a file's name, and has no `..` after its first wildcard"
            )
        names: list[bytes] = []
        skipped: Counter[str] = Counter()
        wanted = _Wanted(parts)
        at: dict[bytes, frozenset[int]] = {b"": wanted.closed({0})}  # by folder: which parts its entries are to fit
        for visit in walk(os.fsencode(root), skipped, self.exclude):
            _visit(visit, at, wanted, names, skipped)
        if not names:
            raise SourceError(
                f"no picture fits the pattern {self.text}{passed_over(skipped)}; known are {known_extensions()}"
            )
        return Files("pattern", os.fsencode(root), PackedNames(sorted(names)), skipped)


class _Wanted:
    """A pattern's parts, as the states of an automaton: state i wants parts i, i + 1, ..."""

    def __init__(self, parts: list[str]) -> None:
        self.parts = parts
        self._fits = [re.compile(translate(part)).match for part in parts]

    def closed(self, states: set[int]) -> frozenset[int]:
        """These states and those that a `**` for no folder at all leads to."""
        every = set(states)
        for state in states:
            later = state
            while later < len(self.parts) - 1 and self.parts[later] == _ANY_FOLDERS:
                later += 1
                every.add(later)
        return frozenset(every)

    def after(self, states: frozenset[int], name: str) -> frozenset[int]:
        """The states that an entry's name leads to; `len(parts)` is the pattern's end."""
        reached = set()
        for state in states:
            part = self.parts[state]
            if part == _ANY_FOLDERS:
                if not name.startswith("."):
                    reached.add(state)
            elif part == name or (self._fits[state](name) and (part.startswith(".") or not name.startswith("."))):
                reached.add(state + 1)
        return self.closed(reached)

    def is_end(self, states: frozenset[int]) -> bool:
        """Whether a file may have such states: it fits the last part, which may be `**`."""
        last = len(self.parts)
        return last in states or (last - 1 in states and self.parts[-1] == _ANY_FOLDERS)


def fitting(parts: list[str]) -> Callable[[bytes], bool]:
    """Whether a path, with forward slashes, fits a pattern's parts.

    Raises:
        SourceError: the pattern is too long.
    """
    if sum(map(len, parts)) > _LONGEST:
        raise SourceError(f"a pattern has at most {_LONGEST:,} characters; shorten it")
    wanted = _Wanted(parts)
    known: dict[str, frozenset[int]] = {}  # by folder, of which there are few

    def states(folder: str) -> frozenset[int]:
        if not folder:
            return wanted.closed({0})
        if folder not in known:
            above, _, name = folder.rpartition("/")
            known[folder] = wanted.after(states(above), name) - {len(parts)}
        return known[folder]

    def fits(path: bytes) -> bool:
        folder, _, name = os.fsdecode(path).rpartition("/")
        return wanted.is_end(wanted.after(states(folder), name))

    return fits


def _visit(
    visit: Visit, at: dict[bytes, frozenset[int]], wanted: _Wanted, names: list[bytes], skipped: Counter[str]
) -> None:
    states = at.pop(visit.below)
    for path in visit.unreadable:
        name = path[len(visit.below) :]
        if not name or wanted.after(states, os.fsdecode(name)):
            names.append(path)
    for name in visit.files:
        if not wanted.is_end(wanted.after(states, os.fsdecode(name))):
            continue
        if is_picture(name):
            names.append(visit.below + name)
        else:
            skipped["no picture's extension"] += 1
    for name in list(visit.folders):
        after = wanted.after(states, os.fsdecode(name)) - {len(wanted.parts)}
        if after:
            at[visit.below + name + b"/"] = after
        else:
            visit.folders.remove(name)


def _split(text: str) -> tuple[Path, list[str]]:
    """The folder before the first wildcard, and the parts from there on."""
    root = Path("/") if text.startswith("/") else Path()
    parts = [part for part in text.split("/") if part not in {"", "."}]
    while len(parts) > 1 and (not is_pattern(parts[0]) or status(root / parts[0]) is not None):
        root /= parts.pop(0)
    return root, parts
