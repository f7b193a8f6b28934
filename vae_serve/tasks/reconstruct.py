"""Pictures beside what the model makes of them: sheets to look at, and a table of how far off each one is.

OUT/sheet-00000.png      pairs in the source's order, the original left and its reconstruction right
    errors.parquet       one row for each picture: path, label, status, error, width, height, mse, reconstruction
"""

import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vae_serve.errors import OutputError, SourceError
from vae_serve.evaluate.metrics import bernoulli_nats
from vae_serve.images import png
from vae_serve.images.pixels import Bytes, PixelRule, tile, to_bytes, to_model
from vae_serve.jobs.decoding import Chunk, decoded_here, sliced
from vae_serve.model.bundle import Bundle
from vae_serve.model.model import Model
from vae_serve.results import tables, writers
from vae_serve.sources.arrays import Arrays
from vae_serve.sources.files import Pictures
from vae_serve.sources.names import shown
from vae_serve.tasks.assembler import not_finite

Array = npt.NDArray[Any]
Doubles = npt.NDArray[np.float64]
Report = Callable[..., None]  # told (pictures done, pictures in all, errors=so many)

TABLE = "errors.parquet"
SHEET_SIDE = 720  # pixels, about; a sheet has 12 x 22 pairs of digits
GAP = 2  # white pixels around a pair
NO_PICTURE = 128  # grey level in the place of a picture that cannot be read


@dataclass(frozen=True)
class Worst:
    """The picture with the largest error."""

    path: str
    reconstruction: float


@dataclass(frozen=True)
class Summary:
    """What a run came to. Means are over the pictures that could be read; None where there was none."""

    out: Path
    pictures: int
    failed: int
    sheets: int
    mean_mse: float | None  # of pixels 0..1
    mean_reconstruction: float | None  # nats per picture
    worst: Worst | None


@dataclass
class Sums:
    """Sums over the chunks so far."""

    pictures: int = 0
    failed: int = 0
    mse: float = 0.0
    reconstruction: float = 0.0
    worst: Worst | None = None

    def add(self, names: list[bytes], fine: npt.NDArray[np.bool_], mse: Doubles, nats: Doubles) -> None:
        """Another chunk's pictures."""
        self.pictures += len(fine)
        self.failed += int(np.count_nonzero(~fine))
        self.mse += float(mse[fine].sum())
        self.reconstruction += float(nats[fine].sum())
        if fine.any():
            at = int(np.argmax(np.where(fine, nats, -np.inf)))
            if self.worst is None or nats[at] > self.worst.reconstruction:
                self.worst = Worst(shown(names[at]), float(nats[at]))


