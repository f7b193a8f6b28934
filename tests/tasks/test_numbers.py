"""Arrays of any type of numbers give the vectors of the bytes that they stand for, as training reads them."""

import json

import linear_bundle
import numpy as np
import pyarrow.parquet as pq
import pytest

from vae_serve.training.array_files import as_bytes

BYTES = np.random.default_rng(3).integers(0, 256, (9, 6, 5, 1), np.uint8)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return linear_bundle.write(tmp_path_factory.mktemp("exports") / "linear")


def z_mean(vae_serve, bundle, folder, array, name):
    np.save(folder / f"{name}.npy", array)
    done = vae_serve("embed", f"{name}.npy", "--model", bundle, "--out", name, "--json", cwd=folder)
    assert done.returncode in {0, 3}, done.stderr
    table = pq.read_table(folder / name).to_pydict()
    return table["z_mean"], table["error"], json.loads(done.stdout)["errors"]


@pytest.mark.parametrize(
    ("array", "stand_for"),
    [
        (BYTES > 99, np.uint8(255) * (BYTES > 99)),
        ((BYTES // 2).astype(np.int8), BYTES // 2),
        (BYTES.astype(">u2"), BYTES),
        (BYTES.astype(np.int64), BYTES),
        (BYTES.astype(np.uint16) * 257, BYTES),
        (np.asfortranarray(BYTES.astype(np.int32)), BYTES),
    ],
    ids=["bool", "int8", "big-endian uint16", "int64", "16 bits", "Fortran order"],
)
def test_integers_and_truth_values_are_the_bytes_that_they_stand_for(vae_serve, bundle, tmp_path, array, stand_for):
    given, errors, _ = z_mean(vae_serve, bundle, tmp_path, array, "given")
    expected, _, _ = z_mean(vae_serve, bundle, tmp_path, stand_for, "expected")
    assert errors == [None] * 9
    assert given == expected
    assert np.array_equal(as_bytes(array, "it", lambda _: None), stand_for)


def test_the_whole_array_says_whether_it_is_of_16_bits(vae_serve, bundle, tmp_path):
    array = np.full((3, 6, 5), 200, np.uint16)
    array[2] = 40_000
    given, _, _ = z_mean(vae_serve, bundle, tmp_path, array, "given")
    levels = np.stack([np.full((6, 5), level, np.uint8) for level in (1, 1, 156)])  # 200 / 257, 40,000 / 257
    assert given == z_mean(vae_serve, bundle, tmp_path, levels, "expected")[0]


def test_a_picture_with_an_integer_out_of_range_is_a_row_and_moves_no_other(vae_serve, bundle, tmp_path):
    array = BYTES.astype(np.int32)
    array[2, 0, 0], array[4, 0, 0] = 256, -1
    array[2, 1:], array[4, 1:] = 7, 7
    given, errors, counts = z_mean(vae_serve, bundle, tmp_path, array, "given")
    expected, _, _ = z_mean(vae_serve, bundle, tmp_path, BYTES, "expected")
    assert counts == {"range": 2}
    assert errors[2].startswith("range: its integers reach from ") and errors[2].endswith("to 256, not from 0 to 255")
    assert errors[4].startswith("range: its integers reach from -1 to ")
    assert [row for row in range(9) if given[row] is None] == [2, 4]
    assert [given[row] for row in (0, 1, 3, 5, 6, 7, 8)] == [expected[row] for row in (0, 1, 3, 5, 6, 7, 8)]
