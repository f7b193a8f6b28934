"""A training that was stopped goes on as if it had not been."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

ROOT = Path(__file__).parent.parent.parent
OPTIONS = ("--epochs", "6", "--seed", "7")


def start(*words: object, cwd: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "vae_serve", "train", *map(str, words)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(condition, process: "subprocess.Popen[str]", seconds: float = 120) -> None:
    """Until the condition holds or the process has ended."""
    deadline = time.monotonic() + seconds
    while not condition() and process.poll() is None:
        assert time.monotonic() < deadline, "the training did not come so far"
        time.sleep(0.01)


def weights(run: Path) -> bytes:
    networks = [keras.models.load_model(run / f"{name}.keras") for name in ("encoder", "decoder")]
    return b"".join(weight.tobytes() for network in networks for weight in network.get_weights())


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, small_data) -> Path:
    """A finished run of six epochs: both phases of the recipe."""
    run = tmp_path_factory.mktemp("whole") / "run"
    process = start("--data", small_data, *OPTIONS, "--out", run, cwd=run.parent)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return run


@pytest.mark.slow
def test_killed_interrupted_and_damaged_the_weights_are_the_same_to_the_bit(uninterrupted, small_data, tmp_path):
    run = tmp_path / "run"
    process = start("--data", small_data, *OPTIONS, "--out", run, cwd=tmp_path)
    wait_for((run / "history.csv").exists, process)
    time.sleep(random.Random(5).uniform(0, 0.3))
    process.send_signal(signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, said

    process = start("--resume", "--out", run, cwd=tmp_path)
    before = sorted((run / "checkpoints").glob("*.json"))
    wait_for(lambda: sorted((run / "checkpoints").glob("*.json")) != before, process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert f"saved after the step; go on with: vae-serve train --resume --out {run}" in said
    assert json.loads((run / "run.json").read_text())["status"] == "interrupted"
    assert not (run / "encoder.keras").exists()

    newest = max((run / "checkpoints").glob("*.npz"))
    newest.write_bytes(newest.read_bytes()[:-1000])  # cut short
    process = start("--resume", "--out", run, cwd=tmp_path)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert f"{newest} is damaged (its SHA-256 is not the one it was written with); going on from" in said
    assert weights(run) == weights(uninterrupted)
    rows = [(path / "history.csv").read_text().splitlines() for path in (run, uninterrupted)]
    assert [row.rsplit(",", 1)[0] for row in rows[0]] == [row.rsplit(",", 1)[0] for row in rows[1]]  # all but seconds


def test_resume_names_what_differs(vae_serve, trained, small_data, tmp_path):
    refused = vae_serve("train", "--resume", "--out", trained, "--batch-size", 64, "--arch", "mlp", cwd=tmp_path)
    assert refused.returncode == 2
    assert f"{trained} was started with --arch conv, not mlp and --batch-size 128, not 64" in refused.stderr


def test_a_full_disk_in_the_middle_of_a_checkpoint_leaves_the_ones_before(tmp_path):
    from vae_serve.errors import OutputError
    from vae_serve.train import checkpoints

    first = checkpoints.save(tmp_path, checkpoints.Position(total=1, history=[]), [np.arange(5)])
    (tmp_path / "step-00000002.npz.part").symlink_to("/dev/full")  # every write there fails as on a full disk
    with pytest.raises(OutputError, match=f"No space left on device; the last good checkpoint is {first}"):
        checkpoints.save(tmp_path, checkpoints.Position(total=2, history=[]), [np.arange(500_000)])
    found = checkpoints.newest(tmp_path)
    assert found is not None
    assert found[0] == first
    assert found[2][0].tolist() == [0, 1, 2, 3, 4]
