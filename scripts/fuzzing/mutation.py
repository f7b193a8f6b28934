"""Edits of an input. Each is three numbers, so that Hypothesis can draw and shrink them and a coverage-guided fuzzer
can draw them by chance; what they mean depends on the input alone.

A `Shape` says what an input's format needs so that an edit gets past the first check: which way it is packed, and how
its checksums are put right again.
"""

import bz2
import gzip
import io
import lzma
import random
import re
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fuzzing.seeds import compression

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

Edit = tuple[int, int, int]  # which edit, where (of 2**32), with what (of 2**16)

_WHERE, _WHAT = 1 << 32, 1 << 16
_LIMIT = 1 << 20  # bytes of an edited input
_UNPACKED_LIMIT = 1 << 22


def _nothing(data: bytes) -> bytes:
    return data


@dataclass(frozen=True)
class Shape:
    """What edits have to know of a format."""

    mend: Callable[[bytes], bytes] = _nothing  # puts checksums right
    unpack: Callable[[bytes], bytes] | None = None  # where the whole is compressed; any exception: it is damaged
    pack: Callable[[bytes], bytes] = _nothing


@dataclass(frozen=True)
class Material:
    """What edits take from: other valid inputs, and words that occur in them."""

    seeds: Sequence[bytes]
    words: Sequence[bytes]

    @classmethod
    def of(cls, inputs: Sequence[bytes]) -> "Material":
        """Of a target's seeds."""
        return cls(inputs, [*_WORDS, *_dictionary(inputs)])


_WORDS = [
    b"",
    b"\0",
    b"\n",
    b"/",
    b"../",
    b"-1",
    b"0",
    b"nan",
    b"1e400",
    b"null",
    b"true",
    b"[]",
    b"{}",
    b'"',
    b"\\ud800",
    b"\xff\xfe",
]


def _dictionary(seeds: Iterable[bytes]) -> Iterator[bytes]:
    """Short words that occur in some seeds: what an edit inserts or overwrites with."""
    words: dict[bytes, None] = {}
    for seed in seeds:
        words |= dict.fromkeys(re.findall(rb"[A-Za-z_][\w.-]{1,14}", seed[:20_000])[:200])
    return iter(words)


_NUMBERS = [
    0,
    1,
    2,
    7,
    8,
    127,
    128,
    255,
    256,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    (1 << 63) - 1,
]
_TEXTS = [
    b"-1",
    b"0",
    b"1",
    b"9" * 10,
    b"9" * 22,
    b"1.5",
    b"1e9",
    b"1e400",
    b"-0",
    b"NaN",
    b"0x10",
    b"60000",
    b"null",
    b"true",
    b"[1]",
]


def _flip(data: bytes, at: int, what: int, of: Material) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1 << what % 8
    return bytes(changed)


def _byte(data: bytes, at: int, what: int, of: Material) -> bytes:
    return data[:at] + bytes([what & 255]) + data[at + 1 :]


def _cut(data: bytes, at: int, what: int, of: Material) -> bytes:
    return data[:at]


def _remove(data: bytes, at: int, what: int, of: Material) -> bytes:
    return data[:at] + data[at + 1 + what % 64 :]


def _repeat(data: bytes, at: int, what: int, of: Material) -> bytes:
    piece = data[at : at + 1 + what % 64]
    return data[:at] + piece * (2 + (what >> 6) % 30) + data[at + len(piece) :]


def _insert_word(data: bytes, at: int, what: int, of: Material) -> bytes:
    return data[:at] + of.words[what % len(of.words)] + data[at:]


def _put_word(data: bytes, at: int, what: int, of: Material) -> bytes:
    word = of.words[what % len(of.words)]
    return data[:at] + word + data[at + len(word) :]


def _replace_word(data: bytes, at: int, what: int, of: Material) -> bytes:
    """A word by another one."""
    found = re.compile(rb"[A-Za-z_][\w.-]*").search(data, at)
    return data[: found.start()] + of.words[what % len(of.words)] + data[found.end() :] if found else data


