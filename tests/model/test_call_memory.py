"""Calls of networks share a bounded memory, whatever the number of threads."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from vae_serve.errors import BundleError
from vae_serve.model import bundle, memory, sessions
from vae_serve.model.memory import Budget


@contextmanager
def room(budget: Budget, size: int) -> Iterator[None]:
    budget.take(size)
    try:
        yield
    finally:
        budget.give(size)


def test_as_many_calls_run_at_once_as_there_is_room_for_and_the_next_begins_when_one_ends():
    budget, entered, leave = Budget(100), threading.Semaphore(0), threading.Semaphore(0)

    def call() -> None:
        with room(budget, 40):
            entered.release()
            leave.acquire()

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert [entered.acquire(timeout=60) for _ in range(2)] == [True, True]
    assert not entered.acquire(blocking=False)  # 120 is more than 100
    leave.release()
    assert entered.acquire(timeout=60)
    leave.release(2)
    for thread in threads:
        thread.join()


def test_a_call_larger_than_all_room_runs_alone():
    budget = Budget(100)
    with room(budget, 1000):
        other = threading.Thread(target=lambda: budget.take(1), daemon=True)
        other.start()
        other.join(timeout=0.2)
        assert other.is_alive()
    other.join(timeout=60)
    assert not other.is_alive()


def test_room_is_given_back_after_a_call_that_fails(monkeypatch):
    shared = Budget(1 << 30)
    monkeypatch.setattr(sessions, "budget", lambda: shared)
    packaged = bundle.load(bundle.find(None, exports=Path("nowhere")))
    session = sessions.open_graph(packaged, packaged.manifest.of_role("decoder")[0])
    with pytest.raises(BundleError, match="cannot run it"):
        session(np.zeros((1, 7), np.float32))
    alone = threading.Thread(target=lambda: shared.take(1 << 40), daemon=True)
    alone.start()
    alone.join(timeout=60)
    assert not alone.is_alive()


@pytest.mark.parametrize(("cores", "limit"), [(1, 64), (4, 64), (8, 32), (16, 16), (64, 16)])
def test_each_core_can_have_a_call(cores, limit, monkeypatch):
    monkeypatch.setattr(memory, "cores", lambda: cores)
    assert memory.call_limit() == limit << 20
    assert memory.total() >= cores * memory.call_limit()