def reconstruct(
    source: Pictures | Arrays, bundle: Bundle, rule: PixelRule, out: Path, overwrite: bool, report: Report
) -> Summary:
    """Writes the sheets and the table into `out`, which appears when it is whole.

    The error is that of the reconstruction from z_mean: `mse` over pixels 0..1, and `reconstruction`, the negative log
    likelihood of the picture in nats, the training loss' first term (`metrics.bernoulli_nats`).

    Raises:
        SourceError: arrays of another shape than the model's.
        OutputError: `out` exists or cannot be written.
        BundleError: the bundle has no networks that run.
    """
    if isinstance(source, Arrays) and source.shape != rule.shape:
        raise SourceError(f"{source.where} holds pictures of shape {source.shape}; the model takes {rule.shape}")
    aside = out.with_name(f"{out.name}.partial")
    _refuse(out, aside, overwrite)
    sums = Sums()
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        with (aside / TABLE).open("wb") as file:
            writers.write_tables(file, _tables(source, bundle, rule, aside, sums, report))
        if out.exists():
            shutil.rmtree(out)
        aside.rename(out)
    except OSError as error:
        raise OutputError(f"{out} cannot be written: {error.strerror or error}") from error
    fine = sums.pictures - sums.failed
    return Summary(
        out,
        sums.pictures,
        sums.failed,
        -(-sums.pictures // per_sheet(rule)),
        sums.mse / fine if fine else None,
        sums.reconstruction / fine if fine else None,
        sums.worst,
    )


def _refuse(out: Path, aside: Path, overwrite: bool) -> None:
    if out.exists() and not overwrite:
        raise OutputError(f"{out} exists; choose another --out, or replace it with --overwrite")
    for folder in (out, aside):  # both are cleared
        if folder.exists() and not _is_result(folder):
            raise OutputError(f"{folder} is no result of reconstruct and is not overwritten; choose another --out")


def _is_result(folder: Path) -> bool:
    return folder.is_dir() and all(file.name == TABLE or file.match("sheet-*.png") for file in folder.iterdir())


def per_row(rule: PixelRule) -> int:
    """Pairs in a row of a sheet."""
    return max(1, SHEET_SIDE // (2 * rule.width + 2 * GAP))


def per_sheet(rule: PixelRule) -> int:
    """Pairs on a sheet."""
    return per_row(rule) * max(1, SHEET_SIDE // (rule.height + 2 * GAP))


def _tables(
    source: Pictures | Arrays, bundle: Bundle, rule: PixelRule, folder: Path, sums: Sums, report: Report
) -> Iterator[pa.Table]:
    """Makes sheet after sheet, and gives the rows of each."""
    model = Model(bundle, threads=1)
    count = source.names.count
    capacity = per_sheet(rule)
    tasks = iter([range(start, min(start + capacity, count)) for start in range(0, count, capacity)])
    if isinstance(source, Arrays):
        chunks = sliced(source, rule, tasks, capacity)
    else:
        chunks = decoded_here(source, rule, tasks, capacity)
    for number, (chunk, pixels) in enumerate(chunks):
        table, sheet = _one(source, chunk, pixels, model, sums, per_row(rule))
        (folder / f"sheet-{number:05}.png").write_bytes(png.encode(sheet))
        report(chunk.rows.stop, count, errors=sums.failed)
        yield table


def _one(
    source: Pictures | Arrays,
    chunk: Chunk,
    pixels: Array,
    model: Model,
    sums: Sums,
    columns: int,
) -> tuple[pa.Table, Bytes]:
    """The rows and the sheet of one chunk."""
    z_mean, z_log_var = model.encode(pixels, check=False)
    failures = {**chunk.failures, **not_finite(chunk, {"z_mean": z_mean, "z_log_var": z_log_var}, "encoder")}
    drawn = model.decode(np.nan_to_num(z_mean, posinf=0, neginf=0), check=False)
    failures |= not_finite(chunk, {"image": drawn.reshape(len(drawn), -1)}, "decoder", failures)
    original = to_model(pixels) if pixels.dtype == np.uint8 else pixels
    image = drawn
    fine = np.ones(len(pixels), bool)
    fine[[row - chunk.rows.start for row in failures]] = False
    image[~fine] = 0
    mse = np.square(original - image, dtype=np.float64).reshape(len(image), -1).mean(axis=1)
    nats = bernoulli_nats(original, image)
    sums.add(source.names[chunk.rows], fine, mse, nats)
    found = tables.columns(
        tables.ShardRows(
            names=source.names.text(chunk.rows),
            labels=source.labels(chunk.rows),
            sizes=chunk.sizes,
            errors={row - chunk.rows.start: f"{why.kind}: {why.message}" for row, why in failures.items()},
            vectors={},
            pixels=None,
        )
    )
    found["mse"] = pa.array(mse, pa.float64(), mask=~fine)
    found["reconstruction"] = pa.array(nats, pa.float64(), mask=~fine)
    table = pa.Table.from_arrays(list(found.values()), names=list(found))
    return table, _sheet(to_bytes(original), to_bytes(image), fine, columns)


def _sheet(originals: Bytes, images: Bytes, fine: npt.NDArray[np.bool_], columns: int) -> Bytes:
    """Pairs (n, H, W, C) on white, `columns` in a row."""
    pairs = np.concatenate([originals, images], axis=2)
    pairs[~fine] = NO_PICTURE
    framed = np.pad(pairs, ((0, 0), (GAP, GAP), (GAP, GAP), (0, 0)), constant_values=255)
    gaps = math.ceil(len(framed) / columns) * columns - len(framed)
    return tile(np.pad(framed, ((0, gaps), (0, 0), (0, 0), (0, 0)), constant_values=255), columns)
