"""One process at a time writes to a place in an object store, whatever dies or is stopped on the way."""

import json
import os
import subprocess
import sys
import time
from threading import Barrier, Event, Thread

import pytest

from vae_serve.errors import OutputError
from vae_serve.storage.lease import Lease
from vae_serve.storage.local import LocalStore

SECONDS = 0.6


@pytest.fixture
def store(tmp_path):
    """A folder in the place of an object store: a lease needs no more than a Store."""
    store = LocalStore(tmp_path / "store", ".scratch")
    store.folder(".scratch")
    store.folder("lease")
    return store


def lease_of(store, **how):
    return Lease(store, "lease", "s3://photos", **{"seconds": SECONDS, **how})


def elsewhere(store, number, **about):
    """A number of the chain that a process of another machine has made."""
    record = {"host": "far", "user": "ada", "pid": 7, "kernel": "another", "since": "2026-01-01", "token": "t", **about}
    store.create(f"lease/{number:08d}.json", lambda file: file.write(json.dumps(record).encode()))


class Renewing(Thread):
    """Another machine that stays alive: it makes one number after another."""

    def __init__(self, store):
        super().__init__()
        self.store, self.ended = store, Event()
        elsewhere(store, 1)

    def run(self):
        number = 2
        while not self.ended.wait(SECONDS / 10):
            elsewhere(self.store, number)
            number += 1

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.join()


def test_a_lease_is_one_number_and_leaves_nothing(store):
    lease = lease_of(store)
    lease.take()
    assert store.list("lease") == ["00000001.json"]
    lease.require()
    lease.let_go()
    assert store.list("lease") == []


def test_a_second_process_of_this_machine_is_refused_with_the_name_of_the_first(store):
    first = lease_of(store, seconds=3600.0)
    first.take()
    with pytest.raises(
        OutputError, match=rf"s3://photos is being written by process {os.getpid()} of .* on .* \(since "
    ):
        lease_of(store, seconds=3600.0).take()  # at once: it is seen to be alive
    first.let_go()
    lease_of(store).take()


def test_a_holder_on_another_machine_that_is_alive_is_named(store):
    notes: list[str] = []
    with Renewing(store), pytest.raises(OutputError, match=r"is being written by process 7 of ada on far \(since 2026"):
        lease_of(store, note=notes.append).take()
    assert notes == [
        "s3://photos was being written by process 7 of ada on far (since 2026-01-01); waiting 1 s for a sign of life"
    ]


def test_a_holder_on_another_machine_that_is_not_heard_of_gives_way(store):
    elsewhere(store, 41)
    begun = time.monotonic()
    lease = lease_of(store)
    lease.take()
    assert time.monotonic() - begun >= SECONDS
    assert "00000042.json" in store.list("lease")
    lease.let_go()
    assert store.list("lease") == []


def test_a_process_of_this_machine_that_was_killed_gives_way_at_once(store):
    program = f"""
import os, signal
from pathlib import Path
from vae_serve.storage.lease import Lease
from vae_serve.storage.local import LocalStore
store = LocalStore(Path({str(store.path)!r}), ".scratch")
Lease(store, "lease", "s3://photos", seconds=3600.0).take()
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=60, check=False).returncode == -9
    assert store.list("lease") == ["00000001.json"]
    lease_of(store, seconds=3600.0).take()
    assert store.list("lease") == ["00000001.json", "00000002.json"]


def test_a_lease_is_renewed_and_its_chain_stays_short(store):
    lease = lease_of(store, seconds=0.03)
    lease.take()
    while "00000012.json" not in store.list("lease"):
        time.sleep(0.001)
    lease.require()
    assert len(store.list("lease")) <= 6
    lease.let_go()
    assert store.list("lease") == []


def test_a_holder_whose_lease_was_taken_over_is_stopped_and_takes_nothing_away(store):
    lease = lease_of(store, seconds=3600.0)
    lease.take()
    elsewhere(store, 2)  # it took the holder to be dead
    lease._renewed -= 3600.0  # as after a long sleep
    with pytest.raises(OutputError, match=r"writing to s3://photos has been taken over by process 7 of ada on far"):
        lease.require()
    lease.let_go()
    assert store.list("lease") == ["00000001.json", "00000002.json"]


@pytest.mark.parametrize("chain", [(9,), ()])
def test_a_holder_that_slept_through_the_end_of_its_chain_is_stopped(store, chain):
    lease = lease_of(store, seconds=3600.0)
    lease.take()
    store.delete("lease/00000001.json")
    for number in chain:
        elsewhere(store, number)
    lease._renewed -= 3600.0
    with pytest.raises(OutputError, match="has been taken over"):
        lease.require()
    assert store.list("lease") == [f"{number:08d}.json" for number in chain]


def test_of_many_that_come_at_once_one_gets_it(store):
    elsewhere(store, 5)
    barrier, got = Barrier(8), []

    def come():
        lease = lease_of(store, seconds=1.0)
        barrier.wait()
        try:
            lease.take()
        except OutputError:
            return
        got.append(lease)

    threads = [Thread(target=come) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1
    got[0].require()
    got[0].let_go()


def test_a_store_that_agrees_to_create_one_name_twice_is_refused(tmp_path):
    class Careless(LocalStore):
        def create(self, name, write):
            self.delete(name)
            super().create(name, write)

    store = Careless(tmp_path / "store", ".scratch")
    store.folder(".scratch")
    store.folder("lease")
    with pytest.raises(OutputError, match=r"replaces what exists although it is asked not to \(If-None-Match\)"):
        lease_of(store).take()
    assert store.list("lease") == []
