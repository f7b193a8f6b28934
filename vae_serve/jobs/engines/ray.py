"""The engine for a Ray cluster: a task for each shard, the same bytes as on one machine, whatever dies on the way.

Ray lives in a process of its own, `ray_link`: its threads, its messages and its habit of ending a process that has lost
the cluster stay there. This process lists the source, sends each shard's names, and commits what comes back; workers
need no access to the result.
"""

import importlib.util
import pickle
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any

from vae_serve.errors import EngineError, MissingExtra
from vae_serve.jobs import packages
from vae_serve.jobs.engines import connected
from vae_serve.jobs.engines.outcomes import result_of, unpacked
from vae_serve.jobs.engines.parcels import Packer
from vae_serve.jobs.engines.tally import Tally
from vae_serve.jobs.plan import Shard
from vae_serve.jobs.task import Batch, Note, OnDone, PieceT, Progress, Spec, no_note, no_progress

TICK = 0.1  # seconds between two reports
ENOUGH = 4  # shards for each CPU, below which some CPUs wait at the end for the others
GRACE = 5.0  # seconds in which the link may take leave of the cluster

_joining: "list[Link]" = []  # the one that the next `run` takes


@contextmanager
def joining(address: str | None) -> Iterator[None]:
    """Begins to join the cluster, which takes longer than to plan a job; `run` in the block goes on from there."""
    if importlib.util.find_spec("ray") is None:
        yield  # `run` says so, where there is something to do
        return
    link = Link(address)
    _joining.append(link)
    try:
        yield
    finally:
        if link in _joining:
            _joining.remove(link)
            link.kill()


def run(
    spec: Spec[Batch, PieceT],
    missing: Sequence[Shard],
    on_done: OnDone,
    progress: Progress = no_progress,
    private: tuple[int, ...] = (),
    *,
    address: str | None = None,
    note: Note = no_note,
) -> None:
    """Makes the missing shards; `on_done` is told of each, in the order in which they are finished.

    Raises:
        MissingExtra: Ray is not installed.
        EngineError: there is no cluster, it has no CPUs, its workers run on other packages, or it is lost.
        VaeServeError: what a shard raises.
    """
    if not missing:
        return
    if importlib.util.find_spec("ray") is None:
        raise MissingExtra("ray", "--engine ray")
    tally = Tally(progress)
    figures: dict[str, float | str] = {}
    with _joining.pop() if _joining else Link(address) as link:
        job = _Job(spec, missing, link)
        while job.left:
            job.send()
            event = link.next(TICK)
            if event is None:
                tally.tick(**figures)
                continue
            match event:
                case "cluster", cpus, window:
                    job.window = window
                    _warn_of_few(spec, len(missing), cpus, note)
                case "figures", now:
                    figures = now
                case "note", line:
                    note(line)
                case "error", error:
                    raise error
                case "done", number, answer:
                    shard = job.shards[number]
                    result = result_of(unpacked(answer), shard)
                    on_done(shard, result)
                    job.committed()
                    tally.add(shard, result.record)
    tally.tick(**figures)


class _Job:
    """The missing shards, sent as the cluster can take them."""

    def __init__(self, spec: Spec[Any, Any], missing: Sequence[Shard], link: "Link") -> None:
        self._spec, self._link = spec, link
        self.shards = {shard.number: shard for shard in missing}
        self._waiting = iter(missing)
        self._packer = Packer()
        self._shared: set[str] = set()
        self.left, self._sent = len(missing), 0
        self.window = 0
        """How many may be under way."""

    def send(self) -> None:
        """Fills the window."""
        while self._sent < self.window and (shard := next(self._waiting, None)) is not None:
            request = self._packer.request_for(self._spec, shard)
            for key in self._packer.shared.keys() - self._shared:
                self._link.tell("shared", key, self._packer.shared[key])
                self._packer.shared[key] = b""  # the cluster has it
                self._shared.add(key)
            self._link.tell("shard", shard.number, request)
            self._sent += 1

    def committed(self) -> None:
        """One is done."""
        self.left -= 1
        self._sent -= 1


class Link:
    """The process that is connected to the cluster. As a context it ends with it, and so do the job's tasks."""

    def __init__(self, address: str | None) -> None:
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  what Ray says; closed with the process
        self._process, self._orders, self._events = connected.start(
            "vae_serve.jobs.engines.ray_link", {"RAY_USAGE_STATS_ENABLED": "0"}, self._said
        )
        self._address = address
        self.tell("connect", address, pickle.dumps(packages.running()))

    def __enter__(self) -> "Link":
        return self

    def __exit__(self, *_: object) -> None:
        self._orders.close()
        self._events.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE)
        self.kill()

    def kill(self) -> None:
        """Ends it at once, if it has not ended."""
        self._process.kill()
        self._process.wait()
        self._orders.close()
        self._events.close()
        self._said.close()

    def tell(self, kind: str, what: object, contents: bytes) -> None:
        """One order. Where the link is gone, `next` says so."""
        try:
            self._orders.send_bytes(pickle.dumps((kind, what, contents), pickle.HIGHEST_PROTOCOL))
        except OSError:
            raise self._lost() from None

    def next(self, timeout: float) -> tuple[Any, ...] | None:
        """What happens next; None where nothing does for so long.

        Raises:
            EngineError: the cluster is lost.
        """
        try:
            if not self._events.poll(timeout):
                return None
            event: tuple[Any, ...] = pickle.loads(self._events.recv_bytes())  # noqa: S301  from our own child
        except (EOFError, OSError):
            raise self._lost() from None
        return event

    def _lost(self) -> EngineError:
        self._process.wait()
        self._said.seek(0)
        said = self._said.read().decode(errors="replace").strip().splitlines()
        why = f" (Ray says: {said[-1].strip():.300})" if said else ""
        where = f"at {self._address}" if self._address else "of this machine"
        return EngineError(
            f"the Ray cluster {where} is lost{why}; the finished shards stay: start the cluster again, and run the "
            "same command"
        )


def _warn_of_few(spec: Spec[Any, Any], shards: int, cpus: int, note: Note) -> None:
    if shards < ENOUGH * cpus:
        rows = max(1, spec.plan.rows // (ENOUGH * cpus))
        note(
            f"{shards:,} shards for {cpus:,} CPUs: some of them will wait for the others; a new job with "
            f"--rows-per-shard {rows} has enough"
        )
