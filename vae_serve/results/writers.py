"""Rows to files: Parquet, npy, csv and the TensorBoard Embedding Projector.

Every writer takes an open binary file and gives the same bytes for the same rows. A result of many shards is put
together shard by shard, so that memory stays flat.
"""

import csv
import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

Floats = npt.NDArray[np.float32]
Array = npt.NDArray[Any]
Given = npt.NDArray[np.bool_]

# Columns are made from buffers: `pyarrow.array` imports pandas where it is installed, which takes half a second.


def vectors(values: Floats, given: Given | None = None) -> pa.Array:
    """(n, d) float32 as a column of lists; null where `given` (n,) is false.

    Not of fixed-size lists, though all are of one size: up to version 24 pyarrow cannot write, or cannot read back, a
    Parquet file in which one of those is null.
    """
    count, size = values.shape
    offsets = np.arange(count + 1, dtype=np.int32)
    if given is not None and not given.all():
        values = values[given]
        np.cumsum(given, out=offsets[1:])
    offsets *= np.int32(size)
    flat = pa.Array.from_buffers(pa.float32(), values.size, [None, pa.py_buffer(np.ascontiguousarray(values))])
    buffers = [bits(given), pa.py_buffer(offsets)]
    return pa.Array.from_buffers(pa.list_(pa.float32()), count, buffers, children=[flat])


def numbers(values: Array, given: Given | None = None) -> pa.Array:
    """(n,) integers as a column of int32; null where `given` (n,) is false."""
    whole = pa.py_buffer(np.ascontiguousarray(values, np.int32))
    return pa.Array.from_buffers(pa.int32(), len(values), [bits(given), whole])


def texts(values: Sequence[bytes | None]) -> pa.Array:
    """UTF-8 as a column of strings; None is null."""
    given = None
    if None in values:
        given = np.array([value is not None for value in values], bool)
    there = values if given is None else [value or b"" for value in values]
    offsets = np.zeros(len(there) + 1, np.int32)
    np.cumsum(np.fromiter(map(len, there), np.int32, len(there)), out=offsets[1:])  # type: ignore[arg-type]  # no None
    return strings(b"".join(there), offsets, given)  # type: ignore[arg-type]


def strings(text: bytes, offsets: npt.NDArray[np.int32], given: Given | None = None) -> pa.Array:
    """UTF-8, end to end, as a column of strings, which begin at the offsets (n + 1,); null where `given` is false."""
    return pa.StringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(text), bits(given))


def choices(words: Sequence[bytes], which: Array) -> pa.Array:
    """A column of strings, each kept once: row i is words[which[i]], null where `which` (n,) is negative."""
    return pa.DictionaryArray.from_arrays(numbers(which, which >= 0), texts(words))


def nulls(count: int) -> pa.Array:
    """A column of strings that are not there."""
    return pa.nulls(count, pa.string())


def blobs(values: npt.NDArray[np.uint8]) -> pa.Array:
    """(n, size) bytes as a column of fixed-size binary."""
    count, size = values.shape
    return pa.Array.from_buffers(pa.binary(size), count, [None, pa.py_buffer(np.ascontiguousarray(values))])


def bits(given: Given | None) -> pa.Buffer | None:
    """Arrow's bitmap of the rows that are there, least significant bit first; None where all are."""
    return None if given is None or given.all() else pa.py_buffer(np.packbits(given, bitorder="little"))


def write_parquet(file: BinaryIO, columns: Mapping[str, pa.Array], compressed: Collection[str] | None = None) -> None:
    """Columns of one length as a Parquet file of one row group. `compressed`: paths of those that are; None for all."""
    table = pa.Table.from_arrays(list(columns.values()), names=list(columns))
    repeated = [field.name for field in table.schema if pa.types.is_dictionary(field.type) or field.name == "error"]
    pq.write_table(
        table,
        file,
        row_group_size=max(len(table), 1),
        **_compression(compressed),
        use_dictionary=repeated,
        write_statistics=False,
        store_schema=False,  # strings kept once are read back as strings
    )


def write_tables(file: BinaryIO, tables: Iterable[pa.Table], compressed: Collection[str] | None = None) -> None:
    """Tables of one schema, at least one, as the row groups of one Parquet file. `compressed` as above."""
    writer = None
    for table in tables:
        writer = writer or pq.ParquetWriter(
            file,
            table.schema,
            **_compression(compressed),
            use_dictionary=False,
            write_statistics=False,
            store_schema=False,
        )
        writer.write_table(table, row_group_size=max(len(table), 1))
    if writer:
        writer.close()


def _compression(columns: Collection[str] | None) -> dict[str, Any]:
    """Zstandard at its fastest, of all columns or of these paths alone."""
    if columns is None:
        return {"compression": "zstd", "compression_level": 1}
    return {"compression": dict.fromkeys(columns, "zstd"), "compression_level": dict.fromkeys(columns, 1)}


def write_npy(file: BinaryIO, parts: Iterable[Array], shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
    """Arrays that make up one of this shape, one after another along the first axis, as a .npy file (format 1.0)."""
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    rows = 0
    for part in parts:
        file.write(np.ascontiguousarray(part, dtype).data)
        rows += len(part)
    if rows != shape[0]:
        raise ValueError(f"{rows} rows where the header says {shape[0]}")


def write_csv(file: BinaryIO, header: list[str], rows: Iterable[Iterable[Any]]) -> None:
    """Comma-separated values as RFC 4180 has them (CR LF, quotes where needed), UTF-8; None is an empty field."""
    text = io.TextIOWrapper(file, "utf-8", newline="", write_through=True)
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows(rows)
    text.detach()
