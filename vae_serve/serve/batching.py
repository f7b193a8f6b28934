"""How requests share the calls of networks: what waits when a worker is free goes together. No timer.

A lane is the queue of one network and one type of rows. Requests are cut into pieces, and pieces are joined to batches
of at most the lane's best size. A request that is larger than a batch goes to the end of its lane after each piece, so
that small ones need not wait for it. All state belongs to the event loop; a worker gets a batch and gives back its
outputs.

A batch that takes less than a thread is worth is run on the loop itself, after everything that has arrived by then has
joined it: for one row of a small network the way to a thread and back costs more than the network. Where nothing else
is being answered, a longer one is, too.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vae_serve.serve.answers import busy

Array = npt.NDArray[Any]
Outputs = tuple[Array, ...]

ASIDE = 250e-6  # seconds; what takes longer is run by a worker
ALONE = 4e-3  # the same where nothing else is being answered: who comes meanwhile waits for so long, once
TIMED = 3  # calls of each size, of which the quickest counts


class Statistics:
    """What a lane has done: counts, and nanoseconds."""

    __slots__ = ("batches", "queue_ns")

    def __init__(self) -> None:
        self.batches: dict[int, tuple[int, int]] = {}  # by rows: calls, nanoseconds in them
        self.queue_ns = 0


class Work:
    """The rows of one request, and what has become of them."""

    __slots__ = ("arrived", "future", "left", "outputs", "rows", "taken")

    def __init__(self, rows: Array, future: "asyncio.Future[Outputs]") -> None:
        self.rows, self.future = rows, future
        self.taken = 0  # rows that have gone into a batch
        self.left = len(rows)  # rows that are not back yet
        self.outputs: Outputs | None = None  # for the pieces of a large request
        self.arrived = time.monotonic()


class Result(NamedTuple):
    """What came of a call."""

    outputs: Outputs | Exception
    rows: int
    ns: int


Piece = tuple[Work, int, int]  # rows start to stop of a request


class Lane:
    """The queue of a network for rows of one type."""

    def __init__(self, call: Callable[[Array], Outputs], best: int, sample: Array) -> None:
        """`call`: rows (n, ...) to outputs, each of n rows; the same for a row whatever is beside it.

        `best`: rows of a batch; `sample`: so many rows, with which the time of a call is measured.

        Raises:
            BundleError: the network cannot be run.
        """
        self.call, self.best = call, best
        self.waiting: deque[Work] = deque()
        self.rows = 0  # of those that are in no batch yet
        self.statistics = Statistics()
        one, many = _seconds(call, sample[:1]), _seconds(call, sample)
        self._row = max(0.0, (many - one) / max(len(sample) - 1, 1))
        self._call = max(0.0, one - self._row)

    def seconds(self, rows: int) -> float:
        """About what a call takes."""
        return self._call + rows * self._row

    def run(self, rows: Array) -> "Result":
        """One call. What it raises is its result: each of those who wait for it is told."""
        begun = time.perf_counter_ns()
        try:
            outputs: Outputs | Exception = self.call(rows)
        except Exception as error:  # noqa: BLE001  as said
            outputs = error
        return Result(outputs, len(rows), time.perf_counter_ns() - begun)

    def count(self, result: "Result") -> None:
        """Adds a call to the statistics; on the loop, since threads would lose each other's counts."""
        calls, spent = self.statistics.batches.get(result.rows, (0, 0))
        self.statistics.batches[result.rows] = calls + 1, spent + result.ns


def _seconds(call: Callable[[Array], Outputs], rows: Array) -> float:
    quickest = float("inf")
    for _ in range(TIMED):
        begun = time.perf_counter()
        call(rows)
        quickest = min(quickest, time.perf_counter() - begun)
    return quickest


