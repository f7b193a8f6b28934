"""Files of latent points, as arrays (n, d)."""

import csv
import json
import os
import re
import stat
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
import numpy.typing as npt

from vae_serve.errors import SourceError
from vae_serve.sources import npz
from vae_serve.sources.npy import MAGIC, ArrayFile, open_array
from vae_serve.sources.readable import LocalFile, read_at
from vae_serve.sources.regular import regular_file, status

if TYPE_CHECKING:
    import pyarrow as pa

Array = npt.NDArray[Any]
LatentArray = Array | ArrayFile

_NAMES = ("z_mean", "z")  # in this order
_WITHOUT_NAME = re.compile(r"|index|Unnamed: \d+")  # what pandas makes of a frame's index
_LONGEST_LINE = 1 << 20  # characters


def read_points(path: Path) -> tuple[LatentArray, bool]:
    """A file's points, and whether a row of NaN stands there for one without a vector.

    Raises:
        SourceError: nothing is there, it is of another kind, or damaged.
    """
    about = status(path)
    if about is None:
        raise SourceError(f"{path} is not there")
    if stat.S_ISDIR(about.st_mode):
        return _read_result(path), True
    match path.suffix.lower():
        case ".npy" | ".npz":
            return _read_array(path), False
        case ".csv":
            return _read_csv(path), True
        case ".parquet":
            return _read_parquet([path]), True
    raise SourceError(
        f"{path}: latent points are read from .npy, .npz, .csv, .parquet or the folder of an embed result"
    )


def _read_result(folder: Path) -> LatentArray:
    """The points of a folder that `embed` has written."""
    _refuse_unfinished(folder)
    try:
        files = sorted(file for file in folder.iterdir() if not file.name.startswith((".", "_")))
    except OSError as error:
        raise SourceError(f"{folder} cannot be read: {error.strerror}") from error
    for name in _NAMES:
        if folder / f"{name}.npy" in files:
            return open_array(folder / f"{name}.npy")[0]
    tables = [file for file in files if file.suffix == ".parquet"]
    if tables:
        return _read_parquet(tables)
    sheets = [file for file in files if file.suffix == ".csv"]
    if len(sheets) == 1:
        return _read_csv(sheets[0])
    raise SourceError(f"{folder} is not an embed result: it has neither Parquet files nor z_mean.npy nor one .csv")


def _refuse_unfinished(folder: Path) -> None:
    """An embed job keeps its state in `.job` until nothing is missing, then in `.job.parquet`; see `jobs.folder`."""
    state = folder / ".job"
    if (state / "plan.json").is_file() and not (state / "stats.json").is_file():
        done = len([file for file in state.glob("part-*.json") if file.is_file()])
        shards = "1 shard is" if done == 1 else f"{done:,} shards are"
        raise SourceError(
            f"{folder} is an embed result that is not finished ({shards}); run the same embed command again"
        )
    missing = [name for name in _finished_shards(folder / ".job.parquet") if not (folder / name).is_file()]
    if missing:
        raise SourceError(
            f"{folder} is an embed result that lacks {', '.join(missing[:5])}; run the same embed command again"
        )


def _finished_shards(sealed: Path) -> list[str]:
    """The files that a finished job has made; none where there is no such state."""
    if not sealed.is_file():
        return []
    import pyarrow.parquet as pq

    from vae_serve.sources import parquet

    try:
        records = json.loads((pq.read_metadata(sealed).metadata or {})[b"vae_serve.job"])["records"]
        return [f"part-{int(number):05d}.parquet" for number in records]
    except parquet.ARROW_ERRORS as error:
        raise SourceError(f"{sealed} is damaged ({error}); embed again with --overwrite") from error


def _read_array(path: Path) -> LatentArray:
    """Of an .npy or .npz file, which of them its first bytes tell."""
    with regular_file(path) as file:
        start = read_at(LocalFile(file), len(MAGIC), 0)
    if start == MAGIC:
        return open_array(path)[0]
    if not start.startswith(b"PK"):
        raise SourceError(f"{path} cannot be read: it is neither a .npy nor a .npz file")
    with npz.NpzFile(path) as archive:
        name = next((name for name in _NAMES if name in archive.names), None)
        if name is None:
            raise SourceError(f"{path} holds no array z_mean or z, but {', '.join(archive.names) or 'none at all'}")
        return archive.load(name)


def _read_csv(path: Path) -> Array:
    with regular_file(path) as file:
        encoding = "utf-16" if os.pread(file, 2, 0) in {b"\xff\xfe", b"\xfe\xff"} else "utf-8-sig"
        with open(os.dup(file), newline="", encoding=encoding) as opened:  # noqa: PTH123  of a descriptor
            lines = csv.reader(_lines(opened))
            try:
                return _rows(lines)
            except (ValueError, csv.Error) as error:
                raise SourceError(f"{path}, line {lines.line_num}: {error}") from error


