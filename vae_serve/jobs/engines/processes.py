"""The engine for one machine whose shards are made in processes of their own, a shard at a time each.

Where the source or the result is remote, requests wait for the network in many processes at once, and a client of an
object store, which does not survive a fork, is never in the process that plans. This process commits the shards; the
others write nothing.
"""

import threading
from collections import Counter, deque
from collections.abc import Sequence
from queue import Empty, SimpleQueue

from vae_serve.jobs.engines.outcomes import DEATHS, Ended, Outcome, result_of, unpacked
from vae_serve.jobs.engines.parcels import request_for
from vae_serve.jobs.engines.shard_process import Died, ShardProcess
from vae_serve.jobs.engines.tally import Tally
from vae_serve.jobs.plan import Shard
from vae_serve.jobs.task import Batch, OnDone, PieceT, Progress, Spec, no_progress

TICK = 0.1  # seconds between two reports
IN_FLIGHT = 2  # shards for each process: the one that is made, and one that waits to be committed


def run(
    spec: Spec[Batch, PieceT],
    missing: Sequence[Shard],
    on_done: OnDone,
    progress: Progress = no_progress,
    private: tuple[int, ...] = (),
    *,
    workers: int,
) -> None:
    """Makes the missing shards; `on_done` is told of each, in the order in which they are finished.

    Raises:
        VaeServeError: what a shard raises; EngineError where three processes have ended at one.
    """
    if not missing:
        return
    shards = _Shards(spec, missing, min(workers, len(missing)))
    tally = Tally(progress)
    try:
        for _ in range(len(missing)):
            while (entry := shards.next(TICK)) is None:
                tally.tick()
            shard, outcome = entry
            result = result_of(outcome, shard)
            on_done(shard, result)
            shards.committed()
            tally.add(shard, result.record)
    finally:
        shards.stop()
    tally.tick()


class _Shards:
    """Shards under way in some processes, each with a thread that waits for it."""

    def __init__(self, spec: Spec[Batch, PieceT], missing: Sequence[Shard], count: int) -> None:
        self._spec = spec
        self._waiting = deque(missing)
        self._deaths: Counter[int] = Counter()
        self._finished: SimpleQueue[tuple[Shard, Outcome] | BaseException] = SimpleQueue()
        self._room = threading.Semaphore(IN_FLIGHT * count)
        self._left = len(missing)
        self._changed = threading.Condition()
        self._stopped = False
        self._processes: set[ShardProcess] = set()
        self._threads = [threading.Thread(target=self._tend, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def next(self, timeout: float) -> tuple[Shard, Outcome] | None:
        """One that is finished; None where there is none for so long. Raises what a thread has met."""
        try:
            entry = self._finished.get(timeout=timeout)
        except Empty:
            return None
        if isinstance(entry, BaseException):
            raise entry
        return entry

    def committed(self) -> None:
        """One that was finished needs no memory any more."""
        self._room.release()

    def stop(self) -> None:
        """Ends the processes: what they are busy with is lost."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
            for process in self._processes:
                process.kill()
        self._room.release(len(self._threads))
        for thread in self._threads:
            thread.join()

    def _take(self) -> Shard | None:
        """A shard to be made; None where there is none any more. Another process may yet give one back."""
        self._room.acquire()
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._waiting or not self._left)
            return None if self._stopped or not self._left else self._waiting.popleft()

    def _tend(self) -> None:
        """One thread's life: a process, and a successor where it dies."""
        process: ShardProcess | None = None
        try:
            while (shard := self._take()) is not None:
                request = request_for(self._spec, shard)
                process = process or self._start()
                try:
                    answer = process.make(request)
                except Died as death:
                    self._forget(process)
                    process = None
                    self._try_again(shard, str(death))
                    continue
                self._finish(shard, unpacked(answer))
        except BaseException as error:  # noqa: BLE001  a thread has nobody to raise to
            self._finished.put(error)
        finally:
            if process is not None:
                process.stop()
                self._forget(process)

    def _start(self) -> ShardProcess:
        process = ShardProcess()
        with self._changed:
            self._processes.add(process)
            if self._stopped:
                process.kill()
        return process

    def _forget(self, process: ShardProcess) -> None:
        with self._changed:
            self._processes.discard(process)

    def _try_again(self, shard: Shard, how: str) -> None:
        with self._changed:
            self._deaths[shard.number] += 1
            if not self._stopped and self._deaths[shard.number] < DEATHS:
                self._waiting.appendleft(shard)
                self._changed.notify_all()
                self._room.release()
                return
        self._finish(shard, Ended(how))

    def _finish(self, shard: Shard, outcome: Outcome) -> None:
        with self._changed:
            self._left -= 1
            self._changed.notify_all()
        self._finished.put((shard, outcome))
