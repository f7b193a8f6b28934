"""Files of latent points: every point is what its file says, or there is none."""

import io
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vae_serve.errors import SourceError
from vae_serve.sources.latents import LatentFile, from_array, from_prior

POINTS = np.array([[-1, 2], [0.5, 1e-3]], np.float32)


def points(path: Path) -> np.ndarray:
    source = LatentFile(path, 2).open()
    return source.rows(0, source.count)


@pytest.mark.parametrize(
    "text",
    [
        "-1,2\n0.5,0.001\n",
        "-1,2\n\n0.5,0.001\n\n\n",
        "z_mean_1,z_mean_0\n2,-1\n0.001,0.5\n",
        "path,z_1,z_0,z_mean_0,z_mean_1\nx,9,9,-1,2\ny,9,9,0.5,0.001\n",
        "0,1\n-1,2\n0.5,0.001\n",
        ",0,1\n0,-1,2\n1,0.5,0.001\n",
        "Unnamed: 0,1,0\n0,2,-1\n1,0.001,0.5\n",
        "0,1,z_0,z_1\n1,0,-1,2\n1,0,0.5,0.001\n",
        " z_0 , z_1 \r\n -1 , 2 \r\n0.5,0.001",
        '"z_0","z_1"\n"-1","2"\n"0.5","0.001"\n',
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_csv_columns_go_by_their_numbers(tmp_path, text, encoding):
    (tmp_path / "z.csv").write_bytes(text.encode(encoding))
    assert np.array_equal(points(tmp_path / "z.csv"), POINTS)


@pytest.mark.parametrize("index", [True, False])
@pytest.mark.parametrize("columns", [None, ["z_0", "z_1"]])
def test_what_pandas_writes_is_read(tmp_path, index, columns):
    pd.DataFrame(POINTS, columns=columns).to_csv(tmp_path / "z.csv", index=index)
    assert np.array_equal(points(tmp_path / "z.csv"), POINTS)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("z_0,z_2\n1,2\n", "z_0, z_2 are not each of z_0, z_1"),
        ("z_0,z_0\n1,2\n", "z_0, z_0 are not each of"),
        ("z_0,z_00,z_1\n1,2,3\n", "are not each of"),
        ("a,b\n1,2\n", "a header without columns"),
        ("1,2\n1\n", "line 2: it has 1 fields, and the first line 2"),
        ("1,2\n1,2,3\n", "line 2: it has 3 fields"),
        ("1,2\n1,\n", "line 2: '' is not a number"),
        ("1,2\n1,1_0\n", "'1_0' is not a number"),
        ("1,2\n1,x\0\n", "is not a number"),
        ("1,2\n1,1e300\n", r"point 1 is \(1, 1e\+300\)"),
        ("1,2\n1,inf\n", r"point 1 is \(1, inf\)"),
        ("0,1\n", "holds no points"),
        ("", "holds no points"),
        ("1,2,3\n", "points of 3 dimensions; this model's have 2"),
        ("1,2\n" + "1" * 200_000, "field larger than field limit"),
        ("1,2\n" + ("1," * 60_000) * 10, "more than 1,048,576 characters"),
    ],
)
def test_a_csv_that_leaves_doubt_is_refused(tmp_path, text, said):
    (tmp_path / "z.csv").write_text(text)
    with warnings.catch_warnings(), pytest.raises(SourceError, match=said):
        warnings.simplefilter("error")
        points(tmp_path / "z.csv")


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "z.csv").write_bytes(b"1,2\n\xff\xfe\n")
    with pytest.raises(SourceError, match="codec can't decode"):
        points(tmp_path / "z.csv")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_has_its_points_in_z(tmp_path, save):
    save(tmp_path / "z.npz", pictures=np.zeros((2, 28, 28, 1), np.uint8), z=POINTS)
    assert np.array_equal(points(tmp_path / "z.npz"), POINTS)
    save(tmp_path / "z.npz", a=POINTS)
    with pytest.raises(SourceError, match="holds no array z_mean or z, but a"):
        points(tmp_path / "z.npz")


@pytest.mark.parametrize("dtype", ["<f8", ">f4", "<f2", "<i8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_of_any_numbers_is_read(tmp_path, dtype, order):
    array = np.asarray([[1, -2], [3, 4], [5, 6]], dtype, order=order)
    np.save(tmp_path / "z.npy", array)
    assert np.array_equal(points(tmp_path / "z.npy"), array.astype(np.float32))


@pytest.mark.parametrize("value", [1e300, -3.5e38, np.nan, np.inf])
def test_a_number_beyond_float32_is_refused_without_a_warning(tmp_path, value):
    np.save(tmp_path / "z.npy", np.array([[0, 0], [value, 0]]))
    with warnings.catch_warnings(), pytest.raises(SourceError, match="point 1 is"):
        warnings.simplefilter("error")
        points(tmp_path / "z.npy")


@pytest.mark.parametrize(
    "columns",
    [
        {"z_mean": POINTS.tolist(), "z": [[9.0, 9.0]] * 2},
        {"z": pa.array(POINTS.tolist(), pa.list_(pa.float64(), 2))},
        {"z_1": POINTS[:, 1], "z_0": POINTS[:, 0], "path": ["a", "b"]},
        {"1": POINTS[:, 1], "0": POINTS[:, 0]},
    ],
)
def test_parquet_has_a_column_of_vectors_or_one_for_each_number(tmp_path, columns):
    pq.write_table(pa.table(columns), tmp_path / "z.parquet")
    assert np.array_equal(points(tmp_path / "z.parquet"), POINTS)


@pytest.mark.parametrize(
    "columns", [{"a": [1]}, {"z": ["x"]}, {"z": [["x"]]}, {"z": [[1.0, 2.0], [1.0]]}, {"z_0": ["x"], "z_1": ["y"]}]
)
def test_parquet_without_points_is_refused(tmp_path, columns):
    pq.write_table(pa.table(columns), tmp_path / "z.parquet")
    with pytest.raises(SourceError, match="has no column z_mean or z of vectors"):
        points(tmp_path / "z.parquet")


def test_a_folder_of_results_is_read_past_what_is_hidden(tmp_path):
    (tmp_path / ".job").mkdir()
    for number in range(2):
        table = pa.table({"z_mean": [POINTS[number].tolist(), None]})
        pq.write_table(table, tmp_path / f"part-0000{number}.parquet")
    (tmp_path / ".part-00002.parquet.partial").write_bytes(b"half")
    (tmp_path / "._part-00000.parquet").write_bytes(b"a Mac's")
    source = LatentFile(tmp_path, 2).open()
    assert source.missing == (1, 3)
    assert np.array_equal(source.rows(0, 4)[[0, 2]], POINTS)
    assert source.share(1, 4).missing == (0, 2)


def test_a_part_of_a_source_is_its_rows():
    whole = from_prior(7, 100, 3)
    assert np.array_equal(whole.share(10, 20).rows(2, 5), whole.rows(12, 15))
    assert from_array(POINTS).share(1, 2).rows(0, 1).tolist() == POINTS[1:].tolist()


def test_a_file_of_another_kind_is_refused(tmp_path):
    buffer = io.BytesIO()
    np.save(buffer, POINTS)
    (tmp_path / "z.npz").write_bytes(buffer.getvalue())
    assert np.array_equal(points(tmp_path / "z.npz"), POINTS)
    (tmp_path / "z.npy").write_bytes(b"text")
    for name in ("z.npy", "z.txt", "gone.csv"):
        with pytest.raises(SourceError):
            points(tmp_path / name)