class Workers:
    """Threads that run batches, and the queue of what waits for them. To be used on the event loop alone."""

    def __init__(self, count: int, waiting: int, seconds: float) -> None:
        """`count` threads; at most `waiting` requests wait, each for at most so many `seconds`."""
        self._loop = asyncio.get_running_loop()
        self.count, self._most, self._longest = count, waiting, seconds
        self.waiting = 0  # requests that have rows which are in no batch yet
        self._free = count
        self._lanes: deque[Lane] = deque()  # those with something waiting, each once, in turn
        self._scheduled = False
        self._jobs: SimpleQueue[tuple[Lane, list[Piece], Array] | None] = SimpleQueue()
        for number in range(count):
            threading.Thread(target=self._work, name=f"network-{number}", daemon=True).start()

    async def run(self, lane: Lane, rows: Array, alone: bool = False) -> Outputs:
        """The outputs for the rows of one request, each an array of as many rows.

        `alone`: nothing else is being answered, so there is nothing that could go along.

        Raises:
            Refusal: 503, too much waits, or this has waited for too long.
            BundleError: the network cannot be run.
        """
        if alone and not self.waiting and len(rows) <= lane.best and lane.seconds(len(rows)) <= ALONE:
            result = lane.run(rows)
            lane.count(result)
            if isinstance(result.outputs, Exception):
                raise result.outputs
            return result.outputs
        if self.waiting >= self._most:
            raise busy(f"{self.waiting} requests wait already; try again in a second")
        work = Work(rows, self._loop.create_future())
        self.waiting += 1
        if not lane.waiting:
            self._lanes.append(lane)
        lane.waiting.append(work)
        lane.rows += len(rows)
        self._wake()
        try:
            return await work.future
        finally:
            del work  # an error's traceback has this frame in it, and the frame would have the error

    def stop(self) -> None:
        """Ends the threads after what they are busy with."""
        for _ in range(self.count):
            self._jobs.put(None)

    def _wake(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._share_out)

    def _share_out(self) -> None:
        """Makes a batch for each worker that is free, in turn of the lanes; small ones are run here."""
        self._scheduled = False
        here = 0.0
        for _ in range(len(self._lanes)):
            lane = self._lanes[0]
            seconds = lane.seconds(min(lane.rows, lane.best))
            if here + seconds <= ASIDE and lane.rows <= lane.best:
                here += seconds
                pieces = self._take(lane)
                if pieces:
                    self._run_here(lane, pieces)
            else:
                self._lanes.rotate(-1)
        while self._free and self._lanes:
            lane = self._lanes[0]
            pieces = self._take(lane)
            if pieces:
                self._free -= 1
                self._jobs.put((lane, pieces, _joined(pieces)))

    def _take(self, lane: Lane) -> list[Piece]:
        """The next batch of the first lane, which then goes to the end of the turn, or out of it."""
        room = lane.best
        pieces: list[Piece] = []
        now = time.monotonic()
        for _ in range(len(lane.waiting)):
            if not room:
                break
            work = lane.waiting.popleft()
            left = len(work.rows) - work.taken
            if not work.taken and now - work.arrived > self._longest:
                self.waiting -= 1
                lane.rows -= left
                _fail(work, busy(f"no worker was free within {self._longest:g} s; try again"))
                continue
            if work.future.done():  # of another piece there was an error, or the caller is gone
                self.waiting -= 1
                lane.rows -= left
                continue
            start = work.taken
            stop = work.taken = min(start + room, len(work.rows))
            room -= stop - start
            lane.rows -= stop - start
            pieces.append((work, start, stop))
            if stop < len(work.rows):
                lane.waiting.append(work)
            else:
                self.waiting -= 1
                lane.statistics.queue_ns += int((now - work.arrived) * 1e9)
        self._lanes.popleft()
        if lane.waiting:
            self._lanes.append(lane)
        return pieces

    def _run_here(self, lane: Lane, pieces: list[Piece]) -> None:
        result = lane.run(_joined(pieces))
        lane.count(result)
        _hand_out(pieces, result.outputs)

    def _work(self) -> None:
        """The life of a thread."""
        while (job := self._jobs.get()) is not None:
            lane, pieces, rows = job
            result = lane.run(rows)
            try:
                self._loop.call_soon_threadsafe(self._done, lane, pieces, result)
            except RuntimeError:  # the loop has ended, and with it all who wait
                return

    def _done(self, lane: Lane, pieces: list[Piece], result: Result) -> None:
        self._free += 1
        self._share_out()  # before the answers are written: the worker is free now
        lane.count(result)
        _hand_out(pieces, result.outputs)


def _joined(pieces: list[Piece]) -> Array:
    """The rows of a batch."""
    if len(pieces) == 1:
        work, start, stop = pieces[0]
        return work.rows[start:stop]
    return np.concatenate([work.rows[start:stop] for work, start, stop in pieces])


def _hand_out(pieces: list[Piece], outputs: Outputs | Exception) -> None:
    """Gives each request its own rows of a batch's outputs."""
    if isinstance(outputs, Exception):
        for work, _, _ in pieces:
            _fail(work, outputs)
        return
    at = 0
    for work, start, stop in pieces:
        size = stop - start
        own = tuple(output[at : at + size] for output in outputs)
        at += size
        work.left -= size
        if size == len(work.rows):
            work.outputs = own
        else:
            if work.outputs is None:
                work.outputs = tuple(np.empty((len(work.rows), *part.shape[1:]), part.dtype) for part in own)
            for whole, part in zip(work.outputs, own, strict=True):
                whole[start:stop] = part
        if not work.left and not work.future.done():
            work.future.set_result(work.outputs)


def _fail(work: Work, error: Exception) -> None:
    if not work.future.done():
        work.future.set_exception(error)
