"""`vae-serve train` leaves a complete run folder, and nothing half-done."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

ROOT = Path(__file__).parent.parent.parent


def test_a_run_holds_its_record_history_and_networks(trained):
    record = json.loads((trained / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["parameters"] == {"encoder": 17_208, "decoder": 9_137, "trainable": 24_641}
    assert record["data"]["train_count"] == 1600  # a fifth of the 2,000 is held out
    assert record["data"]["test_count"] == 500
    test = record["metrics"]["test"]
    assert test["negative_elbo"] == pytest.approx(test["reconstruction"] + test["kl"])
    rows = list(csv.DictReader((trained / "history.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1"]
    assert rows[0]["step"] == "12"  # 1,600 images, 128 a step; the last 64 wait for the next epoch's order
    assert {"loss", "reconstruction", "kl", "val_loss", "val_reconstruction", "val_kl"} <= rows[0].keys()


def test_encoder_and_decoder_load_in_safe_mode_with_no_class_of_ours(trained, digits):
    encoder = keras.models.load_model(trained / "encoder.keras", safe_mode=True, custom_objects={})
    decoder = keras.models.load_model(trained / "decoder.keras", safe_mode=True, custom_objects={})
    assert type(encoder).__module__.startswith("keras.")
    assert [tensor.name for tensor in encoder.inputs] == ["image"]
    z_mean, z_log_var = encoder.predict_on_batch(digits[:3] / 255.0)
    assert z_mean.shape == z_log_var.shape == (3, 2)
    image = decoder.predict_on_batch(z_mean)
    assert image.shape == (3, 28, 28, 1)
    assert 0 <= image.min() <= image.max() <= 1


def test_an_existing_out_is_refused_before_anything_is_loaded(vae_serve, tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "thesis.txt").write_text("years")
    refused = vae_serve("train", "--out", "kept", cwd=tmp_path)
    assert refused.returncode == 1
    assert refused.stderr == "vae-serve: error: kept exists; give --overwrite, or another --out\n"
    forced = vae_serve("train", "--out", "kept", "--overwrite", cwd=tmp_path)
    assert forced.returncode == 1
    assert "kept is not a run and is not overwritten" in forced.stderr
    assert (tmp_path / "kept" / "thesis.txt").read_text() == "years"


def test_evaluate_repeats_the_figures_of_the_run(vae_serve, trained, tmp_path):
    found = vae_serve("evaluate", trained, "--json", cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    test = json.loads((trained / "run.json").read_text())["metrics"]["test"]
    assert json.loads(found.stdout)["elbo"]["negative_elbo"] == pytest.approx(test["negative_elbo"], abs=1e-4)


WITHOUT = """
import sys
for name in sys.argv[1].split(","):
    sys.modules[name] = None  # as if it were not installed
from vae_serve.cli import main
main(sys.argv[2:])
"""


@pytest.mark.parametrize(
    ("missing", "words", "extra"),
    [
        ("tensorflow,keras", ("train",), "train"),
        ("tensorflow,keras", ("evaluate", "{run}"), "train"),
        ("matplotlib", ("plot", "{bundle}", "--data", "mnist"), "train"),
        ("tensorboard", ("train", "--tensorboard"), "tensorboard"),
    ],
)
def test_a_package_that_is_missing_is_named_by_its_extra(trained, exported, tmp_path, missing, words, extra):
    words = [word.format(run=trained, bundle=exported) for word in words]
    refused = subprocess.run(
        [sys.executable, "-c", WITHOUT, missing, *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 1
    assert f"needs the extra '{extra}': pip install 'vae-serve[{extra}]'" in refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_tensorboard_gets_the_figures_of_both_sets(vae_serve, small_data, tmp_path):
    words = ("--data", small_data, "--arch", "mlp", "--epochs", 1, "--tensorboard", "--out", "run")
    done = vae_serve("train", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for line, count in (("train", 4), ("validation", 3)):  # the training line has the learning rate, too
        (file,) = (tmp_path / "run" / "tensorboard" / line).iterdir()
        contents = file.read_bytes()
        assert sum(name in contents for name in (b"loss", b"reconstruction", b"kl", b"learning_rate")) == count
