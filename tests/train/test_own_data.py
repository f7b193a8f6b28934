"""A run is complete in itself: it exports where its data are gone, and is not trained on by the next run."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from vae_serve import load
from vae_serve.images.decode import decode
from vae_serve.images.pixels import PixelRule

FOLDER = b"caf\xe9"  # no UTF-8


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """A folder with photographs of many sizes, one of them grey, in a folder whose name is not UTF-8."""
    root = tmp_path_factory.mktemp("photos")
    stream = np.random.default_rng(0)
    for number in range(60):
        pixels = stream.integers(0, 256, (20 + number % 7, 30, 3), dtype=np.uint8)
        file = root / os.fsdecode(FOLDER) / "ab"[number % 2] / f"{number:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).convert("L" if number == 0 else "RGB").save(file)
    return root


WORDS = ("--image-size", "12x10", "--arch", "mlp", "--epochs", 1, "--batch-size", 16)


@pytest.fixture(scope="module")
def run(vae_serve, photos) -> Path:
    done = vae_serve("train", "--data", os.fsdecode(FOLDER), *WORDS, "--out", "runs/a", cwd=photos)
    assert done.returncode == 0, done.stderr
    assert "1 grey pictures beside pictures in colour" in done.stderr
    return photos / "runs" / "a"


@pytest.mark.slow
def test_photographs_of_other_sizes_whose_folder_is_gone_export_and_verify(vae_serve, run, tmp_path):
    moved = Path(shutil.copytree(run, tmp_path / "elsewhere"))
    done = vae_serve("export", moved, "--format", "onnx", "--out", "bundle", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["largest_difference"] <= 1e-5
    for words in (
        ("export", moved, "--format", "onnx", "--out", "bundle", "--check"),
        ("verify", "bundle", "--against", moved),
    ):
        again = vae_serve(*words, cwd=tmp_path)
        assert again.returncode == 0, again.stderr


@pytest.mark.slow
def test_the_next_run_on_the_folder_around_leaves_the_first_one_s_plots_out(vae_serve, photos, run):
    done = vae_serve("train", "--data", ".", *WORDS, "--out", "runs/b", "--json", cwd=photos)
    assert done.returncode == 0, done.stderr
    assert f"left out {len(list((run / 'plots').iterdir()))} pictures that vae-serve wrote itself" in done.stderr
    record = json.loads(done.stdout)
    first = json.loads((run / "run.json").read_text())
    counts = ("train_count", "validation_count", "test_count", "image_shape")
    assert (
        [record["data"][name] for name in counts]
        == [first["data"][name] for name in counts]
        == [43, 11, 6, [12, 10, 3]]
    )


@pytest.mark.slow
def test_data_that_changed_are_refused_where_they_are_read_again(vae_serve, photos, run):
    file = photos / os.fsdecode(FOLDER) / "a" / "02.png"
    before = file.read_bytes()
    Image.new("RGB", (30, 20)).save(file)
    try:
        refused = vae_serve("evaluate", run, cwd=photos)
    finally:
        file.write_bytes(before)
    assert refused.returncode == 1
    assert "runs/a was trained on other images" in refused.stderr
    assert json.loads((run / "run.json").read_text())["data"]["sha256"] in refused.stderr
    older = Path(shutil.copytree(run, photos / "runs" / "older"))
    record = json.loads((older / "run.json").read_text())
    del record["gate"]
    (older / "run.json").write_text(json.dumps(record))
    (older / "gate_inputs.npz").unlink()
    words = ("export", older, "--format", "onnx", "--out", photos / "older")
    assert vae_serve(*words, cwd=photos).returncode == 0  # its data are there still
    nowhere = vae_serve(*words, "--overwrite", cwd=run)
    assert nowhere.returncode == 1
    assert "is not there" in nowhere.stderr


@pytest.mark.slow
def test_photographs_are_embedded_by_the_rule_that_they_were_trained_by(vae_serve, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(40):
        levels = np.random.default_rng(number).integers(0, 256, (8, 10, 3)).astype(np.uint8)
        Image.fromarray(levels).resize((203, 160), Image.Resampling.BICUBIC).save(folder / f"{number:02}.jpg")
    words = ("--data", "photos", *WORDS, "--out", "runs/a", "--json")
    trained = vae_serve("train", *words, cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert json.loads(trained.stdout)["pixels"]["decode"] == "scaled"
    assert vae_serve("evaluate", "runs/a", cwd=tmp_path).returncode == 0  # it finds the same images again
    done = vae_serve("export", "runs/a", "--format", "onnx", "--out", "bundle", cwd=tmp_path)
    assert done.returncode == 0, done.stderr

    model = load(tmp_path / "bundle")
    rule = PixelRule.from_json(model.manifest.pixels)
    assert rule == PixelRule(12, 10, 3, decode="scaled")
    files = [file.read_bytes() for file in sorted(folder.iterdir())]
    expected = model.encode(np.stack([decode(data, rule).pixels for data in files]))[0]
    for out, more in (("a", ()), ("b", ("--batch", 3, "--workers", 1, "--rows-per-shard", 7))):
        done = vae_serve("embed", "photos", "--model", "bundle", "--out", out, *more, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        table = pq.read_table(tmp_path / out)
        assert np.array_equal(np.stack(table["z_mean"].to_numpy()), expected)
        assert set(table["width"].to_pylist()) == {203}
    whole = np.stack([decode(data, PixelRule(12, 10, 3)).pixels for data in files])
    assert not np.array_equal(model.encode(whole)[0], expected)

    record = json.loads((tmp_path / "runs/a/run.json").read_text())
    record["pixels"]["decode"] = "halves"
    (tmp_path / "runs/a/run.json").write_text(json.dumps(record))
    refused = vae_serve("evaluate", "runs/a", cwd=tmp_path)
    assert refused.returncode == 1
    assert "run.json cannot be used" in refused.stderr
    assert "halves" in refused.stderr
