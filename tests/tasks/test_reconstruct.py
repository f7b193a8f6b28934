"""`vae-serve reconstruct`, typed as a person types it, over a model whose answer is known."""

import json
import shutil
import signal
from pathlib import Path

import linear_bundle
import numpy as np
import pyarrow.parquet as pq
import pytest
from interrupting import events_of, interrupted, moments
from PIL import Image

SHAPE = (28, 28, 1)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return linear_bundle.write(tmp_path_factory.mktemp("exports") / "linear", image_shape=SHAPE)


@pytest.fixture
def pictures(tmp_path, digits) -> Path:
    """Three digits with labels, and between them a file that is none."""
    for index, name in enumerate(["2/a.png", "7/b.png", "7/d.png"]):
        (tmp_path / "pictures" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits[index, :, :, 0]).save(tmp_path / "pictures" / name)
    (tmp_path / "pictures" / "7" / "c.png").write_text("no picture")
    return tmp_path / "pictures"


def decoded(images: np.ndarray) -> np.ndarray:
    """What the bundle makes of images (n, 28, 28, 1) uint8, in float64: (n, 784) of 0..1."""
    weights = linear_bundle.decoder_weights(2, SHAPE).astype(np.float64)
    means = images.reshape(len(images), -1) / 255 @ weights.T / 784
    return 1 / (1 + np.exp(-(means @ weights + 0.1)))


