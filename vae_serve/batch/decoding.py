"""Files to the model's pixels, a run of neighbouring rows at a time."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vae_serve.errors import ImageError
from vae_serve.images.decode import Decoder
from vae_serve.images.pixels import Bytes
from vae_serve.images.sources import GONE, Pictures


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
