"""A shard of `reconstruct`: its pictures through both networks, to sheets of pairs and a table of errors."""

import math
from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vae_serve.evaluate.metrics import bernoulli_nats
from vae_serve.images import png
from vae_serve.images.pixels import Bytes, PixelRule, tile, to_bytes, to_model
from vae_serve.jobs.decode_lanes import DecodedRows
from vae_serve.jobs.decoding import labels_of
from vae_serve.jobs.folder import Count, Fields
from vae_serve.jobs.plan import STATE, Shard
from vae_serve.jobs.task import ShardResult
from vae_serve.results import tables, writers
from vae_serve.sources.arrays import Arrays
from vae_serve.sources.files import Pictures
from vae_serve.sources.names import shown
from vae_serve.tasks.checks import not_finite
from vae_serve.tasks.picture_work import PictureRows, PictureSpec, PictureWork
from vae_serve.tasks.source_plan import lengths_sha256

Doubles = npt.NDArray[np.float64]

SHEET_SIDE = 720  # pixels, about; a sheet has 12 x 22 pairs of digits
GAP = 2  # white pixels around a pair
NO_PICTURE = 128  # grey level in the place of a picture that cannot be read
SHARD_ROWS = 8192  # about; a shard is some whole sheets
SHARD_BYTES = 64 << 20  # of its sheets, before they are compressed

FOLDER = f"{STATE}/result"  # which gets the result's name


class Worst(TypedDict):
    """The picture with the largest error."""

    path: str
    reconstruction: float
    """Nats."""


RECORD: Fields = {
    "rows": Count,
    "failed": Count,
    "begun_ns": Count,
    "lengths_sha256": str,
    "mse": list[float],
    "reconstruction": list[float],
    "worst": Worst | None,
}


