"""Requests share calls, and nobody notices: each caller gets the rows of a call of its own, to the bit."""

import asyncio
import signal
import threading
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from serving import MNIST, binary, read_all, serving
from serving import wait_for as wait_until

from vae_serve.model.model import Model
from vae_serve.serve.answers import Refusal
from vae_serve.serve.batching import Lane, Workers
from vae_serve.serve.networks import Network
from vae_serve.serve.served import load


@pytest.fixture(scope="module")
def served():
    return load(MNIST)


SIZES = (1, 1, 1, 2, 3, 5, 17, 63, 64, 65, 127, 128, 129, 300, 777)


async def _asked(network: Network, workers: Workers, rows: np.ndarray, pause: float):
    await asyncio.sleep(pause)
    return await network.run(workers, rows)


@pytest.mark.parametrize("workers", [1, 3])
def test_thousands_of_requests_of_odd_sizes_at_once_get_the_bits_of_calls_of_their_own(served, workers):
    random = np.random.default_rng(workers)
    requests = []
    for _ in range(3000):
        network = served.networks[random.choice(["mnist_encoder", "mnist_decoder"])]
        size = int(random.choice(SIZES[:-3] if random.random() < 0.98 else SIZES))
        if network.role == "decoder":
            given = random.standard_normal((size, 2)).astype(np.float32)
        elif random.random() < 0.5:
            given = random.random((size, 28, 28, 1), np.float32)
        else:
            given = random.integers(0, 256, (size, 28, 28, 1), np.uint8)
        requests.append((network, given, float(random.random() * 0.5)))

    async def all_at_once():
        shared = Workers(workers, 10_000, 600)
        try:
            return await asyncio.gather(*(_asked(network, shared, rows, pause) for network, rows, pause in requests))
        finally:
            shared.stop()

    def calls():
        lanes = [lane for network in served.networks.values() for lane in network.lanes.values()]
        return sum(count for lane in lanes for count, _ in lane.statistics.batches.values())

    before = calls()
    answers = asyncio.run(all_at_once())
    assert calls() - before < len(requests) / 2  # they did share
    model = Model(served.model.bundle, threads=1)
    for (network, rows, _), outputs in zip(requests, answers, strict=True):
        own = model.encode(rows) if network.role == "encoder" else (model.decode(rows),)
        assert [output.tobytes() for output in outputs] == [output.tobytes() for output in own]


def test_requests_of_one_row_that_have_come_by_the_same_turn_share_a_call(tmp_path, points, expected):
    with serving("--model", MNIST, cwd=tmp_path) as service, ExitStack() as stack:
        callers = [stack.enter_context(service.connect()) for _ in range(16)]
        service.get("/v2")  # so that all of them are known
        service.signal(signal.SIGSTOP)
        state = Path(f"/proc/{service.process.pid}/stat")
        wait_until(lambda: state.read_text().rpartition(") ")[2].startswith("T"), "the service to stand still")
        for at, caller in enumerate(callers):
            body, header = binary("z", points[at : at + 1], parameters={"binary_data_output": True})
            lines = [*(f"{name}: {value}" for name, value in header.items()), f"Content-Length: {len(body)}"]
            head = "\r\n".join(["POST /v2/models/mnist_decoder/infer HTTP/1.1", "Connection: close", *lines, "", ""])
            caller.sendall(head.encode() + body)
        service.signal(signal.SIGCONT)
        answers = [read_all(caller)[-784 * 4 :] for caller in callers]
        [stats] = service.get("/v2/models/mnist_decoder/stats").json["model_stats"]
    assert {batch["batch_size"]: batch["compute_infer"]["count"] for batch in stats["batch_stats"]}[16] == 1
    assert answers == [image.tobytes() for image in expected.decode(points[:16])]


class Recorded:
    """A network that tells what it was called with, and waits at a gate."""

    def __init__(self):
        self.calls: list[list[int]] = []
        self.gate, self.entered = threading.Event(), threading.Event()

    def __call__(self, rows: np.ndarray) -> tuple[np.ndarray, ...]:
        self.calls.append(rows[:, 0].tolist())
        self.entered.set()
        assert self.gate.wait(60)
        return (rows * 2,)


def lane_of(network, best=4):
    network.gate.set()
    lane = Lane(network, best, np.zeros((best, 1)))
    lane._call = 1.0  # as long as a network that is worth a thread
    network.calls.clear()
    network.gate.clear()
    network.entered.clear()
    return lane


