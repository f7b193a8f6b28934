"""Where latent points come from: drawn by seed, given as an array, read from a file."""

import csv
import hashlib
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vae_serve.errors import SourceError
from vae_serve.model import samplers
from vae_serve.model.samplers import Floats

_BLOCK = 1 << 16  # rows looked at in one go


@dataclass(frozen=True)
class Points:
    """`count` points of a latent space, any range of them at any time."""

    count: int
    rows: Callable[[int, int], Floats]  # (start, stop) -> (stop - start, d)
    about: dict[str, Any]  # what they are, so that a job is continued with the same ones; JSON values
    missing: tuple[int, ...] = ()  # rows of a file that have no vector, and are NaN


def part(points: Points, start: int, stop: int) -> Points:
    """The points `start` to `stop` of some."""
    return Points(
        stop - start,
        lambda first, last: points.rows(start + first, start + last),
        {**points.about, "part": [start, stop]},
        tuple(row - start for row in points.missing if start <= row < stop),
    )


def drawn(seed: int, count: int, latent_dim: int) -> Points:
    """The first `count` samples of a seed."""
    return Points(
        count, lambda start, stop: samplers.draws(seed, start, stop, latent_dim), {"seed": seed, "count": count}
    )


def given(array: npt.NDArray[Any], missing: tuple[int, ...] = ()) -> Points:
    """The rows of an array (n, d) of any real type, in memory or mapped."""
    digest = hashlib.sha256()
    for start in range(0, len(array), _BLOCK):
        digest.update(np.asarray(array[start : start + _BLOCK], np.float32).tobytes())
    about = {"sha256": digest.hexdigest(), "count": len(array)}
    return Points(len(array), lambda start, stop: np.asarray(array[start:stop], np.float32), about, missing)


def read(path: Path, latent_dim: int) -> Points:
    """The latent points of a file: .npy (n, d), .csv with a column for each dimension, .parquet, or an `embed` result.

    Of a table with named columns z_mean is taken, else z. Rows of an `embed` result that failed are `missing`.

    Raises:
        SourceError: no such file, another kind of file, another latent size, or a number that is not finite.
    """
    if not path.exists():
        raise SourceError(f"{path} is not there")
    try:
        array, missing = _read(path)
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}") from error
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise SourceError(f"{path} holds {array.dtype} of shape {array.shape}; latent points are numbers, (n, d)")
    if array.shape[1] != latent_dim:
        raise SourceError(f"{path} has points of {array.shape[1]} dimensions; this model's have {latent_dim}")
    if not len(array):
        raise SourceError(f"{path} holds no points")
    _check_finite(path, array, missing)
    return given(array, missing)


def _read(path: Path) -> tuple[npt.NDArray[Any], tuple[int, ...]]:
    if path.is_dir():
        return _read_embedded(path)
    match path.suffix.lower():
        case ".npy":
            return _read_npy(path), ()
        case ".csv":
            return _read_csv(path)
        case ".parquet":
            return _read_parquet([path])
    raise SourceError(f"{path}: latent points are read from .npy, .csv, .parquet or the folder of an embed result")


def _read_embedded(folder: Path) -> tuple[npt.NDArray[Any], tuple[int, ...]]:
    if (folder / "z_mean.npy").exists():
        array = _read_npy(folder / "z_mean.npy")
        return array, _nan_rows(array)
    tables = sorted(folder.glob("*.parquet"))
    if tables:
        return _read_parquet(tables)
    sheets = sorted(folder.glob("*.csv"))
    if len(sheets) == 1:
        return _read_csv(sheets[0])
    raise SourceError(f"{folder} is no embed result: it has neither Parquet files nor z_mean.npy nor one .csv")


def _read_npy(path: Path) -> npt.NDArray[Any]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:  # object arrays too, which would have to be unpickled
        raise SourceError(f"{path} is no .npy file of numbers: {error}") from error
    if not isinstance(array, np.ndarray):
        raise SourceError(f"{path} is an .npz archive under another name; give one array")
    return array


def _read_csv(path: Path) -> tuple[npt.NDArray[Any], tuple[int, ...]]:
    rows: list[list[float]] = []
    with path.open(newline="", encoding="utf-8-sig") as opened:
        try:
            lines = csv.reader(opened)
            first = next(lines, [])
            columns = _columns(first)
            for fields in itertools.chain([first] if _are_numbers(first) else [], lines):
                values = [fields[column] for column in columns]
                rows.append([float(value) for value in values] if any(values) else [np.nan] * len(columns))
        except (ValueError, IndexError, csv.Error) as error:
            raise SourceError(f"{path}, line {lines.line_num}: {error}") from error
    array = np.array(rows, np.float32).reshape(len(rows), len(columns))
    return array, _nan_rows(array)


def _columns(header: list[str]) -> list[int]:
    """The columns named z_mean..., else those named z..., else, where the names are numbers, all."""
    if _are_numbers(header):
        return list(range(len(header)))
    for name in ("z_mean", "z"):
        found = [at for at, title in enumerate(header) if title == name or title.removeprefix(f"{name}_").isdigit()]
        if found:
            return found
    raise ValueError("a header without columns z_mean_0, z_mean_1, ... or z_0, z_1, ...")


def _are_numbers(fields: list[str]) -> bool:
    try:
        return [float(field) for field in fields] != []
    except ValueError:
        return False


def _read_parquet(paths: Iterable[Path]) -> tuple[npt.NDArray[Any], tuple[int, ...]]:
    import pyarrow as pa

    from vae_serve.sources import parquet

    arrays = []
    for path in paths:
        try:
            (table,) = parquet.read_tables([path])
            name = "z_mean" if "z_mean" in table.column_names else "z"
            arrays.append(parquet.values(table.column(name)))
        except (pa.ArrowException, KeyError, ValueError) as error:
            raise SourceError(f"{path} has no column z_mean or z of vectors of one size: {error}") from error
    sizes = {array.shape[1] for array in arrays if not np.isnan(array).all()}  # nothing but nulls has none
    if len(sizes) > 1:
        raise SourceError(f"{path.parent} has vectors of {' and of '.join(map(str, sorted(sizes)))} numbers")
    (size,) = sizes or {1}
    array = np.concatenate([one if one.shape[1] == size else np.full((len(one), size), np.nan) for one in arrays])
    return array, _nan_rows(array)


def _nan_rows(array: npt.NDArray[Any]) -> tuple[int, ...]:
    if array.ndim != 2 or array.dtype.kind != "f":
        return ()
    return tuple(int(row) for row in np.flatnonzero(np.isnan(array).all(axis=1)))


def _check_finite(path: Path, array: npt.NDArray[Any], missing: tuple[int, ...]) -> None:
    for start in range(0, len(array), _BLOCK):
        bad = np.flatnonzero(~np.isfinite(array[start : start + _BLOCK]).all(axis=1)) + start
        odd = np.setdiff1d(bad, missing)
        if len(odd):
            raise SourceError(f"{path}: point {odd[0]} is {array[odd[0]].tolist()}; every number must be finite")
