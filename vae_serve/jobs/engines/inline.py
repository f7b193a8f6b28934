"""The engine for one machine: a thread for each lane of the work, shards assembled and written by the caller's."""

from bisect import bisect_right
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from queue import Empty, SimpleQueue
from threading import Condition, Thread

from vae_serve.jobs.assembler import ShardAssembler
from vae_serve.jobs.plan import Shard
from vae_serve.jobs.task import Batch, OnDone, PieceT, Progress, ShardResult, Spec, Work, no_progress

TICK = 0.1  # seconds between two reports


def run(
    spec: Spec[Batch, PieceT],
    missing: Sequence[Shard],
    on_done: OnDone,
    progress: Progress = no_progress,
    private: tuple[int, ...] = (),
) -> None:
    """Makes the missing shards; `on_done` is told of each, in the order in which they are finished.

    What goes wrong in a thread is raised here.
    """
    with closing(full_shards(spec, missing, progress, private)) as finished:
        for shard, pieces, work in finished:
            on_done(shard, work.assemble(shard, pieces))


def run_shard(spec: Spec[Batch, PieceT], shard: Shard) -> ShardResult:
    """One shard by itself, as any engine runs it."""
    results: list[ShardResult] = []
    run(spec, [shard], lambda _, result: results.append(result))
    return results[0]


def full_shards(
    spec: Spec[Batch, PieceT],
    missing: Sequence[Shard],
    progress: Progress = no_progress,
    private: tuple[int, ...] = (),
    ahead: int | None = None,
) -> Generator[tuple[Shard, list[PieceT], Work[Batch, PieceT]], None, None]:
    """Each missing shard when all of its pieces are there, with the work that assembles it. Closing it ends the work.

    With `ahead` they come in order, and work is at most so many shards ahead of what has been taken: the caller may
    take its time, and memory stays flat. Without, they come as they are finished.
    """
    if not missing:
        return
    full: SimpleQueue[tuple[Shard, list[PieceT]] | BaseException] = SimpleQueue()
    assembler = ShardAssembler[PieceT](missing, lambda shard, pieces: full.put((shard, pieces)))
    window = _Window(missing, ahead)
    work = spec.start(missing, private)
    threads: list[Thread] = []
    finished = False
    try:
        for lane in work.lanes:
            threads.append(Thread(target=_work, args=(work, lane, assembler, full, window), daemon=True))
            threads[-1].start()
        work.prepare()
        early: dict[int, list[PieceT]] = {}  # shards that are full before one in front of them
        for expected in missing:
            while ahead is None or expected.number not in early:
                shard, pieces = _next_full(full, lambda: progress(assembler.rows_done, assembler.failed))
                if ahead is None:
                    yield shard, pieces, work
                    break
                early[shard.number] = pieces
            if ahead is not None:
                yield expected, early.pop(expected.number), work
                window.advance()
        finished = True
    finally:
        window.close()
        work.stop(finished)
        for thread in threads:
            thread.join()
    progress(assembler.rows_done, assembler.failed)


class _Window:
    """The shards that may be worked on: those up to `ahead` after the last one that was taken.

    A lane's batches come in the order of their rows, so a thread that waits holds back nothing that an earlier shard
    needs.
    """

    def __init__(self, missing: Sequence[Shard], ahead: int | None) -> None:
        self._starts = [shard.start for shard in missing]
        self._ahead, self._taken, self._closed = ahead, 0, False
        self._changed = Condition()

    def wait_for(self, row: int) -> bool:
        """Waits until a row's shard may be worked on; false where no more is wanted."""
        if self._ahead is None:
            return True
        shard = bisect_right(self._starts, row) - 1
        with self._changed:
            self._changed.wait_for(lambda: self._closed or shard < self._taken + (self._ahead or 0))
            return not self._closed

    def advance(self) -> None:
        """One shard more has been taken."""
        with self._changed:
            self._taken += 1
            self._changed.notify_all()

    def close(self) -> None:
        """Lets all that wait go."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def _work(
    work: Work[Batch, PieceT],
    lane: Iterator[Batch],
    assembler: ShardAssembler[PieceT],
    full: "SimpleQueue[tuple[Shard, list[PieceT]] | BaseException]",
    window: _Window,
) -> None:
    """One thread's life."""
    try:
        for batch in lane:
            piece = work.process(batch)
            if not window.wait_for(piece.rows.start):
                return
            assembler.add(piece)
    except BaseException as error:  # noqa: BLE001  a thread has nobody to raise to
        full.put(error)


def _next_full(
    full: "SimpleQueue[tuple[Shard, list[PieceT]] | BaseException]", tick: Callable[[], None]
) -> tuple[Shard, list[PieceT]]:
    while True:
        tick()
        try:
            entry = full.get(timeout=TICK)
        except Empty:
            continue
        if isinstance(entry, BaseException):
            raise entry
        return entry