def rows(*values):
    return np.array(values, float)[:, None]


async def wait_for(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, 60)


@pytest.mark.parametrize(
    ("seconds", "alone", "on_the_loop"),
    [(1e-4, False, True), (1e-3, False, False), (1e-3, True, True), (1e-2, True, False)],
)
def test_a_call_runs_on_the_loop_where_it_is_short_or_nothing_else_is_there_and_it_is_not_long(
    seconds, alone, on_the_loop
):
    def network(rows):
        threads.append(threading.get_ident())
        return (rows,)

    threads: list[int] = []
    lane = Lane(network, 4, np.zeros((4, 1)))
    lane._call, lane._row = seconds, 0.0

    async def main():
        workers = Workers(1, 100, 600)
        await workers.run(lane, rows(1), alone)
        workers.stop()

    asyncio.run(main())
    assert (threads[-1] == threading.get_ident()) == on_the_loop


def test_what_waits_when_the_worker_is_free_goes_together_cut_at_the_best_batch():
    async def main():
        network = Recorded()
        lane, workers = lane_of(network), Workers(1, 100, 600)
        first = asyncio.create_task(workers.run(lane, rows(1)))
        await wait_for(network.entered)
        others = [asyncio.create_task(workers.run(lane, rows(*values))) for values in ([2, 3], [4], [5, 6], [7])]
        await asyncio.sleep(0)
        network.gate.set()
        answers = await asyncio.gather(first, *others)
        workers.stop()
        return network.calls, [answer[0][:, 0].tolist() for answer in answers]

    calls, answers = asyncio.run(main())
    assert calls == [[1], [2, 3, 4, 5], [7, 6]]  # 6 is the rest of one that was begun, and waits its turn
    assert answers == [[2], [4, 6], [8], [10, 12], [14]]


def test_a_small_request_does_not_wait_for_all_of_a_large_one():
    async def main():
        network = Recorded()
        lane, workers = lane_of(network), Workers(1, 100, 600)
        large = asyncio.create_task(workers.run(lane, rows(*range(40))))
        await wait_for(network.entered)
        small = asyncio.create_task(workers.run(lane, rows(99)))
        await asyncio.sleep(0)
        network.gate.set()
        await small
        [answer] = await large
        workers.stop()
        return network.calls, answer[:, 0].tolist()

    calls, answer = asyncio.run(main())
    assert [99 in call for call in calls].index(True) == 2  # of eleven
    assert answer == [2 * value for value in range(40)]


def test_one_request_too_many_is_refused_and_one_that_waited_too_long_too():
    async def main():
        network = Recorded()
        lane = lane_of(network)
        workers = Workers(1, 2, 600)
        first = asyncio.create_task(workers.run(lane, rows(1)))
        await wait_for(network.entered)
        waiting = [asyncio.create_task(workers.run(lane, rows(value))) for value in (2, 3)]
        await asyncio.sleep(0)
        with pytest.raises(Refusal) as full:
            await workers.run(lane, rows(4))
        workers._longest = 0.0
        network.gate.set()
        answers = await asyncio.gather(first, *waiting, return_exceptions=True)
        left = workers.waiting, lane.rows
        workers.stop()
        return full.value, answers, left

    full, (first, *late), left = asyncio.run(main())
    assert (full.status, full.headers) == (503, [(b"retry-after", b"1")])
    assert first[0].tolist() == [[2]]
    assert [refusal.status for refusal in late] == [503, 503]
    assert left == (0, 0)


def test_a_call_that_fails_fails_for_all_in_it_and_the_next_one_is_made():
    async def main():
        class Failing(Recorded):
            def __call__(self, rows):
                if 3 in rows:
                    raise OSError("the third")
                return super().__call__(rows)

        network = Failing()
        lane, workers = lane_of(network, best=2), Workers(1, 100, 600)
        network.gate.set()
        tasks = [workers.run(lane, rows(*values)) for values in ([1, 2], [3], [4, 5, 6], [7], [8])]
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        left = workers.waiting, lane.rows
        workers.stop()
        return answers, left

    answers, left = asyncio.run(main())
    kinds = [type(answer) for answer in answers]
    assert kinds == [tuple, OSError, OSError, tuple, tuple]  # 4 was in the call of 3
    assert left == (0, 0)
