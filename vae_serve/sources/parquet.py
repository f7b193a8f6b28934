"""Parquet files and their columns of vectors, read."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

Array = npt.NDArray[Any]

# What Arrow raises over damaged files: its own errors, and Python's while it makes Python's objects of them
ARROW_ERRORS = (pa.ArrowException, OSError, ValueError, TypeError, KeyError, IndexError, OverflowError, MemoryError)


def read_tables(files: Iterable[Path | BinaryIO]) -> Iterator[pa.Table]:
    """The tables of some files, named or open, one at a time."""
    for file in files:
        yield pq.read_table(file, use_threads=False, memory_map=isinstance(file, Path))


def is_vectors(kind: pa.DataType) -> bool:
    """Whether a column's type is one of lists."""
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def values(column: pa.ChunkedArray, size: int | None = None, dtype: npt.DTypeLike = np.float32) -> Array:
    """A column of lists as (n, size) floats; null rows are NaN. Without a `size` that of the lists is taken.

    Raises:
        ValueError: they are not lists of numbers, all of this one size.
    """
    import pyarrow.compute as pc  # not above: writing does without its import

    lengths = pc.list_value_length(column).drop_null().unique().to_pylist()
    size = (lengths[0] if lengths else 0) if size is None else size
    if set(lengths) - {size}:
        raise ValueError(f"its lists are of the sizes {', '.join(map(str, sorted(lengths)))}")
    parts = []
    for chunk in column.chunks:
        rows = np.full((len(chunk), size), np.nan, dtype)
        valid = np.asarray(chunk.is_valid())
        flat = np.asarray(pc.list_flatten(chunk), dtype)  # without the nulls
        rows[valid] = flat.reshape(np.count_nonzero(valid), size)  # of nulls alone: 0, 0
        parts.append(rows)
    return np.concatenate(parts) if parts else np.empty((0, size), dtype)
