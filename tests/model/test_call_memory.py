"""Calls of networks share a bounded memory, whatever the number of threads."""

import threading

import pytest

from vae_serve.model import memory
from vae_serve.model.memory import Budget


def test_as_many_calls_run_at_once_as_there_is_room_for_and_the_next_begins_when_one_ends():
    budget, entered, leave = Budget(100), threading.Semaphore(0), threading.Semaphore(0)

    def call() -> None:
        with budget.room(40):
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
    with budget.room(1000):
        other = threading.Thread(target=lambda: budget.room(1).__enter__(), daemon=True)
        other.start()
        other.join(timeout=0.2)
        assert other.is_alive()
    other.join(timeout=60)
    assert not other.is_alive()


def test_room_is_given_back_after_an_error():
    budget = Budget(10)
    for _ in range(3):
        with pytest.raises(ValueError, match="it fails"), budget.room(10):
            raise ValueError("it fails")


@pytest.mark.parametrize(("cores", "limit"), [(1, 64), (4, 64), (8, 32), (16, 16), (64, 16)])
def test_each_core_can_have_a_call(cores, limit, monkeypatch):
    monkeypatch.setattr(memory, "cores", lambda: cores)
    assert memory.call_limit() == limit << 20
    assert memory.total() >= cores * memory.call_limit()