def _splice(data: bytes, at: int, what: int, of: Material) -> bytes:
    other = of.seeds[what % len(of.seeds)]
    return data[:at] + other[len(other) * (what >> 4) // (_WHAT >> 4) :]


def _number(data: bytes, at: int, what: int, of: Material) -> bytes:
    """A field of 1, 2, 4 or 8 bytes, of either order, by a number that lengths and counts trip over."""
    width = 1 << what % 4
    order = "<" if what & 4 else ">"
    number = [*_NUMBERS, len(data), max(len(data) - 1, 0), at][(what >> 3) % (len(_NUMBERS) + 3)]
    number = -number if what & 0x8000 else number
    field = struct.pack(order + "Q", number & (1 << 64) - 1)
    return data[:at] + (field[:width] if order == "<" else field[-width:]) + data[at + width :]


def _digits(data: bytes, at: int, what: int, of: Material) -> bytes:
    """A run of digits by another one, in place where widths are fixed: JSON, TOML, CSV, tar's octal, .npy's header."""
    found = re.compile(rb"-?\d+(\.\d+)?").search(data, at)
    if not found:
        return data
    text = _TEXTS[what % len(_TEXTS)]
    if what & 0x8000:
        text = text[: len(found[0])].rjust(len(found[0]), b"0")
    return data[: found.start()] + text + data[found.end() :]


def _swap(data: bytes, at: int, what: int, of: Material) -> bytes:
    length = 1 + what % 64
    other = (at + length + (what >> 6)) % len(data)
    first, second = sorted((at, other))
    return b"".join((
        data[:first], data[second : second + length], data[first + length : max(second, first + length)],
        data[first : first + length], data[second + length :],
    ))  # fmt: skip


def _nest(data: bytes, at: int, what: int, of: Material) -> bytes:
    """Deep brackets: what recursion trips over."""
    return data[:at] + (b"[", b"{", b'{"a":', b"(")[what % 4] * (1 + (what >> 2) % 2_000) + data[at:]


_EDITS = (
    _flip, _byte, _cut, _remove, _repeat, _insert_word, _put_word, _replace_word, _splice, _number, _number, _digits,
    _digits, _swap, _nest,
)  # fmt: skip
_PACKED = 1 << 15  # of an edit's first number: what is packed is edited, not the packing
_RAW = 1 << 14  # of an edit's first number: checksums stay as they fall


def apply(data: bytes, edits: Sequence[Edit], shape: Shape, material: Material) -> bytes:
    """The input with some edits."""
    if not edits:
        return data
    kind = edits[0][0]
    inner = _unpacked(data, shape) if kind & _PACKED else None
    changed = data if inner is None else inner
    for which, where, what in edits:
        edit = _EDITS[(which & 0xFF) % len(_EDITS)]
        if changed:
            changed = edit(changed, len(changed) * where // _WHERE, what, material)[:_LIMIT]
    if not kind & _RAW:
        changed = shape.mend(changed)
    return changed if inner is None else shape.pack(changed)


def _unpacked(data: bytes, shape: Shape) -> bytes | None:
    if shape.unpack is None:
        return None
    try:
        return shape.unpack(data)
    except Exception:  # the input is damaged, and edited as it is
        return None


def by_chance(data: bytes, chance: random.Random, shape: Shape, material: Material) -> bytes:
    """An input with one to four edits by chance."""
    edits = [
        (chance.randrange(_WHAT), chance.randrange(_WHERE), chance.randrange(_WHAT))
        for _ in range(chance.randint(1, 4))
    ]
    return apply(data, edits, shape, material)


def inputs(shape: Shape, material: Material) -> "SearchStrategy[bytes]":
    """Edited seeds, as Hypothesis draws them; it shrinks towards a seed as it is."""
    from hypothesis import strategies as st

    edit = st.tuples(st.integers(0, _WHAT - 1), st.integers(0, _WHERE - 1), st.integers(0, _WHAT - 1))
    return st.builds(
        lambda seed, edits: apply(seed, edits, shape, material),
        st.sampled_from(material.seeds),
        st.lists(edit, max_size=4),
    )


# Checksums


def png(data: bytes) -> bytes:
    """Every chunk's CRC."""
    changed, at = bytearray(data), 8
    while at + 12 <= len(changed):
        end = at + 12 + int.from_bytes(changed[at : at + 4], "big")
        if end > len(changed):
            break
        changed[end - 4 : end] = zlib.crc32(changed[at + 4 : end - 4]).to_bytes(4, "big")
        at = end
    return bytes(changed)


def tar(data: bytes) -> bytes:
    """The checksum of every block that looks like a header."""
    changed = bytearray(data)
    for at in range(0, len(changed) - 511, 512):
        if changed[at + 257 : at + 262] == b"ustar":
            block = changed[at : at + 148] + b" " * 8 + changed[at + 156 : at + 512]
            changed[at + 148 : at + 156] = b"%06o\0 " % sum(block)
    return bytes(changed)


def zip_(data: bytes) -> bytes:
    """The CRC of stored members, in their own headers and in the directory, where the sizes still agree."""
    changed = bytearray(data)
    at = changed.find(b"PK\1\2")
    while 0 <= at <= len(changed) - 46:
        method, size, start = struct.unpack_from("<10xH8xI", changed, at)[0], 0, 0
        size = struct.unpack_from("<I", changed, at + 20)[0]
        start = struct.unpack_from("<I", changed, at + 42)[0]
        if method == 0 and start + 30 <= len(changed) and changed[start : start + 4] == b"PK\3\4":
            name, extra = struct.unpack_from("<HH", changed, start + 26)
            body = changed[start + 30 + name + extra :][:size]
            crc = struct.pack("<I", zlib.crc32(body))
            changed[at + 16 : at + 20] = changed[start + 14 : start + 18] = crc
        at = changed.find(b"PK\1\2", at + 4)
    return bytes(changed)


def _ungz(data: bytes) -> bytes:
    return zlib.decompressobj(31).decompress(data, _UNPACKED_LIMIT)


def _unxz(data: bytes) -> bytes:
    return lzma.LZMADecompressor().decompress(data, _UNPACKED_LIMIT)


def _unbz2(data: bytes) -> bytes:
    return bz2.BZ2Decompressor().decompress(data, _UNPACKED_LIMIT)


def _unseal(data: bytes) -> bytes:
    """The JSON within a sealed job."""
    import pyarrow.parquet as pq

    return (pq.read_metadata(io.BytesIO(data)).metadata or {})[_SEALED_KEY]


def _seal(state: bytes) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = io.BytesIO()
    pq.write_table(pa.table({"index": pa.array([], pa.int64())}).replace_schema_metadata({_SEALED_KEY: state}), file)
    return file.getvalue()


_SEALED_KEY = b"vae_serve.job"

PLAIN = Shape()
PNG, TAR, ZIP = Shape(png), Shape(tar), Shape(zip_)
TAR_GZ = Shape(tar, _ungz, compression.gz)
TAR_XZ = Shape(tar, _unxz, compression.xz)
TAR_BZ2 = Shape(tar, _unbz2, compression.bz2_)
GZ = Shape(_nothing, _ungz, lambda data: gzip.compress(data, mtime=0))
SEALED = Shape(_nothing, _unseal, _seal)