def _lines(opened: TextIO) -> Iterator[str]:
    while line := opened.readline(_LONGEST_LINE):
        if len(line) == _LONGEST_LINE:
            raise ValueError(f"it has more than {_LONGEST_LINE:,} characters")
        yield line


def _rows(lines: Iterator[list[str]]) -> Array:
    """The numbers (n, d) below a header, or of all lines; a row of empty fields is NaN, an empty line is nothing."""
    written = (fields for fields in lines if fields and (len(fields) > 1 or fields[0].strip()))
    first = next(written, None)
    if first is None:
        return np.empty((0, 1))
    columns = _columns(first)
    values = array("d")
    if columns is None:
        columns = list(range(len(first)))
        values.extend(map(_number, first))
    for fields in written:
        if len(fields) != len(first):
            raise ValueError(f"it has {len(fields)} fields, and the first line {len(first)}")
        texts = [fields[column] for column in columns]
        values.extend(map(_number, texts) if any(texts) else [np.nan] * len(texts))
    return np.frombuffer(values, np.float64).reshape(-1, len(columns)) if values else np.empty((0, len(columns)))


def _columns(first: Sequence[str]) -> list[int] | None:
    """The columns to take by a file's first line; None where that is a point.

    Raises:
        ValueError: it is a header, and as `_titled` says.
    """
    titles = [title.strip() for title in first]
    if _are_numbers(titles) and titles != [str(number) for number in range(len(titles))]:
        return None
    return _titled(titles)


def _titled(titles: Sequence[str]) -> list[int]:
    """The columns of points by their titles, in the order of their numbers. 0, 1, 2, ... is what pandas writes above
    columns that have no names.

    Raises:
        ValueError: there are none, or their numbers are not each of 0, 1, ... once.
    """
    for name in _NAMES:
        columns = _numbered(titles, f"{name}_")
        if columns or titles.count(name) == 1:
            return columns or [titles.index(name)]
    columns = _numbered(titles, "")
    if columns and all(title.isdecimal() or _WITHOUT_NAME.fullmatch(title) for title in titles):
        return columns
    raise ValueError(f"a header without columns z_mean_0, z_mean_1, ... or z_0, z_1, ...: {', '.join(titles)[:200]}")


def _numbered(titles: Sequence[str], prefix: str) -> list[int]:
    """Which titles are this prefix and a number, by that number."""
    numbered = [
        (int(match[1]), column)
        for column, title in enumerate(titles)
        if (match := re.fullmatch(rf"{prefix}(\d{{1,9}})", title, re.ASCII))
    ]
    numbered.sort()
    numbers = [number for number, _ in numbered]
    if numbers != list(range(len(numbered))):
        listed = ", ".join(f"{prefix}{number}" for number in numbers[:8])
        raise ValueError(f"the columns {listed} are not each of {prefix}0, {prefix}1, ... once")
    return [column for _, column in numbered]


def _number(text: str) -> float:
    if "_" in text:  # Python's float takes 1_000
        raise ValueError(f"{text!r} is not a number")
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text[:40]!r} is not a number") from None


def _are_numbers(fields: Sequence[str]) -> bool:
    try:
        return [_number(field) for field in fields] != []
    except ValueError:
        return False


def _read_parquet(paths: Sequence[Path]) -> Array:
    from vae_serve.sources import parquet

    arrays = []
    for path in paths:
        with regular_file(path):  # Arrow would wait at a pipe
            pass
        try:
            (table,) = parquet.read_tables([path])
            arrays.append(_vectors(table))
        except parquet.ARROW_ERRORS as error:
            raise SourceError(f"{path} has no column z_mean or z of vectors of one size: {error}") from error
    sizes = {array.shape[1] for array in arrays if not np.isnan(array).all()}  # nothing but nulls has none
    if len(sizes) > 1:
        raise SourceError(f"{path.parent} has vectors of {' and of '.join(map(str, sorted(sizes)))} numbers")
    (size,) = sizes or {1}
    return np.concatenate(
        [array if array.shape[1] == size else np.full((len(array), size), np.nan) for array in arrays]
    )


def _vectors(table: "pa.Table") -> Array:
    """A table's column of vectors, or its columns of numbers, (n, d)."""
    from vae_serve.sources import parquet

    titles = table.column_names
    name = next(
        (name for name in _NAMES if titles.count(name) == 1 and parquet.is_vectors(table.field(name).type)), None
    )
    if name is not None:
        return parquet.values(table.column(name), dtype=np.float64)
    return np.column_stack([np.asarray(table.column(column).to_numpy(), np.float64) for column in _titled(titles)])
