"""From what a caller gives as pictures to an opened source: a word or path as the command line has it, or an array."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec

from vae_serve import forks
from vae_serve.api import arguments
from vae_serve.api.progress import Note
from vae_serve.errors import InputError, SourceError

if TYPE_CHECKING:
    import numpy.typing as npt

    from vae_serve.sources.arrays import Arrays
    from vae_serve.sources.described import Described
    from vae_serve.sources.files import Pictures
    from vae_serve.sources.own_process import Answer
    from vae_serve.storage.object_url import ObjectUrl

    PictureSource = arguments.StrPath | npt.ArrayLike

PATIENCE = 1.0  # seconds without a word

# NumPy is imported where it is needed: where a folder can be listed by a forked process, that comes first.


class Begun(msgspec.Struct):
    """A source that has been named, and is being listed where it is a folder and that can be done meanwhile."""

    source: "Described[Pictures | Arrays] | Arrays"
    where: str
    forks: bool = False
    """Whether it was safe to fork when it was named, before anything was imported that starts threads."""
    listing: "Answer[Any] | None" = None
    """What has been begun to be found out about it, for its `open`."""

    @property
    def in_memory(self) -> bool:
        """Whether the pictures are an array, which no process need decode."""
        return not hasattr(self.source, "open")

    @property
    def needs_fresh_process(self) -> bool:
        """Whether its files are to be decoded, and no process for that may be forked off this one."""
        return not self.in_memory and not self.forks and not forks.safe()

    def require_shape(self, shape: tuple[int, int, int]) -> None:
        """Raises InputError for an array of pictures of another shape than the model's."""
        given = None if hasattr(self.source, "open") else self.source.shape
        if given is not None and given != shape:
            raise InputError(f"the source is an array of pictures {given}; the model takes {shape}")

    def stop(self) -> None:
        """Ends the listing, if one is under way."""
        if self.listing:
            self.listing.stop()

    @contextmanager
    def stopped_on_error(self) -> Iterator[None]:
        """Stops it where the context ends with an exception."""
        try:
            yield
        except BaseException:
            self.stop()
            raise

    def open(self, note: Note) -> "Pictures | Arrays":
        """The opened source; to be called once.

        Raises:
            SourceError: it cannot be read, or holds no pictures.
        """
        if self.listing and self.listing.takes_longer_than(PATIENCE):
            note(f"listing {self.where}")
        source: Any = self.source
        if hasattr(source, "begin"):
            opened = source.open(self.listing, _Counting(note, self.where))
        elif hasattr(source, "open"):
            opened = source.open(self.listing) if self.listing else source.open()
        else:
            opened = source
        return cast("Pictures | Arrays", opened)


def begin(source: "PictureSource", exclude: "Iterable[Path | ObjectUrl]", *, job: bool) -> Begun:
    """Names a source; no pictures in the folders to `exclude`.

    For a `job` a folder is being listed from now on, in a process of its own; and an array's contents are part of what
    the job is, so that another array does not go on with it.

    Raises:
        UsageError: the word may mean two things.
        SourceError: it is not there, or of no known kind.
        InputError: it is neither a path nor an array of pictures.
    """
    excluded = tuple(exclude)
    if not isinstance(source, str | os.PathLike):
        return Begun(_in_memory(source, stamped=job), "the array")
    if not hasattr(os, "fork"):
        raise SourceError("reading picture files needs a POSIX system, such as Linux or macOS; give an array instead")
    word = arguments.word_or_path(source)
    here, listing = job and forks.safe(), None
    if here:
        from vae_serve.sources import listing as listings

        listing = listings.begin(word, [place for place in excluded if isinstance(place, Path)])
    from vae_serve.sources.opening import describe

    described: Any = describe(word, excluded)
    if here and hasattr(described, "begin"):
        listing = described.begin()
    return Begun(described, word, here, listing)


class _Counting:
    """Notes how many objects have been listed, each time that there are twice as many."""

    def __init__(self, note: Note, where: str) -> None:
        self._note, self._where, self._next = note, where, 0

    def __call__(self, count: int) -> None:
        if count >= self._next:
            self._note(f"{self._where}: {count:,} objects so far")
            self._next = 2 * count


def _in_memory(images: "npt.ArrayLike", stamped: bool) -> "Arrays":
    import hashlib

    import numpy as np

    from vae_serve.sources.arrays import Arrays

    rows = arguments.array(
        "the source", images, lambda: "a path, or an array (n, H, W) or (n, H, W, C) of uint8 0..255 or floats 0..1"
    )
    digest = hashlib.sha256()
    if stamped:
        for start in range(0, len(rows), 1024):
            digest.update(np.ascontiguousarray(rows[start : start + 1024]).data)
    with suppress(ValueError, TypeError):
        return _arrays(Arrays, rows, digest.hexdigest())
    raise InputError(
        f"the source is an array of the shape {rows.shape} and the type {rows.dtype}, which are not pictures"
    )


def _arrays(kind: "type[Arrays]", rows: "npt.NDArray[Any]", stamp: str) -> "Arrays":
    try:
        return kind("array", rows, None, where="the array", stamp=stamp)
    except SourceError as error:
        raise InputError(str(error)) from None