def per_row(rule: PixelRule) -> int:
    """Pairs in a row of a sheet."""
    return max(1, SHEET_SIDE // (2 * rule.width + 2 * GAP))


def per_sheet(rule: PixelRule) -> int:
    """Pairs on a sheet."""
    return per_row(rule) * max(1, SHEET_SIDE // (rule.height + 2 * GAP))


def rows_per_shard(rule: PixelRule) -> int:
    """Some whole sheets."""
    pairs = per_sheet(rule)
    pair_bytes = (rule.height + 2 * GAP) * (2 * rule.width + 2 * GAP) * rule.channels
    return pairs * max(1, min(SHARD_ROWS // pairs, SHARD_BYTES // (pairs * pair_bytes)))


class ReconstructSpec(PictureSpec, frozen=True):
    """What to reconstruct, with what."""

    def start(self, missing: Sequence[Shard], private: tuple[int, ...] = ()) -> "ReconstructWork":
        """Begins to decode; opens the networks meanwhile."""
        return ReconstructWork(self, missing, private)

    def rows_per_batch(self, source: Pictures | Arrays, rows: range) -> int:
        """A sheet's pictures."""
        return per_sheet(self.rule)


class Sheet(PictureRows, frozen=True):
    """The pictures of one sheet. A failure may be of the reading or of the networks."""

    image: bytes
    """A PNG file: pairs, the original left and its reconstruction right."""
    fine: npt.NDArray[np.bool_]
    """(n,) whether it could be read. The errors of the others are of no picture."""
    mse: Doubles
    """(n,) of pixels 0..1."""
    reconstruction: Doubles
    """(n,) nats."""


class ReconstructWork(PictureWork[ReconstructSpec]):
    """The missing shards of a `reconstruct` job, under way."""

    def prepare(self) -> None:
        """Nothing to import."""

    def process(self, batch: DecodedRows) -> Sheet:
        """One sheet."""
        decoded, pixels = batch
        z_mean, z_log_var = self._model.encode(pixels, check=False)
        failures = dict(decoded.failures)
        failures |= not_finite(decoded.rows, {"z_mean": z_mean, "z_log_var": z_log_var}, "encoder", failures)
        image = self._model.decode(np.nan_to_num(z_mean, posinf=0, neginf=0), check=False)
        failures |= not_finite(decoded.rows, {"image": image}, "decoder", failures)
        original = to_model(pixels) if pixels.dtype == np.uint8 else pixels
        fine = np.ones(len(pixels), bool)
        fine[[row - decoded.rows.start for row in failures]] = False
        image[~fine] = 0
        mse = np.square(original - image, dtype=np.float64).reshape(len(image), -1).mean(axis=1)
        sheet = _sheet(to_bytes(original), to_bytes(image), fine, per_row(self.spec.rule))
        return Sheet(decoded, failures, png.encode(sheet), fine, mse, bernoulli_nats(original, image))

    def assemble(self, shard: Shard, pieces: list[Sheet]) -> ShardResult:
        """A shard's sheets, and its rows as a Parquet file with a row group for each sheet."""
        rows = [_table(self.source, sheet) for sheet in pieces]
        first = shard.start // per_sheet(self.spec.rule)
        files = {
            f"{FOLDER}/sheet-{number:05}.png": lambda file, image=sheet.image: file.write(image)
            for number, sheet in enumerate(pieces, first)
        }
        record = {
            "rows": len(shard),
            "failed": sum(sheet.failed for sheet in pieces),
            "begun_ns": self.begun_ns,
            "lengths_sha256": lengths_sha256(np.concatenate([sheet.decoded.lengths for sheet in pieces])),
            "mse": [float(sheet.mse[sheet.fine].sum()) for sheet in pieces],
            "reconstruction": [float(sheet.reconstruction[sheet.fine].sum()) for sheet in pieces],
            "worst": _worst(self.source, pieces),
        }
        return ShardResult({**files, self.spec.plan.part(shard): lambda file: writers.write_tables(file, rows)}, record)


def _table(source: Pictures | Arrays, sheet: Sheet) -> pa.Table:
    decoded = sheet.decoded
    columns = tables.columns(
        tables.ShardRows(
            names=source.names.text(decoded.rows),
            labels=labels_of(source, [decoded], decoded.rows),
            sizes=decoded.sizes,
            errors={row - decoded.rows.start: f"{why.kind}: {why.message}" for row, why in sheet.failures.items()},
            vectors={},
            pixels=None,
        )
    )
    columns["mse"] = pa.array(sheet.mse, pa.float64(), mask=~sheet.fine)
    columns["reconstruction"] = pa.array(sheet.reconstruction, pa.float64(), mask=~sheet.fine)
    return pa.Table.from_arrays(list(columns.values()), names=list(columns))


def _worst(source: Pictures | Arrays, sheets: list[Sheet]) -> Worst | None:
    """The picture with the largest error, the first of several; None where no picture could be read."""
    worst: tuple[float, int] | None = None
    for sheet in sheets:
        if sheet.fine.any():
            place = int(np.argmax(np.where(sheet.fine, sheet.reconstruction, -np.inf)))
            nats = float(sheet.reconstruction[place])
            if worst is None or nats > worst[0]:
                worst = nats, sheet.rows[place]
    if worst is None:
        return None
    nats, row = worst
    return {"path": shown(source.names[range(row, row + 1)][0]), "reconstruction": nats}


def _sheet(originals: Bytes, images: Bytes, fine: npt.NDArray[np.bool_], columns: int) -> Bytes:
    """Pairs (n, H, W, C) on white, `columns` in a row."""
    pairs = np.concatenate([originals, images], axis=2)
    pairs[~fine] = NO_PICTURE
    framed = np.pad(pairs, ((0, 0), (GAP, GAP), (GAP, GAP), (0, 0)), constant_values=255)
    gaps = math.ceil(len(framed) / columns) * columns - len(framed)
    return tile(np.pad(framed, ((0, gaps), (0, 0), (0, 0), (0, 0)), constant_values=255), columns)
