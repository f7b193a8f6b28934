"""`vae-serve embed`, typed as a person types it, over a model whose answer is known."""

import json
from pathlib import Path

import linear_bundle
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return linear_bundle.write(tmp_path_factory.mktemp("exports") / "linear", image_shape=(28, 28, 1))


def rows_of(out: Path) -> dict[str, list]:
    return pq.read_table(out).to_pydict()


def pixels(folder: Path, path: str) -> np.ndarray:
    with Image.open(folder / path) as picture:
        return np.asarray(picture).reshape(1, 28, 28, 1)


def test_one_row_for_each_picture_in_sorted_order_with_its_own_vectors(vae_serve, bundle, digit_folder, tmp_path):
    done = vae_serve("embed", digit_folder, "--model", bundle, "--out", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = rows_of(tmp_path / "out")
    paths = sorted(file.relative_to(digit_folder).as_posix() for file in digit_folder.rglob("*.png"))
    assert rows["path"] == paths
    assert rows["label"] == [path[0] for path in paths]
    assert rows["status"] == ["ok"] * 300
    assert rows["error"] == [None] * 300
    assert rows["width"] == rows["height"] == [28] * 300
    expected = linear_bundle.encoded(np.concatenate([pixels(digit_folder, path) for path in paths]))
    assert np.abs(np.array(rows["z_mean"]) - expected).max() < 1e-6  # float32 sums of 784 terms below 1
    assert np.array_equal(np.array(rows["z_log_var"]), -np.array(rows["z_mean"]))


def test_vectors_are_lists_of_float32(vae_serve, bundle, digit_folder, tmp_path):
    vae_serve("embed", digit_folder, "--model", bundle, "--out", "out", cwd=tmp_path)
    schema = pq.read_schema(tmp_path / "out" / "part-00000.parquet")
    assert schema.field("z_mean").type == pa.list_(pa.float32())
    assert schema.names == ["path", "label", "status", "error", "width", "height", "z_mean", "z_log_var"]


def test_a_bad_picture_is_a_row_and_moves_no_other(vae_serve, bundle, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for level in range(5):
        Image.new("L", (28, 28), level * 50).save(folder / f"{level}.png")
    (folder / "1.png").write_text("not a picture")
    (folder / "3.png").write_bytes((folder / "3.png").read_bytes()[:60])
    done = vae_serve("embed", folder, "--model", bundle, "--out", "out", "--json", cwd=tmp_path)
    assert done.returncode == 3
    rows = rows_of(tmp_path / "out")
    assert rows["status"] == ["ok", "failed", "ok", "failed", "ok"]
    assert rows["error"][1].startswith("not_an_image: ")
    assert rows["error"][3].startswith("truncated: ")
    assert rows["z_mean"][1] is rows["z_log_var"][3] is rows["width"][1] is None
    for level in (0, 2, 4):
        expected = linear_bundle.encoded(np.full((1, 28, 28, 1), level * 50, np.uint8))[0]
        assert rows["z_mean"][level] == pytest.approx(expected, abs=1e-6)
    assert json.loads(done.stdout)["errors"] == {"not_an_image": 1, "truncated": 1}


@pytest.mark.parametrize("source", ["missing", "empty", "texts"])
def test_a_source_without_pictures_is_refused_in_one_sentence(vae_serve, bundle, tmp_path, source):
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("a")
    done = vae_serve("embed", source, "--model", bundle, "--out", "out", "-q", cwd=tmp_path)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"vae-serve: error: {source} ")
    assert not (tmp_path / "out").exists()
