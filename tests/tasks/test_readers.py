"""An `embed` result as others read it: the folder as it is, one line each, the same values."""

import os
from collections.abc import Callable
from pathlib import Path

import linear_bundle
import numpy as np
import pytest
from PIL import Image

SHAPE = (28, 28, 1)
FAILED = 5  # its number among the rows
ROWS = 20


@pytest.fixture(scope="module")
def result(vae_serve, tmp_path_factory, digits) -> Path:
    """A result of several files, its first shard without a failed row, one row of the others failed."""
    work = tmp_path_factory.mktemp("readers")
    bundle = linear_bundle.write(work / "exports" / "linear", image_shape=SHAPE)
    for row in range(ROWS):
        file = work / "pictures" / str(row // 10) / f"{row:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits[row, :, :, 0]).save(file)
    (work / "pictures" / "0" / "05.png").write_text("no picture")
    words = ["embed", "pictures", "--model", bundle, "--rows-per-shard", 4, "--out", "vectors"]
    assert vae_serve(*words, cwd=work).returncode == 3
    return work / "vectors"


def by_pyarrow_dataset(folder: Path) -> list[dict]:
    import pyarrow.dataset

    return pyarrow.dataset.dataset(folder).to_table().to_pylist()


def by_pyarrow_parquet(folder: Path) -> list[dict]:
    import pyarrow.parquet

    return pyarrow.parquet.read_table(folder).to_pylist()


def by_pandas(folder: Path) -> list[dict]:
    import pandas

    frame = pandas.read_parquet(folder)
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


def by_polars(folder: Path) -> list[dict]:
    import polars

    return polars.read_parquet(folder).to_dicts()


def by_polars_lazily(folder: Path) -> list[dict]:
    import polars

    return polars.scan_parquet(folder).collect().to_dicts()


def by_duckdb(folder: Path) -> list[dict]:
    import duckdb

    rows = duckdb.sql(f"SELECT * FROM '{folder}/*.parquet' ORDER BY path")
    return [dict(zip(rows.columns, row, strict=True)) for row in rows.fetchall()]


def by_datasets(folder: Path) -> list[dict]:
    import datasets

    return list(datasets.load_dataset(str(folder), split="train", cache_dir=str(folder.parent / "cache")))


READERS = [
    by_pyarrow_dataset,
    by_pyarrow_parquet,
    by_pandas,
    by_polars,
    by_polars_lazily,
    by_duckdb,
    by_datasets,
]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the readers' own
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__)
def test_the_folder_reads_as_the_rows_that_were_embedded(
    result, digits, monkeypatch, tmp_path, read: Callable[[Path], list[dict]]
):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    rows = read(result)
    assert [row["path"] for row in rows] == [f"{row // 10}/{row:02}.png" for row in range(ROWS)]
    assert [row["label"] for row in rows] == [str(row // 10) for row in range(ROWS)]
    assert list(rows[0]) == ["path", "label", "status", "error", "width", "height", "z_mean", "z_log_var"]
    bad = rows.pop(FAILED)
    assert bad["status"] == "failed"
    assert bad["error"].startswith("not_an_image: ")
    assert all(bad[name] is None for name in ("width", "height", "z_mean", "z_log_var"))
    assert {row["status"] for row in rows} == {"ok"}
    assert {row["error"] for row in rows} == {None}
    assert {(row["width"], row["height"]) for row in rows} == {(28, 28)}
    found = np.array([list(row["z_mean"]) for row in rows])
    expected = linear_bundle.encoded(np.delete(digits[:ROWS], FAILED, axis=0))
    np.testing.assert_allclose(found, expected, atol=1e-6)  # float32 sums of 784 terms below 1
    assert np.array_equal(-found, np.array([list(row["z_log_var"]) for row in rows]))


def test_spark_and_hive_find_the_parquet_files_and_nothing_else(result):
    """Their rule (Hadoop's hidden-file filter): what begins with _ or . is passed over, all else is data."""
    files = [
        Path(folder, name).relative_to(result)
        for folder, folders, names in os.walk(result)
        if not any(part.startswith(("_", ".")) for part in Path(folder).relative_to(result).parts)
        for name in names
        if not name.startswith(("_", "."))
    ]
    assert sorted(map(str, files)) == [f"part-{number:05}.parquet" for number in range(5)]


def test_all_files_have_one_schema(result):
    import pyarrow.parquet

    schemas = [pyarrow.parquet.read_schema(file) for file in sorted(result.glob("*.parquet"))]
    assert len(schemas) == 6  # the hidden one with the job's state, which has no rows, too
    assert all(schema.equals(schemas[0]) for schema in schemas)
