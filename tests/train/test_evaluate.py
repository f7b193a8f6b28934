"""`vae-serve evaluate` gives figures that hold from either runtime and by either method."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def shipped(vae_serve, tmp_path_factory):
    """The figures of the model that ships, on some images, by lattice and by importance sampling."""
    root = Path(__file__).parent.parent.parent
    words = ("--images", 24, "--samples", 5000, "--json")
    found = vae_serve("evaluate", root / "exports" / "mnist", *words, cwd=tmp_path_factory.mktemp("shipped"))
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


def test_the_lattice_agrees_with_importance_sampling(shipped):
    lattice, importance = (shipped["negative_log_likelihood"][name] for name in ("lattice", "importance"))
    assert importance["samples"] == 5000
    assert importance["value"] == pytest.approx(lattice["value"], abs=0.1)
    assert lattice["change_at_twice_the_spacing"] == pytest.approx(0, abs=0.1)


def test_the_figures_of_a_trained_model_fit_together(shipped):
    likelihood = shipped["negative_log_likelihood"]["lattice"]["value"]
    assert likelihood < shipped["elbo"]["negative_elbo"]
    assert shipped["inference_gap"] == pytest.approx(shipped["elbo"]["negative_elbo"] - likelihood)
    latent = shipped["latent"]
    assert latent["marginal_kl"] + latent["mutual_information"] == pytest.approx(shipped["elbo"]["kl"], abs=1e-6)
    assert latent["mutual_information"] <= np.log(24) + 0.5  # one draw an image
    assert latent["active_units"] == 2
    assert shipped["labels"]["knn_accuracy"] > 0.5  # of 24 images; chance is a tenth
    assert shipped["reconstruction"]["ssim"] > 0.3


def test_a_run_through_keras_and_its_bundle_through_onnx_runtime_give_the_same_figures(
    vae_serve, trained, exported, small_data, tmp_path
):
    words = ("--data", small_data, "--images", 100, "--json", "--target", "threshold")
    run, bundle = (
        json.loads(vae_serve("evaluate", model, *words, cwd=tmp_path).stdout) for model in (trained, exported)
    )
    assert (run["runtime"], bundle["runtime"]) == ("Keras", "ONNX Runtime")
    assert run["target"] == "threshold"
    for part in ("elbo", "latent", "reconstruction", "labels"):
        assert bundle[part] == pytest.approx(run[part], abs=1e-3), part
    lattices = [one["negative_log_likelihood"]["lattice"]["value"] for one in (run, bundle)]
    assert lattices[0] == pytest.approx(lattices[1], abs=1e-3)


def test_a_bundle_of_bytes_gives_the_figures_of_its_run_and_pictures_of_any_size_are_made_to_fit(
    vae_serve, trained, exported, small_data, tmp_path
):
    out = tmp_path / "raw"
    done = vae_serve("export", trained, "--format", "onnx", "--pixels", "uint8", "--out", out, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for number in range(30):
        (tmp_path / "photos" / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        picture = Image.new("RGB", (40 + number, 50), (number, 9 * (number % 2), 200))
        picture.save(tmp_path / "photos" / "ab"[number % 2] / f"{number}.png")
    for data in (small_data, "photos"):
        found = [
            vae_serve("evaluate", model, "--data", data, "--images", 50, "--json", cwd=tmp_path)
            for model in (out, exported)
        ]
        assert [done.returncode for done in found] == [0, 0], found[0].stderr
        raw, plain = (json.loads(done.stdout) for done in found)
        assert raw["images"] == plain["images"] == (50 if data == small_data else 3)
        for part in ("elbo", "latent", "reconstruction", "labels"):
            assert raw[part] == pytest.approx(plain[part], abs=0.1), part  # its pictures are rounded to bytes
    drawn = vae_serve("plot", out, "--data", "photos", cwd=tmp_path)
    assert drawn.returncode == 0, drawn.stderr
    assert (tmp_path / "raw-plots" / "grid.png").is_file()


def test_a_latent_space_without_bounds_is_measured_by_importance_sampling_and_that_is_said(vae_serve, tmp_path, digits):
    np.savez(tmp_path / "few.npz", x_train=digits[:300], x_test=digits[300:320])
    words = ("--beta", 0, "--epochs", 30, "--batch-size", 40, "--data", "few.npz", "--out", "free")
    done = vae_serve("train", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    json.loads((tmp_path / "free" / "run.json").read_text(), parse_constant=pytest.fail)
    found = vae_serve("evaluate", "free", "--json", cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    figures = json.loads(found.stdout, parse_constant=pytest.fail)
    assert figures["negative_log_likelihood"]["lattice"] is None
    assert figures["negative_log_likelihood"]["importance"]["samples"] == 100
    assert "importance sampling takes its place" in figures["left_out"][0]


def test_without_labels_or_with_one_class_the_label_figures_are_missing(vae_serve, trained, tmp_path, digits):
    np.savez(tmp_path / "none.npz", x_train=digits[:50], x_test=digits[50:80])
    np.savez(tmp_path / "one.npz", x_train=digits[:50], x_test=digits[50:80], y_train=np.ones(50), y_test=np.ones(30))
    for name in ("none", "one"):
        found = vae_serve("evaluate", trained, "--data", f"{name}.npz", "--json", cwd=tmp_path)
        assert found.returncode == 0, found.stderr
        assert json.loads(found.stdout)["labels"] is None


def test_images_that_do_not_fit_the_model_and_options_without_sense_are_refused(vae_serve, trained, tmp_path):
    np.savez(tmp_path / "wide.npz", x_train=np.zeros((50, 28, 30), np.uint8))
    refused = vae_serve("evaluate", trained, "--data", "wide.npz", cwd=tmp_path)
    assert refused.returncode == 1
    assert (
        f"--data wide.npz has images (28, 30, 1), {trained} takes (28, 28, 1); pictures are made to" in refused.stderr
    )
    for words, message in (
        (("--target", "sepia"), "--target sepia: choose from greyscale, threshold, dynamic"),
        (("--samples", 0), "--samples 0: give 1 or more"),
    ):
        refused = vae_serve("evaluate", trained, *words, cwd=tmp_path)
        assert refused.returncode == 2
        assert refused.stderr == f"vae-serve: error: {message}\n"
    nothing = vae_serve("evaluate", tmp_path, cwd=tmp_path)
    assert nothing.returncode == 1
    assert f"{tmp_path} is not a run: it has no run.json" in nothing.stderr


def test_plot_draws_a_bundle_and_runs_lists_what_there_is(vae_serve, trained, exported, small_data, tmp_path):
    drawn = vae_serve("plot", exported, "--data", small_data, "--out", "pictures", cwd=tmp_path)
    assert drawn.returncode == 0, drawn.stderr
    names = {file.name for file in (tmp_path / "pictures").iterdir()}
    assert names == {"latent.png", "grid.png", "posterior.png", "reconstructions.png"}  # a bundle has no history
    assert {file.name for file in (trained / "plots").iterdir()} == {*names, "loss.png"}
    refused = vae_serve("plot", exported, "--data", small_data, "--out", "pictures", cwd=tmp_path)
    assert refused.returncode == 1
    assert "pictures exists; give --overwrite, or another --out" in refused.stderr
    listed = vae_serve("runs", trained.parent, cwd=tmp_path)
    assert listed.returncode == 0
    row = listed.stdout.splitlines()[1].split()
    assert row[:5] == [str(trained), "finished", "conv", "2", "digits"]
