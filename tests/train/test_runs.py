"""A run.json from anywhere is checked, and its faults are said in a sentence."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from vae_serve.errors import RunError
from vae_serve.training import gate_inputs, runs

MNIST = Path(__file__).parents[2] / "exports" / "mnist"
RECORD = {
    "schema_version": 1,
    "name": "a",
    "status": "finished",
    "command": "vae-serve train",
    "config": {
        "data": "mnist", "image_size": None, "arch": "conv", "latent_dim": 2, "schedule": "best", "epochs": 1,
        "batch_size": 128, "validation_split": 0.2, "beta": 1.0, "clip_norm": None, "seed": 0, "device": "auto",
        "precision": "float32", "image_shape": [28, 28, 1],
    },
    "schedule": {"name": "best", "phases": [{"epochs": 1}]},
    "data": {"name": "mnist", "licence": "CC BY-SA 3.0", "sha256": "0" * 64},
    "pixels": {"height": 28, "width": 28, "channels": 1},
    "parameters": {"encoder": 1, "decoder": 1, "trainable": 2},
    "versions": {"keras": "3.15"},
    "metrics": {"test": {"negative_elbo": 150.0, "reconstruction": 144.0, "kl": 6.0}},
}  # fmt: skip


def changed(**fields):
    return json.loads(json.dumps(RECORD)) | fields


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "runs" / "a"
    folder.mkdir(parents=True)
    return folder


def test_a_sound_record_is_read_and_so_is_an_older_one(run):
    (run / "run.json").write_text(json.dumps(RECORD))
    assert runs.load(run).image_shape == (28, 28, 1)
    older = changed()
    older["recipe"] = older.pop("schedule")
    older["config"]["recipe"] = older["config"].pop("schedule")
    (run / "run.json").write_text(json.dumps(older))
    assert runs.load(run).record["config"]["schedule"] == "best"


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ("", "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
        ("[]", "has no schema_version"),
        (json.dumps(changed(schema_version=True)), "schema version True; this vae-serve reads 1"),
        (json.dumps(changed(schema_version=2)), "schema version 2; this vae-serve reads 1"),
        (json.dumps(changed(status="happy")), r"\$\.status"),
        (json.dumps(changed(config=[])), r"\$\.config"),
        (json.dumps(changed(config={**RECORD["config"], "image_shape": [28, True, 1]})), r"\$\.config\.image_shape"),
        (json.dumps(changed(config={**RECORD["config"], "image_shape": [28, 0, 1]})), r"\$\.config\.image_shape"),
        (json.dumps(changed(config={**RECORD["config"], "latent_dim": 2.5})), "latent_dim"),
        (json.dumps(changed(config={**RECORD["config"], "latent_dim": 0})), "--latent-dim 0"),
        (json.dumps(changed(config={"image_shape": [28, 28, 1]})), "config is not valid: 'data'"),
        (json.dumps(changed(schedule={"name": "best", "phases": [{}]})), r"epochs.*\$\.schedule\.phases"),
        (json.dumps(changed(data={"name": "mnist", "licence": "", "sha256": "0"})), r"\$\.data\.sha256"),
        (json.dumps(changed(metrics={"test": {"kl": "many"}})), r"\$\.metrics\.test"),
        (json.dumps(changed(metrics={})), "finished and has no test figures"),
        (" " * (2 << 20), "more than 1,048,576 are not read"),
    ],
)
def test_a_record_that_is_wrong_is_refused_with_the_reason(run, contents, message):
    (run / "run.json").write_text(contents)
    with pytest.raises(RunError, match=rf"{run}/run.json .*{message}"):
        runs.load(run)


def test_a_pipe_in_place_of_a_file_is_refused_and_not_waited_for(vae_serve, run, tmp_path):
    os.mkfifo(run / "run.json")
    sound = shutil.copytree(run, run.parent / "b", ignore=shutil.ignore_patterns("*"))
    (sound / "run.json").write_text(json.dumps(RECORD))
    listed = vae_serve("runs", cwd=tmp_path)
    assert listed.returncode == 3
    assert "runs/a/run.json cannot be read: it is a pipe, not a regular file" in listed.stderr
    assert listed.stdout.splitlines()[1].split() == (
        ["runs/b", "finished", "conv", "2", "mnist", "1", "(best)", "150.00", "144.00", "6.00"]
    )


def test_a_number_that_is_not_finite_is_null_in_the_record(run):
    figures = {"negative_elbo": float("inf"), "reconstruction": float("nan"), "kl": 1.0}
    runs.write_record(run, changed(metrics={"test": figures}))
    text = (run / "run.json").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    assert runs.load(run).record["metrics"]["test"] == {"negative_elbo": None, "reconstruction": None, "kl": 1.0}


def test_gate_inputs_that_are_not_the_ones_of_the_run_are_refused(run, digits):
    contents, note = gate_inputs.packed(digits[:5])
    (run / gate_inputs.FILE).write_bytes(contents)
    kept = runs.Run(run, changed(gate=note))
    assert (gate_inputs.of(kept) == digits[:5]).all()
    (run / gate_inputs.FILE).write_bytes(gate_inputs.packed(digits[1:6])[0])
    with pytest.raises(RunError, match=rf"is damaged: its SHA-256 is .*, run.json says {note['sha256']}"):
        gate_inputs.of(kept)
    contents, note = gate_inputs.packed(digits[:5, :20])
    (run / gate_inputs.FILE).write_bytes(contents)
    with pytest.raises(RunError, match=r"holds uint8 \(5, 20, 28, 1\), not uint8 \(5, 28, 28, 1\)"):
        gate_inputs.of(runs.Run(run, changed(gate=note)))
    (run / gate_inputs.FILE).unlink()
    with pytest.raises(RunError, match=r"gate_inputs\.npz is missing"):
        gate_inputs.of(kept)


def test_gate_inputs_are_bounded_in_number_and_in_bytes():
    assert len(gate_inputs.chosen(np.zeros((12_000, 2, 2, 1), np.uint8))) == 10_000
    assert len(gate_inputs.chosen(np.zeros((100, 1024, 1024, 1), np.uint8))) == 64
    assert len(gate_inputs.chosen(np.zeros((3, 8192, 8192, 3), np.uint8))) == 1


def test_a_run_that_is_newer_than_the_model_in_use_is_told_of(vae_serve, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "runs" / "mine")
    drawn = vae_serve("generate", "--grid", 2, "--out", "a.png", cwd=tmp_path)
    hint = "runs/mine is newer than the model "
    assert hint in drawn.stderr
    assert drawn.stderr.splitlines()[0].endswith("not exported yet: vae-serve export runs/mine")
    assert hint not in vae_serve("generate", "--grid", 2, "--out", "b.png", "--quiet", cwd=tmp_path).stderr
    assert hint not in vae_serve("generate", "--grid", 2, "--out", "c.png", "--model", MNIST, cwd=tmp_path).stderr
    shutil.copytree(MNIST, tmp_path / "exports" / "mine")
    newest = (tmp_path / "runs" / "mine" / "run.json").stat().st_mtime_ns + 1
    os.utime(tmp_path / "exports" / "mine" / "manifest.json", ns=(newest, newest))
    assert hint not in vae_serve("generate", "--grid", 2, "--out", "d.png", cwd=tmp_path).stderr
