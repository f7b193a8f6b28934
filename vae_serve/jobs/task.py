"""What an engine runs: a job's spec, the work that it starts, and what a shard comes to.

A shard's files and the counts in its record are a function of (spec, shard) alone. Every engine runs a shard in this
one way, by `Spec.start`; engines differ in where and when.
"""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from threading import Lock
from typing import BinaryIO, Protocol, Self, TypeVar

import msgspec

from vae_serve.jobs.plan import Json, Plan, Shard
from vae_serve.storage.store import Write

Batch = TypeVar("Batch")
PieceT = TypeVar("PieceT", bound="Piece")


class ShardResult(msgspec.Struct, frozen=True):
    """A finished shard."""

    files: Mapping[str, Write]
    """By name in the job's folder; none where the shard is in its place already."""
    record: Json

    def contents(self) -> dict[str, bytes]:
        """The files' contents, by name: what is sent from one process to another."""
        contents = {}
        for name, write in self.files.items():
            file = io.BytesIO()
            write(file)
            contents[name] = file.getvalue()
        return contents

    @classmethod
    def of(cls, contents: Mapping[str, bytes], record: Json) -> "ShardResult":
        """The result that another process has sent."""
        return cls({name: partial(_write, data) for name, data in contents.items()}, record)


def _write(data: bytes, file: BinaryIO) -> None:
    file.write(data)


class Piece(Protocol):
    """What became of some neighbouring rows of one shard."""

    @property
    def rows(self) -> range:
        """Rows of the job."""

    @property
    def failed(self) -> int:
        """How many of them have failed."""


class Work(Protocol[Batch, PieceT]):
    """The missing shards of a job, under way."""

    @property
    def lanes(self) -> Sequence[Iterator[Batch]]:
        """Batches of rows, each within one shard, in any order; every lane is for a thread."""

    def prepare(self) -> None:
        """Imports what `assemble` needs. Called once, while the lanes are under way."""

    def process(self, batch: Batch) -> PieceT:
        """One batch's results. Threads call it."""

    def assemble(self, shard: Shard, pieces: list[PieceT]) -> ShardResult:
        """A shard from its pieces, in the order of their rows. One thread calls it, for one shard after another."""

    def stop(self, finished: bool) -> None:
        """Ends what feeds the lanes: at once unless it has `finished`."""


class Spec(Protocol[Batch, PieceT]):
    """What a job does: a plan, and descriptions of what it reads. It can be pickled."""

    @property
    def plan(self) -> Plan:
        """What is asked for, cut into shards."""

    def for_shard(self, shard: Shard) -> Self:
        """All that another process needs to make one shard on one core: of the source's names, only that shard's."""

    def start(self, missing: Sequence[Shard], private: tuple[int, ...] = ()) -> Work[Batch, PieceT]:
        """Begins on some shards. Processes that are forked off close the `private` files."""


OnDone = Callable[[Shard, ShardResult], None]
Note = Callable[[str], None]  # told a line worth reading


class Progress(Protocol):
    """Told how far the missing shards are, now and then; what it raises ends the run."""

    def __call__(self, done: int, failed: int, /, **figures: float | str) -> None:
        """Rows done and rows failed, and figures worth seeing, such as nodes=3."""


def no_progress(done: int, failed: int, /, **figures: float | str) -> None:
    """Nobody is told."""


def no_note(line: str, /) -> None:
    """Nobody is told."""


class Engine(Protocol):
    """A way to run the missing shards of a job."""

    def __call__(
        self,
        spec: Spec[Batch, PieceT],
        missing: Sequence[Shard],
        on_done: OnDone,
        progress: Progress = no_progress,
        private: tuple[int, ...] = (),
    ) -> None:
        """Makes the missing shards. The caller's thread tells `on_done` of each, in any order, once; then it is
        committed.

        `private`: open files, the job's lock among them, that processes which are forked off must close. What goes
        wrong is raised, the shards that are done by then stay.
        """


class RowRanges(Iterator[range]):
    """Shards cut into ranges of rows, which several threads take in order."""

    def __init__(self, shards: Sequence[Shard], size: int) -> None:
        self._ranges = [
            range(start, min(start + size, shard.stop))
            for shard in shards
            for start in range(shard.start, shard.stop, size)
        ]
        self.count = len(self._ranges)
        self._left = iter(self._ranges)
        self._lock = Lock()

    def __next__(self) -> range:
        with self._lock:
            return next(self._left)

    def close(self) -> None:
        """Hands out no more."""
        with self._lock:
            self._left = iter(())
