"""What a damaged model gives: NaN and infinity are failed rows or an error, never a result."""

import json
import shutil

import numpy as np
import onnx
import pyarrow.parquet as pq
import pytest
from onnx import numpy_helper

from tests.model.conftest import PACKAGED, sign
from vae_serve.errors import ParityError
from vae_serve.model.verify import verify


def damaged(tmp_path, role, value):
    """The packaged model with one weight of its last layer replaced."""
    folder = shutil.copytree(PACKAGED, tmp_path / "damaged")
    for file in folder.glob(f"{role}*.onnx"):
        model = onnx.load(file)
        weights = [one for one in model.graph.initializer if one.data_type == 1 and len(one.dims) > 1][-1]
        array = numpy_helper.to_array(weights).copy()
        array.flat[0] = value
        weights.CopyFrom(numpy_helper.from_array(array, weights.name))
        file.write_bytes(model.SerializeToString())
    return sign(folder)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_embed_fails_each_row_that_is_not_finite(tmp_path, vae_serve, digit_folder, value):
    folder = damaged(tmp_path, "encoder", value)
    done = vae_serve("embed", digit_folder / "7", "--model", folder, "--out", "out", "--json", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    table = pq.read_table(tmp_path / "out", columns=["status", "error", "z_mean"])
    failed = [row for row in table.to_pylist() if row["status"] == "failed"]
    assert failed
    assert {row["error"].split(":")[0] for row in failed} == {"not_finite"}
    assert all(row["z_mean"] is None for row in failed)
    good = [row["z_mean"] for row in table.to_pylist() if row["status"] == "ok"]
    assert np.isfinite(np.array(good, np.float64)).all()
    assert json.loads(done.stdout)["errors"] == {"not_finite": len(failed)}


@pytest.mark.parametrize("role", ["encoder", "decoder"])
def test_reconstruct_fails_each_row_that_is_not_finite(tmp_path, vae_serve, digit_folder, role):
    folder = damaged(tmp_path, role, np.nan)
    done = vae_serve("reconstruct", digit_folder / "7", "--model", folder, "--out", "out", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    rows = pq.read_table(tmp_path / "out" / "errors.parquet").to_pylist()
    assert {row["error"].split(":")[0] for row in rows} == {"not_finite"}
    assert {(row["mse"], row["reconstruction"]) for row in rows} == {(None, None)}


@pytest.mark.parametrize("words", [["--grid", 3, "--out", "a.png"], ["--count", 5, "--out", "a.npy"]])
def test_generate_says_at_which_point_the_decoder_gives_nan(tmp_path, vae_serve, words):
    done = vae_serve("generate", *words, "--model", damaged(tmp_path, "decoder", np.nan), cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert "NaN or infinity for z = (" in done.stderr
    assert not (tmp_path / words[-1]).exists()


@pytest.mark.parametrize("role", ["encoder", "decoder"])
def test_verify_fails(tmp_path, role):
    with pytest.raises(ParityError, match="nan"):
        verify(damaged(tmp_path, role, np.nan))
