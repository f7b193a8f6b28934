"""Which shard is made on which node of a Ray cluster: the only module that speaks with Ray's scheduler.

Each shard is a task that is sent to a node by name, two for each CPU at a time, so that it is known where it is. What
is lost with its worker or its node is sent again. A shard that is late, by this process' own clock and by how long the
others took, is sent a second time, to a node that has just answered: a link that is cut says nothing, and with Ray's
defaults it takes minutes until a node counts as dead. Whichever copy answers first is taken; all have the same bytes.
"""

import statistics
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from vae_serve.errors import EngineError
from vae_serve.jobs.engines import ray_task
from vae_serve.jobs.engines.outcomes import DEATHS, Ended, packed, unpacked

PER_CPU = 2  # shards: one that is made, and one that waits there
LATE = 3.0  # times the median of the others
LEAST_LATE = 5.0  # seconds
UNKNOWN_LATE = 60.0  # seconds, until any shard is done
LOSSES = 10  # of one shard, with workers and nodes that were lost
LOOK = 1.0  # seconds between two looks at the cluster's nodes
MEDIAN_OF = 100  # of the last shards
REST, LONGEST_REST = 0.5, 30.0  # seconds in which a node that has lost something gets nothing, more each time


@dataclass
class Node:
    """A node of the cluster."""

    key: str
    ip: str
    cpus: int
    attempts: int = 0
    """Under way there."""
    heard: float = field(default_factory=time.monotonic)
    """When it last answered, or when it was first given something to do."""
    rest: float = REST
    """Seconds that it rests when it loses something next. A dead one loses all at once, until Ray knows it."""
    rests_until: float = 0.0


@dataclass(frozen=True)
class Attempt:
    """A copy of a shard's task."""

    number: int
    node: Node
    begun: float


