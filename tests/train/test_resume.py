"""A training that was stopped goes on as if it had not been."""

import json
import resource
import signal
from pathlib import Path

import keras
import numpy as np
import pytest
from interrupting import events_of, interrupted

OPTIONS = ("--epochs", "6", "--seed", "7")


def weights(run: Path) -> bytes:
    networks = [keras.models.load_model(run / f"{name}.keras") for name in ("encoder", "decoder")]
    return b"".join(weight.tobytes() for network in networks for weight in network.get_weights())


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, small_data) -> tuple[Path, int]:
    """A finished run of six epochs, both phases of the recipe, and how many things it did to the disk."""
    run = tmp_path_factory.mktemp("whole") / "run"
    return run, events_of("train", "--data", small_data, *OPTIONS, "--out", run, cwd=run.parent)


@pytest.mark.slow
def test_killed_interrupted_and_damaged_the_weights_are_the_same_to_the_bit(
    uninterrupted, small_data, vae_serve, tmp_path
):
    whole, total = uninterrupted
    run = tmp_path / "run"
    killed = interrupted("train", "--data", small_data, *OPTIONS, "--out", run, cwd=tmp_path, at=total // 3)
    assert killed.returncode == -signal.SIGKILL, killed.stderr

    for stop in (signal.SIGINT, signal.SIGTERM):
        before = sorted((run / "checkpoints").glob("*.json"))
        assert before
        stopped = interrupted("train", "--resume", "--out", run, cwd=tmp_path, at=total // 8, by=stop)
        assert stopped.returncode == 130, stopped.stderr
        assert f"saved after the step; resume with: vae-serve train --resume --out {run}" in stopped.stderr
        assert json.loads((run / "run.json").read_text())["status"] == "interrupted"
        assert not (run / "encoder.keras").exists()
        assert sorted((run / "checkpoints").glob("*.json")) != before

    newest = max((run / "checkpoints").glob("*.npz"))
    newest.write_bytes(newest.read_bytes()[:-1000])  # cut short
    done = vae_serve("train", "--resume", "--out", run, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"{newest} is damaged (its SHA-256 is not the one it was written with); going on from" in done.stderr
    assert weights(run) == weights(whole)
    rows = [(path / "history.csv").read_text().splitlines() for path in (run, whole)]
    assert [row.rsplit(",", 1)[0] for row in rows[0]] == [row.rsplit(",", 1)[0] for row in rows[1]]  # all but seconds


def test_resume_names_what_differs(vae_serve, trained, small_data, tmp_path):
    refused = vae_serve("train", "--resume", "--out", trained, "--batch-size", 64, "--arch", "mlp", cwd=tmp_path)
    assert refused.returncode == 2
    assert f"{trained} was started with --arch conv, not mlp and --batch-size 128, not 64" in refused.stderr


def test_a_full_disk_in_the_middle_of_a_checkpoint_leaves_the_ones_before(tmp_path):
    from vae_serve.errors import OutputError
    from vae_serve.training import checkpoints

    first = checkpoints.save(tmp_path, checkpoints.Position(total=1, history=[]), [np.arange(5)])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))  # writing past it is refused as on a full disk
    try:
        with pytest.raises(OutputError, match=f"File too large; the last good checkpoint is {first}"):
            checkpoints.save(tmp_path, checkpoints.Position(total=2, history=[]), [np.arange(500_000)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.glob("*00000002*"))
    found = checkpoints.newest(tmp_path)
    assert found is not None
    assert found[0] == first
    assert found[2][0].tolist() == [0, 1, 2, 3, 4]
