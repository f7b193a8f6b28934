"""The engine for one machine: a thread for each lane of the work, shards assembled and written by the caller's."""

from collections.abc import Callable, Iterator, Sequence
from queue import Empty, SimpleQueue
from threading import Thread

from vae_serve.jobs.assembler import ShardAssembler
from vae_serve.jobs.plan import Shard
from vae_serve.jobs.task import Batch, OnDone, PieceT, Progress, ShardResult, Spec, Work

TICK = 0.1  # seconds between two reports


def run(
    spec: Spec[Batch, PieceT],
    missing: Sequence[Shard],
    on_done: OnDone,
    progress: Progress = lambda done, failed: None,
    private: tuple[int, ...] = (),
) -> None:
    """Makes the missing shards; `on_done` is told of each, in the order in which they are finished.

    What goes wrong in a thread is raised here.
    """
    if not missing:
        return
    full: SimpleQueue[tuple[Shard, list[PieceT]] | BaseException] = SimpleQueue()
    assembler = ShardAssembler[PieceT](missing, lambda shard, pieces: full.put((shard, pieces)))
    work = spec.start(missing, private)
    threads: list[Thread] = []
    finished = False
    try:
        for lane in work.lanes:
            threads.append(Thread(target=_work, args=(work, lane, assembler, full), daemon=True))
            threads[-1].start()
        work.prepare()
        for _ in missing:
            shard, pieces = _next_full(full, lambda: progress(assembler.rows_done, assembler.failed))
            on_done(shard, work.assemble(shard, pieces))
        finished = True
    finally:
        work.stop(finished)
        for thread in threads:
            thread.join()
    progress(assembler.rows_done, assembler.failed)


def run_shard(spec: Spec[Batch, PieceT], shard: Shard) -> ShardResult:
    """One shard by itself, as any engine runs it."""
    results: list[ShardResult] = []
    run(spec, [shard], lambda _, result: results.append(result))
    return results[0]


def _work(
    work: Work[Batch, PieceT],
    lane: Iterator[Batch],
    assembler: ShardAssembler[PieceT],
    full: "SimpleQueue[tuple[Shard, list[PieceT]] | BaseException]",
) -> None:
    """One thread's life."""
    try:
        for batch in lane:
            assembler.add(work.process(batch))
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
