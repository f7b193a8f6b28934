"""Rows of a source to the model's pixels, a run of neighbouring rows at a time: a decoded batch."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from vae_serve.errors import ImageError, SourceLost
from vae_serve.images.array_pixels import integers_to_bytes
from vae_serve.images.decode import Decoder
from vae_serve.images.pixels import Bytes, PixelRule, invert
from vae_serve.sources.arrays import Arrays
from vae_serve.sources.files import GONE, LabelsWithPictures, Pictures
from vae_serve.sources.names import Labels

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]


class Failure(NamedTuple):
    """Why a row has no vectors."""

    kind: str
    message: str


class DecodedBatch(msgspec.Struct):
    """What became of some neighbouring rows."""

    rows: range
    sizes: npt.NDArray[np.int32]  # (n, 2) width, height of each picture
    lengths: npt.NDArray[np.int64]  # (n,) bytes of each file; -1 where it is gone
    failures: dict[int, Failure] = msgspec.field(default_factory=dict)  # by row
    notes: Counter[str] = msgspec.field(default_factory=Counter)
    read_seconds: float = 0.0
    decode_seconds: float = 0.0
    labels: list[bytes | None] | None = None  # of each row, where they come with the pictures


class Progress(Protocol):
    """Two numbers that others see while rows are decoded: which row is at hand, and 1 + the row that may take long."""

    def __setitem__(self, at: int, value: int) -> None: ...


ROW, BUSY = 0, 1  # of `Progress`


def decode_rows(
    source: Pictures,
    decode: Decoder,
    rows: range,
    slot: Bytes,
    progress: Progress,
    known: Mapping[int, Failure] = MappingProxyType({}),
) -> DecodedBatch:
    """Reads and decodes some rows into a slot (n or more, H, W, C). What fails becomes a failure; nothing is raised but
    SourceLost.

    `progress` tells what a crash, or a decoder that does not come to an end, is to be laid to. Rows that are `known`
    to fail are not touched.
    """
    rule = decode.rule
    batch = DecodedBatch(
        rows, np.full((len(rows), 2), (rule.width, rule.height), np.int32), np.empty(len(rows), np.int64)
    )
    plain = slot[..., 0] if rule.channels == 1 else slot
    lengths: list[int] = []
    read_seconds = decode_seconds = 0.0
    as_it_is, clock = decode.as_it_is, time.perf_counter
    begun = clock()
    for place, contents in enumerate(_read(source, rows)):
        have = clock()
        read_seconds += have - begun
        progress[ROW] = rows.start + place
        if known and rows[place] in known:
            lengths.append(_length(source, rows[place]))
            batch.failures[rows[place]] = known[rows[place]]
        elif isinstance(contents, bytes):
            lengths.append(len(contents))
            pixels = as_it_is(contents)
            if pixels is not None:
                plain[place] = pixels
            else:
                decode.prepare()
                progress[BUSY] = rows.start + place + 1
                _decode_any(decode, contents, place, slot, batch)
                progress[BUSY] = 0
        else:
            lengths.append(_length(source, rows[place]))
            batch.failures[rows[place]] = Failure(contents.kind, str(contents))
        begun = clock()
        decode_seconds += begun - have
    batch.lengths[:] = lengths
    batch.labels = source.labels_read(rows) if isinstance(source, LabelsWithPictures) else None
    batch.read_seconds, batch.decode_seconds = read_seconds, decode_seconds
    return batch


def _read(source: Pictures, rows: range) -> Iterator[bytes | ImageError]:
    """What the source reads, a fault in reading one row included: the rows after it are read all the same."""
    done = 0
    while done < len(rows):
        first = done
        try:
            for contents in source.read(rows[done:]):
                yield contents
                done += 1
            if done == first:
                raise EOFError("the source ends before this row")
        except SourceLost:
            raise
        except MemoryError:
            yield ImageError("too_large", "reading it takes more memory than a decoding process may have")
            done += 1
        except Exception as error:  # noqa: BLE001  libraries over damaged archives raise anything
            yield ImageError("unreadable", f"it cannot be read: {type(error).__name__}: {error}")
            done += 1


def labels_of(source: Pictures | Arrays, batches: Sequence[DecodedBatch], rows: range) -> Labels:
    """The labels of some rows, which these batches are of, in order."""
    texts = [batch.labels for batch in batches]
    if None in texts:
        return source.labels(rows)
    return Labels.of(chain.from_iterable(labels for labels in texts if labels is not None))


def sliced(
    source: Arrays, rule: PixelRule, tasks: Iterator[range], capacity: int
) -> Iterator[tuple[DecodedBatch, Array]]:
    """Pictures that are numbers already; they are overwritten after the loop's body."""
    height, width, _ = rule.shape
    room = source.room(capacity)
    for rows in tasks:
        begun = time.perf_counter()
        batch = DecodedBatch(rows, np.full((len(rows), 2), (width, height), np.int32), np.zeros(len(rows), np.int64))
        pixels = source.take(rows, room)
        if pixels.dtype.kind == "f":
            pixels = _checked(pixels.astype(np.float32), batch)
        elif pixels.dtype != np.uint8:
            pixels = _checked_integers(pixels, source.deep, batch)
        if rule.invert != "no":
            pixels, inverted = invert(pixels, rule.invert)
            batch.notes["inverted"] += inverted
        batch.read_seconds = time.perf_counter() - begun
        yield batch, pixels


def _checked(floats: Floats, batch: DecodedBatch) -> Floats:
    """Floats that are no picture become a failure and zeros."""
    flat = floats.reshape(len(floats), -1)
    fitting = np.logical_and(flat.min(axis=1) >= 0, flat.max(axis=1) <= 1)  # false for NaN, too
    for at in np.flatnonzero(~fitting):
        if np.isfinite(flat[at]).all():
            why = Failure("range", f"its floats reach from {flat[at].min():g} to {flat[at].max():g}, not from 0 to 1")
        else:
            why = Failure("not_finite", "it holds NaN or infinity")
        batch.failures[batch.rows[at]] = why
    flat[~fitting] = 0
    return floats


def _checked_integers(integers: Array, deep: bool, batch: DecodedBatch) -> Bytes:
    """The bytes that other integers and truth values are; those that are no picture become a failure and zeros."""
    levels = integers_to_bytes(integers, deep)
    if deep or integers.dtype.kind == "b":
        return levels
    flat = integers.reshape(len(integers), -1)
    low, high = flat.min(axis=1), flat.max(axis=1)
    for at in np.flatnonzero((low < 0) | (high > 255)):
        why = f"its integers reach from {low[at]} to {high[at]}, not from 0 to 255"
        batch.failures[batch.rows[at]] = Failure("range", why)
        levels[at] = 0
    return levels


def _decode_any(decode: Decoder, data: bytes, place: int, slot: Bytes, batch: DecodedBatch) -> None:
    try:
        picture = decode(data)
    except ImageError as error:
        batch.failures[batch.rows[place]] = Failure(error.kind, str(error))
        return
    except MemoryError:
        why = "decoding it takes more memory than a decoding process may have"
        batch.failures[batch.rows[place]] = Failure("too_large", why)
        return
    except Exception as error:  # noqa: BLE001  one picture must not end the job
        why = f"it cannot be decoded: {type(error).__name__}: {error}"
        batch.failures[batch.rows[place]] = Failure("damaged", why)
        return
    slot[place] = picture.pixels
    batch.sizes[place] = picture.size
    batch.notes.update(picture.notes)


def _length(source: Pictures, row: int) -> int:
    stamps = source.stamps(range(row, row + 1))
    return GONE[0] if stamps is None else next(stamps)[0]