class Schedule:
    """The shards under way."""

    def __init__(self, wanted: bytes, tell: Callable[..., None], where: str) -> None:
        """`wanted`: packages. `tell` is told of events, see `ray.run`."""
        self._wanted, self._tell = ray.put(wanted), tell
        self._task = ray.remote(num_cpus=1, max_retries=0)(ray_task.make)
        self._shared: list[tuple[str, Any]] = []
        self._requests: dict[int, Any] = {}
        self._waiting: deque[int] = deque()
        self._attempts: dict[Any, Attempt] = {}
        self._losses: Counter[int] = Counter()
        self._deaths: Counter[int] = Counter()
        self._lost_by: Counter[str] = Counter()
        self._took: deque[float] = deque(maxlen=MEDIAN_OF)
        self._copies = 0
        self._nodes: dict[str, Node] = {}
        self._seen: list[dict[str, Any]] = _nodes()
        self._window = 0
        threading.Thread(target=self._look, daemon=True).start()
        self._update_nodes()
        if not self._window:
            raise EngineError(f"no node of the Ray cluster {where} has a CPU to give; start nodes with --num-cpus")

    @property
    def under_way(self) -> bool:
        """Whether there is anything to wait for."""
        return bool(self._attempts or self._waiting)

    def share(self, key: str, contents: bytes) -> None:
        """What the shards after it share; it is kept by the cluster, once."""
        self._shared.append((key, ray.put(contents)))

    def add(self, number: int, request: bytes) -> None:
        """One shard more."""
        self._requests[number] = request
        self._waiting.append(number)

    def step(self, timeout: float) -> None:
        """Sends what can be sent, waits for answers, looks after what is late."""
        self._update_nodes()
        while self._waiting and (node := self._free_node()) is not None:
            self._send(self._waiting.popleft(), node)
        if not self._attempts:
            time.sleep(timeout if self._waiting else 0)
        else:
            ready, _ = ray.wait([*self._attempts], num_returns=1, timeout=timeout)
            if ready:
                ready, _ = ray.wait([*self._attempts], num_returns=len(self._attempts), timeout=0)
            for reference in ready:
                self._take(reference)
        self._copy_late()

    def _send(self, number: int, node: Node) -> None:
        if not node.attempts:
            node.heard = time.monotonic()
        node.attempts += 1
        strategy = NodeAffinitySchedulingStrategy(node_id=node.key, soft=False)
        task = self._task.options(scheduling_strategy=strategy, name=f"vae-serve shard {number}")
        reference = task.remote(self._requests[number], self._shared, self._wanted, node.ip)
        self._attempts[reference] = Attempt(number, node, time.monotonic())

    def _take(self, reference: Any) -> None:
        """An answer, or the news that there will be none."""
        attempt = self._attempts.pop(reference)
        attempt.node.attempts -= 1
        number = attempt.number
        try:
            answer: bytes = ray.get(reference, timeout=LEAST_LATE)
        except RayTaskError as error:
            self._refuse(attempt, error)
        except RayError as error:
            self._lose(attempt, error)
            return
        attempt.node.heard, attempt.node.rest = time.monotonic(), REST
        if number not in self._requests:
            return  # another copy was here first
        outcome = unpacked(answer) if len(answer) < 1 << 12 else None
        if isinstance(outcome, Ended):
            self._deaths[number] += 1
            self._lost_by["ended process"] += 1
            if self._deaths[number] < DEATHS:
                self._again(number)
                return
        self._took.append(time.monotonic() - attempt.begun)
        del self._requests[number]
        self._tell("done", number, answer)
        self._report()

    def _refuse(self, attempt: Attempt, error: RayTaskError) -> None:
        text = str(error)
        if "ModuleNotFoundError" in text or "ImportError" in text:
            raise EngineError(
                f"the Ray worker on {attempt.node.ip} has no vae-serve of this version; install the same packages on "
                "all nodes"
            ) from error
        last = text.strip().splitlines()[-1]
        raise EngineError(
            f"the Ray worker on {attempt.node.ip} could not run shard {attempt.number}: {last:.300}"
        ) from error

    def _lose(self, attempt: Attempt, error: RayError) -> None:
        kind = _REASONS.get(type(error).__name__, type(error).__name__)
        self._lost_by[kind] += 1
        node, number = attempt.node, attempt.number
        node.rests_until, node.rest = time.monotonic() + node.rest, min(2 * node.rest, LONGEST_REST)
        if number not in self._requests:
            return
        if isinstance(error, OutOfMemoryError):
            self._deaths[number] += 1
        self._losses[number] += 1
        if self._deaths[number] >= DEATHS:
            self._tell("done", number, packed(Ended("the node had no memory left")))
        elif self._losses[number] >= LOSSES:
            raise EngineError(
                f"shard {number} was lost {LOSSES} times with the machines that made it, at last by {kind}; the "
                "finished shards stay: run the same command again"
            )
        else:
            self._again(number)

    def _again(self, number: int) -> None:
        if not any(attempt.number == number for attempt in self._attempts.values()):
            self._waiting.appendleft(number)

    def _late_after(self) -> float:
        if not self._took:
            return UNKNOWN_LATE
        return max(LEAST_LATE, LATE * statistics.median(self._took))

    def _copy_late(self) -> None:
        """A second copy of each shard whose youngest copy is late."""
        now, limit = time.monotonic(), self._late_after()
        youngest: dict[int, Attempt] = {}
        for attempt in self._attempts.values():
            before = youngest.get(attempt.number)
            if before is None or before.begun < attempt.begun:
                youngest[attempt.number] = attempt
        for number, attempt in youngest.items():
            if number in self._requests and now - attempt.begun > limit:
                heard = [node for node in self._nodes.values() if node is not attempt.node and self._answers(node)]
                if heard:
                    self._copies += 1
                    self._send(number, max(heard, key=lambda node: (node.cpus * PER_CPU > node.attempts, node.heard)))

    def _answers(self, node: Node) -> bool:
        """Whether a node has answered lately, or has nothing to answer, and has not just lost something."""
        now = time.monotonic()
        return now >= node.rests_until and (not node.attempts or now - node.heard <= self._late_after())

    def _free_node(self) -> Node | None:
        """Where the next shard goes: the node with the most room, of those that answer."""
        free = [node for node in self._nodes.values() if node.attempts < PER_CPU * node.cpus and self._answers(node)]
        return max(free, key=lambda node: PER_CPU - node.attempts / node.cpus, default=None)

    def _look(self) -> None:
        """A thread's life: asks for the nodes, which takes long where the head does not answer."""
        while True:
            time.sleep(LOOK)
            try:
                self._seen = _nodes()
            except Exception:  # noqa: BLE001, S112  Ray ends the process itself where the head stays away
                continue

    def _update_nodes(self) -> None:
        alive = {
            entry["NodeID"]: entry for entry in self._seen if entry["Alive"] and entry["Resources"].get("CPU", 0) >= 1
        }
        if alive.keys() == self._nodes.keys():
            return
        self._nodes = {
            key: self._nodes.get(key) or Node(key, entry["NodeManagerAddress"], int(entry["Resources"]["CPU"]))
            for key, entry in alive.items()
        }
        cpus = sum(node.cpus for node in self._nodes.values())
        self._window = max(PER_CPU * cpus, self._window and 1)
        self._tell("cluster", cpus, self._window)
        self._report()

    def _report(self) -> None:
        figures: dict[str, Any] = {"nodes": len(self._nodes), "shards": len(self._requests)}
        if self._copies:
            figures["late"] = self._copies
        if self._lost_by:
            figures["lost"] = sum(self._lost_by.values())
        self._tell("figures", figures)


def _nodes() -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]  # Ray types most, not this
    return nodes


_REASONS = {
    "WorkerCrashedError": "a worker that died",
    "NodeDiedError": "a node that died",
    "TaskUnschedulableError": "a node that is gone",
    "OwnerDiedError": "an owner that died",
    "OutOfMemoryError": "a node without memory",
    "LocalRayletDiedError": "the raylet of its node",
    "ObjectLostError": "a result that was lost",
}
