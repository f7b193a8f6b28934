"""Parquet files of pictures, by whoever wrote them."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from opened import contents_of, labels, names_of

from vae_serve.errors import SourceError
from vae_serve.sources.opening import open_source

FILES = [b"one", None, b"three", b"", b"five"]
READ = [b"one", "empty", b"three", "empty", b"five"]


def write(path: Path, *, rows: int = 2, **columns: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=rows, use_dictionary=False)
    return path


def read(path: Path) -> list[bytes | str]:
    return contents_of(open_source(str(path)))


STRUCT = pa.struct({"bytes": pa.binary(), "path": pa.string()})


@pytest.mark.parametrize(
    "column",
    [
        pa.array(FILES, pa.binary()),
        pa.array(FILES, pa.large_binary()),
        pa.array(FILES, pa.binary_view()),
        pa.array(FILES, pa.binary()).dictionary_encode(),
        pa.array([None if file is None else {"bytes": file, "path": "x"} for file in FILES], STRUCT),
        pa.array([{"bytes": file, "path": "x"} for file in FILES], STRUCT),
    ],
    ids=["binary", "large", "view", "dictionary", "struct", "struct of null"],
)
def test_bytes_of_any_type_are_read(tmp_path, column):
    assert read(write(tmp_path / "x.parquet", image=column)) == READ


def test_rows_are_read_in_any_order_from_large_row_groups(tmp_path):
    files = [b"%d" % row for row in range(2000)]
    source = open_source(str(write(tmp_path / "x.parquet", rows=1500, Image=files, Label=list(range(2000)))))
    for rows in (range(1990, 2000), range(300, 900), range(0, 3), range(1499, 1501), range(2000)):
        assert list(source.read(rows)) == files[rows.start : rows.stop]
        assert source.labels(rows).texts() == files[rows.start : rows.stop]


@pytest.mark.parametrize(
    "column", [pa.array(["iVBO"]), pa.array([{"bytes": "iVBO"}]), pa.array(["iVBO"], pa.string_view())]
)
def test_text_is_refused_as_no_bytes(tmp_path, column):
    with pytest.raises(SourceError, match="is text, not bytes; if that is base64"):
        open_source(str(write(tmp_path / "x.parquet", image=column)))


def damage(path: Path, group: int, column: int) -> None:
    chunk = pq.ParquetFile(path).metadata.row_group(group).column(column)
    data = bytearray(path.read_bytes())
    data[chunk.data_page_offset : chunk.data_page_offset + 30] = b"\xff" * 30
    path.write_bytes(data)


@pytest.mark.parametrize("column", [0, 1])
def test_a_damaged_row_group_fails_its_own_rows(tmp_path, column):
    """Of the pictures, or of their labels, which would be unknown else."""
    path = write(tmp_path / "x.parquet", image=[b"%d" % row for row in range(8)], label=list("abcdefgh"))
    damage(path, 1, column)
    source = open_source(str(path))
    expected = [b"0", b"1", "unreadable", "unreadable", b"4", b"5", b"6", b"7"]
    assert contents_of(source) == expected
    assert [next(source.read(range(row, row + 1))) for row in (7, 0)] == [b"7", b"0"]
    assert source.labels(range(4, 8)).texts() == [b"e", b"f", b"g", b"h"]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([b"cat", b"caf\xc3\xa9", None]), [b"cat", "café".encode(), None]),
        (pa.array([7.0, 7.5, float("nan")]), [b"7", b"7.5", None]),
        (pa.array(["a", "b", "a"]).dictionary_encode(), [b"a", b"b", b"a"]),
        (pa.array([True, False, None]), [b"True", b"False", None]),
        (pa.array([[1, 2], [], None]), [b"[1, 2]", b"[]", None]),
    ],
)
def test_labels_of_any_type_are_text(tmp_path, column, expected):
    assert labels(write(tmp_path / "x.parquet", image=[b"1", b"2", b"3"], label=column)) == expected


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        ({"names": ["cat", "dog"], "_type": "ClassLabel"}, [b"dog", b"cat", None, b"9"]),
        ({"names": [1, 2]}, [b"1", b"0", b"-1", b"9"]),
        ([], [b"1", b"0", b"-1", b"9"]),
    ],
)
def test_class_labels_of_hugging_face_are_their_names(tmp_path, about, expected):
    table = pa.table({"image": [b"1"] * 4, "label": [1, 0, -1, 9]})
    text = json.dumps({"info": {"features": {"label": about}}})
    pq.write_table(table.replace_schema_metadata({"huggingface": text}), tmp_path / "x.parquet")
    assert labels(tmp_path / "x.parquet") == expected


def test_a_folder_of_parquet_files_is_one_table(tmp_path):
    write(tmp_path / "d" / "data" / "b.parquet", image=[b"2", b"3"], label=[2, 3])
    write(tmp_path / "d" / "data" / "a.PARQUET", image=[b"0", b"1"], label=[0, 1])
    write(tmp_path / "d" / "z.parquet", image=[b"4"], label=[4])
    write(tmp_path / "d" / ".cache" / "c.parquet", number=[1])
    (tmp_path / "d" / "README.md").touch()
    source = open_source(str(tmp_path / "d"))
    assert names_of(source) == [f"{row:08}" for row in range(5)]
    assert contents_of(source) == [b"0", b"1", b"2", b"3", b"4"]
    assert source.labels(range(1, 5)).texts() == [b"1", b"2", b"3", b"4"]


def test_parquet_files_that_are_not_alike_are_refused(tmp_path):
    write(tmp_path / "a.parquet", image=[b"0"], label=[0])
    write(tmp_path / "b.parquet", image=[b"0"], label=["cat"])
    with pytest.raises(SourceError, match=r"labels in label \(int64\), .*b\.parquet .* \(string\); .* must be alike"):
        open_source(str(tmp_path))


def test_a_table_without_rows_is_refused(tmp_path):
    with pytest.raises(SourceError, match="has no rows"):
        open_source(str(write(tmp_path / "x.parquet", image=pa.array([], pa.binary()))))


@pytest.mark.parametrize("kind", ["bytes", "struct"])
def test_parquet_gives_its_rows_in_order_across_row_groups(tmp_path, kind):
    files = [b"%d" % row for row in range(10)]
    column = files if kind == "bytes" else [{"bytes": file, "path": "x"} for file in files]
    pq.write_table(pa.table({"image": column, "label": list(range(10))}), tmp_path / "x.parquet", row_group_size=3)
    source = open_source(str(tmp_path / "x.parquet"))
    assert names_of(source)[:2] == ["00000000", "00000001"]
    assert list(source.read(range(2, 8))) == files[2:8]
    assert list(source.read(range(0, 2))) == files[:2]
    assert source.labels(range(8, 10)).texts() == [b"8", b"9"]


def test_a_null_in_parquet_is_a_row_of_its_own(tmp_path):
    pq.write_table(pa.table({"image": pa.array([b"a", None, b"c"])}), tmp_path / "x.parquet")
    assert contents_of(open_source(str(tmp_path / "x.parquet"))) == [b"a", "empty", b"c"]


def test_parquet_without_pictures_is_refused(tmp_path):
    pq.write_table(pa.table({"number": [1]}), tmp_path / "x.parquet")
    with pytest.raises(SourceError, match=r"no columns of pictures .* among number"):
        open_source(str(tmp_path / "x.parquet"))
    (tmp_path / "y.parquet").write_text("not Parquet")
    with pytest.raises(SourceError, match="cannot be read as Parquet"):
        open_source(str(tmp_path / "y.parquet"))
