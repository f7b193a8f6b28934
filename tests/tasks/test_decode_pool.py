"""Decoding processes that are killed while they wait are replaced, and every row is there."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from PIL import Image

from vae_serve.errors import SourceError
from vae_serve.images.pixels import PixelRule
from vae_serve.jobs import decode_pool, decode_server, decoding
from vae_serve.jobs.decode_pool import DecodePool, PoolOptions
from vae_serve.jobs.decode_supervisor import HOPELESS, NO_TASK, PROCESS, START, STOP
from vae_serve.sources.files import Pictures
from vae_serve.sources.opening import open_source

SIDE = 8
ROWS, TASK = 2000, 10
OPTIONS = PoolOptions(PixelRule(SIDE, SIDE, 1), workers=1, capacity=TASK)

At = memoryview


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (ROWS, SIDE, SIDE, 1), np.uint8)


@pytest.fixture(scope="module")
def source(images, tmp_path_factory) -> Pictures:
    folder = tmp_path_factory.mktemp("pictures")
    for number, image in enumerate(images):
        Image.fromarray(image[..., 0]).save(folder / f"{number:04}.png")
    return cast(Pictures, open_source(str(folder)))


@pytest.fixture
def server(monkeypatch) -> Iterator[None]:
    """With one a pool of one process is kept for the next shard."""
    started = decode_server.DecodeServer(())
    monkeypatch.setattr(decode_server, "_running", started)
    monkeypatch.setattr(decode_pool, "_kept", [])
    yield
    started._socket.close()


def tasks(rows: range) -> Iterator[range]:
    return iter([rows[start : start + TASK] for start in range(0, len(rows), TASK)])


def decoded(pool: DecodePool) -> np.ndarray:
    """All that the one worker has to give."""
    parts = []
    for batch, pixels in pool.follow(0):
        assert not batch.failures
        parts.append(pixels.copy())
    return np.concatenate(parts)


def kill_where(pool: DecodePool, waits: Callable[[At], bool]) -> None:
    """Kills the worker at a moment in which it `waits`: it is halted first, so that it is still there when it dies."""
    at = pool._at[0]
    while True:
        process = at[PROCESS]
        if process and waits(at):
            os.kill(process, signal.SIGSTOP)
            while stat_of(process) != "T":
                time.sleep(0.001)
            if waits(at):
                os.kill(process, signal.SIGKILL)
                break
            os.kill(process, signal.SIGCONT)
        time.sleep(0.001)
    while at[PROCESS] == process:  # until the supervisor knows
        time.sleep(0.001)


def stat_of(process: int) -> str:
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.usefixtures("server")
def test_one_that_waits_for_the_next_shard(source, images):
    for rows in (range(100), range(100, 300), range(300, 350)):
        pool = decode_pool.decode_pool(source, tasks(rows), OPTIONS, rows=rows)
        with pool:
            assert np.array_equal(decoded(pool), images[rows.start : rows.stop])
        kill_where(pool, lambda at: at[START] == NO_TASK)
    pool.stop()
    pool._answers[0].close()


def test_one_that_waits_until_its_answer_is_taken(source, images):
    def waits(at: At) -> bool:
        return at[START] >= 0 and at[decoding.ROW] == at[STOP]

    rows = range(ROWS)
    with DecodePool(source, tasks(rows), OPTIONS, rows=rows) as pool:
        for _ in range(3):
            kill_where(pool, waits)
        assert np.array_equal(decoded(pool), images)


@pytest.mark.usefixtures("server")
def test_one_that_is_killed_again_and_again_ends_the_job(source):
    pool = decode_pool.decode_pool(source, tasks(range(100)), OPTIONS, rows=range(100))
    with pool:
        decoded(pool)
    for _ in range(HOPELESS + 1):
        kill_where(pool, lambda at: at[START] == NO_TASK)
    pool = decode_pool.decode_pool(source, tasks(range(100, 200)), OPTIONS, rows=range(100, 200))
    with pytest.raises(SourceError, match=r"a decoding process ended \(SIGKILL\) at \d{4}\.png or after it"), pool:
        decoded(pool)
