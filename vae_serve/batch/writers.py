"""Rows to files: Parquet, npy, csv and the TensorBoard Embedding Projector.

Every writer takes an open binary file and gives the same bytes for the same rows. A result of many shards is put
together shard by shard, so that memory stays flat.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

Floats = npt.NDArray[np.float32]
Array = npt.NDArray[Any]


def vectors(values: Floats, given: npt.NDArray[np.bool_] | None = None) -> pa.Array:
    """(n, d) float32 as a column of fixed-size lists; null where `given` (n,) is false."""
    mask = None if given is None or given.all() else pa.array(~given)
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1], mask=mask)


def texts(values: Sequence[str | None]) -> pa.Array:
    """A column of strings; None is null."""
    return pa.array(values, pa.string())


def numbers(values: Array, given: npt.NDArray[np.bool_]) -> pa.Array:
    """(n,) integers as a column of int32; null where `given` (n,) is false."""
    return pa.array(values.astype(np.int32), mask=~given)


def write_parquet(file: BinaryIO, columns: Mapping[str, Any], about: Mapping[str, str] | None = None) -> None:
    """Columns (arrays, lists or pyarrow arrays of one length) as a Parquet file of one row group.

    `about` goes into the schema's metadata.
    """
    table = pa.table(dict(columns)).replace_schema_metadata(dict(about or {}))
    repeated = [column.name for column in table.schema if pa.types.is_string(column.type) and column.name != "path"]
    pq.write_table(
        table,
        file,
        row_group_size=max(len(table), 1),
        compression="zstd",
        compression_level=1,
        use_dictionary=repeated,
        write_statistics=False,
    )


def read_parquet(paths: Iterable[Path]) -> Iterator[pa.Table]:
    """The files' tables, one at a time."""
    for path in paths:
        yield pq.read_table(path, use_threads=False, memory_map=True)


def values(column: pa.ChunkedArray, size: int) -> Floats:
    """A column of fixed-size lists as (n, size) float32; null rows are NaN."""
    parts = []
    for chunk in column.chunks:
        rows = np.full((len(chunk), size), np.nan, np.float32)
        rows[np.asarray(chunk.is_valid())] = np.asarray(chunk.flatten()).reshape(-1, size)
        parts.append(rows)
    return np.concatenate(parts) if parts else np.empty((0, size), np.float32)


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
