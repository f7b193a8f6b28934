"""Pictures to the model's pixels, a run of neighbouring rows at a time: a chunk."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vae_serve.errors import ImageError
from vae_serve.images.decode import Decoder
from vae_serve.images.pixels import Bytes, PixelRule, invert
from vae_serve.sources.arrays import Arrays
from vae_serve.sources.files import GONE, Pictures

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]


class Failure(NamedTuple):
    """Why a row has no vectors."""

    kind: str
    message: str


@dataclass
class Chunk:
    """What became of some neighbouring rows."""

    rows: range
    sizes: npt.NDArray[np.int32]  # (n, 2) width, height of each picture
    lengths: npt.NDArray[np.int64]  # (n,) bytes of each file; -1 where it is gone
    failures: dict[int, Failure] = field(default_factory=dict)  # by row
    notes: Counter[str] = field(default_factory=Counter)
    read_seconds: float = 0.0
    decode_seconds: float = 0.0


def decode_rows(
    source: Pictures,
    decode: Decoder,
    rows: range,
    slot: Bytes,
    at: npt.NDArray[np.int64] | None = None,
    deadly: Mapping[int, Failure] = MappingProxyType({}),
) -> Chunk:
    """Reads and decodes some rows into a slot (n or more, H, W, C). What fails is told; nothing is raised for it.

    `at` (1,) is set to the row at hand, so that a crash of the decoder itself can be laid to a file. What is known to
    be `deadly` is not touched.
    """
    row = np.empty(1, np.int64) if at is None else at
    rule = decode.rule
    chunk = Chunk(rows, np.full((len(rows), 2), (rule.width, rule.height), np.int32), np.empty(len(rows), np.int64))
    plain = slot[..., 0] if rule.channels == 1 else slot
    lengths: list[int] = []
    read_seconds = decode_seconds = 0.0
    as_it_is, clock = decode.as_it_is, time.perf_counter
    begun = clock()
    for place, found in enumerate(source.read(rows)):
        have = clock()
        read_seconds += have - begun
        row[0] = rows.start + place
        if deadly and rows[place] in deadly:
            lengths.append(_length(source, rows[place]))
            chunk.failures[rows[place]] = deadly[rows[place]]
        elif isinstance(found, bytes):
            lengths.append(len(found))
            pixels = as_it_is(found)
            if pixels is not None:
                plain[place] = pixels
            else:
                _decode_any(decode, found, place, slot, chunk)
        else:
            lengths.append(_length(source, rows[place]))
            chunk.failures[rows[place]] = Failure(found.kind, str(found))
        begun = clock()
        decode_seconds += begun - have
    chunk.lengths[:] = lengths
    chunk.read_seconds, chunk.decode_seconds = read_seconds, decode_seconds
    return chunk


def decoded_here(
    source: Pictures, rule: PixelRule, tasks: Iterator[range], capacity: int
) -> Iterator[tuple[Chunk, Bytes]]:
    """For a job so small that other processes would not be worth their start."""
    slot = np.zeros((capacity, *rule.shape), np.uint8)
    decode = Decoder(rule)
    for rows in tasks:
        yield decode_rows(source, decode, rows, slot), slot[: len(rows)]


def sliced(source: Arrays, rule: PixelRule, tasks: Iterator[range], capacity: int) -> Iterator[tuple[Chunk, Array]]:
    """Pictures that are numbers already; they are overwritten after the loop's body."""
    height, width, _ = rule.shape
    room = source.room(capacity)
    for rows in tasks:
        begun = time.perf_counter()
        chunk = Chunk(rows, np.full((len(rows), 2), (width, height), np.int32), np.zeros(len(rows), np.int64))
        pixels = source.take(rows, room)
        if pixels.dtype != np.uint8:
            pixels = _checked(pixels.astype(np.float32), chunk)
        if rule.invert != "no":
            pixels, inverted = invert(pixels, rule.invert)
            chunk.notes["inverted"] += inverted
        chunk.read_seconds = time.perf_counter() - begun
        yield chunk, pixels


def _checked(floats: Floats, chunk: Chunk) -> Floats:
    """Floats that are no picture become a failure and zeros."""
    flat = floats.reshape(len(floats), -1)
    fitting = np.logical_and(flat.min(axis=1) >= 0, flat.max(axis=1) <= 1)  # false for NaN, too
    for at in np.flatnonzero(~fitting):
        if np.isfinite(flat[at]).all():
            why = Failure("range", f"its floats reach from {flat[at].min():g} to {flat[at].max():g}, not from 0 to 1")
        else:
            why = Failure("not_finite", "it holds NaN or infinity")
        chunk.failures[chunk.rows[at]] = why
    flat[~fitting] = 0
    return floats


def _decode_any(decode: Decoder, data: bytes, place: int, slot: Bytes, chunk: Chunk) -> None:
    try:
        picture = decode(data)
    except ImageError as error:
        chunk.failures[chunk.rows[place]] = Failure(error.kind, str(error))
        return
    slot[place] = picture.pixels
    chunk.sizes[place] = picture.size
    chunk.notes.update(picture.notes)


def _length(source: Pictures, row: int) -> int:
    stamps = source.stamps(range(row, row + 1))
    return GONE[0] if stamps is None else next(stamps)[0]