def test_the_table_has_each_pictures_error_and_the_bad_ones_reason(vae_serve, bundle, pictures, tmp_path, digits):
    done = vae_serve("reconstruct", "pictures", "--model", bundle, "--json", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    rows = pq.read_table(tmp_path / "pictures-reconstructed" / "errors.parquet").to_pylist()
    assert [(row["path"], row["label"], row["status"]) for row in rows] == [
        ("2/a.png", "2", "ok"),
        ("7/b.png", "7", "ok"),
        ("7/c.png", "7", "failed"),
        ("7/d.png", "7", "ok"),
    ]
    target, image = digits[:3].reshape(3, -1) / 255, decoded(digits[:3])
    mse = np.square(target - image).mean(axis=1)
    nats = -(target * np.log(image) + (1 - target) * np.log(1 - image)).sum(axis=1)
    fine = [rows[index] for index in (0, 1, 3)]
    # float32 in the networks: 784 pixels, each within some 1e-6 of its nats
    np.testing.assert_allclose([row["mse"] for row in fine], mse, atol=1e-6)
    np.testing.assert_allclose([row["reconstruction"] for row in fine], nats, atol=1e-3)
    assert "not_an_image" in rows[2]["error"]
    assert rows[2]["mse"] is None
    said = json.loads(done.stdout)
    assert (said["pictures"], said["failed"], said["sheets"]) == (4, 1, 1)
    assert said["mean_reconstruction"] == pytest.approx(nats.mean(), abs=1e-3)
    assert said["worst"]["path"] == fine[int(np.argmax(nats))]["path"]


def test_the_sheet_has_each_original_beside_its_reconstruction(vae_serve, bundle, pictures, tmp_path, digits):
    vae_serve("reconstruct", "pictures", "--model", bundle, "--out", "out", cwd=tmp_path)
    with Image.open(tmp_path / "out" / "sheet-00000.png") as picture:
        sheet = np.asarray(picture)
    for place, index in ((0, 0), (1, 1), (3, 2)):
        pair = sheet[2:30, place * 60 + 2 : place * 60 + 58]
        assert np.array_equal(pair[:, :28], digits[index, :, :, 0])
        expected = np.rint(255 * decoded(digits[index : index + 1])).reshape(28, 28)
        assert np.abs(pair[:, 28:] - expected).max() <= 1  # float32 near a half
    assert (sheet[2:30, 122:178] == 128).all()  # the bad one keeps its place


def test_many_pictures_go_to_several_sheets_in_order(vae_serve, bundle, tmp_path, digits):
    np.save(tmp_path / "digits.npy", digits[:300])
    done = vae_serve("reconstruct", "digits.npy", "--model", bundle, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "digits-reconstructed"
    assert sorted(file.name for file in folder.iterdir()) == ["errors.parquet", "sheet-00000.png", "sheet-00001.png"]
    assert pq.read_table(folder / "errors.parquet").num_rows == 300
    with Image.open(folder / "sheet-00001.png") as picture:
        assert np.array_equal(np.asarray(picture)[2:30, 2:30], digits[12 * 22, :, :, 0])


def test_what_is_there_is_replaced_only_when_asked_and_only_when_it_is_a_result(vae_serve, bundle, pictures, tmp_path):
    words = ["reconstruct", "pictures", "--model", bundle, "--out"]
    assert vae_serve(*words, "out", cwd=tmp_path).returncode == 3
    again = vae_serve(*words, "out", cwd=tmp_path)
    assert again.returncode == 1
    assert "--overwrite" in again.stderr
    assert vae_serve(*words, "out", "--overwrite", cwd=tmp_path).returncode == 3
    refused = vae_serve(*words, "pictures", "--overwrite", cwd=tmp_path)
    assert refused.returncode == 1
    assert "is not a result of reconstruct" in refused.stderr
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out", "pictures"]


def test_a_folder_with_the_name_of_the_unfinished_result_is_not_cleared(vae_serve, bundle, pictures, tmp_path):
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "thesis.tex").write_text("years of work")
    done = vae_serve("reconstruct", "pictures", "--model", bundle, "--out", "out", cwd=tmp_path)
    assert done.returncode == 1
    assert "out.partial" in done.stderr
    assert (tmp_path / "out.partial" / "thesis.tex").read_text() == "years of work"


def test_a_source_without_pictures_leaves_nothing_behind(vae_serve, bundle, tmp_path):
    (tmp_path / "empty").mkdir()
    done = vae_serve("reconstruct", "empty", "--model", bundle, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "empty holds no pictures" in done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["empty"]


@pytest.fixture(scope="module")
def many(tmp_path_factory, digits) -> Path:
    """Digits for several shards, of which each is some sheets."""
    file = tmp_path_factory.mktemp("many") / "many.npy"
    np.save(file, np.concatenate([digits, digits]))
    return file


def files_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.slow
def test_killed_at_any_moment_the_same_command_ends_with_the_same_bytes(vae_serve, bundle, many, tmp_path):
    words = ["reconstruct", many, "--model", bundle, "--out"]
    total = events_of(*words, "whole", cwd=tmp_path)
    (tmp_path / "killed").mkdir()
    for moment in moments(total, 8):
        killed = interrupted(*words, "killed/out", cwd=tmp_path, at=moment)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        published = (tmp_path / "killed" / "out").exists()
        again = vae_serve(*words, "killed/out", cwd=tmp_path)
        assert again.returncode == (1 if published else 0), again.stderr
        assert [file.name for file in (tmp_path / "killed").iterdir()] == ["out"]
        assert files_of(tmp_path / "killed" / "out") == files_of(tmp_path / "whole")
        shutil.rmtree(tmp_path / "killed" / "out")


def test_a_continued_job_makes_no_finished_shard_again_and_has_the_figures_of_the_whole(
    vae_serve, bundle, many, tmp_path
):
    words = ["reconstruct", many, "--model", bundle, "--json"]
    whole = json.loads(vae_serve(*words, "--out", "whole", cwd=tmp_path).stdout)
    total = events_of(*words, "--out", "counted", cwd=tmp_path)
    interrupted(*words, "--out", "out", cwd=tmp_path, at=total // 2)
    state = tmp_path / "out.partial" / ".job"
    before = {file: file.stat().st_mtime_ns for file in state.glob("part-*.json")}
    assert before
    again = interrupted(*words, "--out", "out", cwd=tmp_path, at=3, by=signal.SIGINT)
    assert again.returncode == 130
    assert before.items() <= {file: file.stat().st_mtime_ns for file in state.glob("part-*.json")}.items()
    done = vae_serve(*words, "--out", "out", "--workers", 1, cwd=tmp_path)
    assert {**json.loads(done.stdout), "out": "whole"} == whole


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("d/*.png", "d-reconstructed"),
        ("*.png", "here-reconstructed"),
        ("d/**/*.png", "d-reconstructed"),
        ("d.v2", "d.v2-reconstructed"),
        (".", "here-reconstructed"),
    ],
)
def test_without_out_the_name_is_that_of_the_source_before_any_wildcard(
    vae_serve, bundle, tmp_path, digits, source, name
):
    here = tmp_path / "here"
    for file in ("d/a.png", "d.v2/a.png", "a.png"):
        (here / file).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits[0, :, :, 0]).save(here / file)
    before = {file.name for file in here.iterdir()}
    done = vae_serve("reconstruct", source, "--model", bundle, cwd=here)
    assert done.returncode == 0, done.stderr
    assert {file.name for file in here.iterdir()} - before == {name}


def test_its_own_sheets_are_no_pictures_of_the_source(vae_serve, bundle, pictures, tmp_path):
    words = ["reconstruct", ".", "--model", bundle, "--out", "sheets", "--json", "--overwrite"]
    first, second = (vae_serve(*words, cwd=pictures) for _ in range(2))
    assert (first.returncode, second.returncode) == (3, 3), second.stderr
    assert json.loads(second.stdout)["pictures"] == json.loads(first.stdout)["pictures"] == 4
