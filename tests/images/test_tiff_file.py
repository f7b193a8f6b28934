"""TIFF files of all kinds of samples: read as the format says, or refused by name; never something else."""

import itertools
import zlib
from typing import Any, NamedTuple

import files
import numpy as np
import pytest
from PIL import Image

from vae_serve.errors import ImageError
from vae_serve.images.decode import decode
from vae_serve.images.pixels import PixelRule

SIDE = 8
RGB = PixelRule(SIDE, SIDE, 3)
COLOURS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}  # photometric interpretation: samples a pixel


class Kind(NamedTuple):
    """What the tags of a file say."""

    order: str  # < or >
    photometric: int
    form: int  # 1 unsigned, 2 signed, 3 float
    bits: int
    compression: int  # 1 none, 8 deflate
    extra: int  # samples that mean nothing
    planar: int  # 1 pixel by pixel, 2 plane by plane
    predictor: int


def all_kinds() -> list[Kind]:
    ways = ("<>", COLOURS, (1, 2, 3), (1, 2, 4, 8, 10, 12, 14, 16, 32, 64), (1, 8), (0, 1), (1, 2), (1, 2))
    kinds = [Kind(*way) for way in itertools.product(*ways)]
    return [
        kind
        for kind in kinds
        if (kind.form != 3 or kind.bits in (16, 32, 64))
        and (kind.predictor == 1 or (kind.compression == 8 and kind.bits in (8, 16) and kind.form == 1))
    ]


def file_of(kind: Kind) -> tuple[bytes, np.ndarray]:
    """A file, and its samples (h, w, c) from 0 to 1."""
    count = COLOURS[kind.photometric] + kind.extra
    chance = np.random.default_rng(kind.bits)
    if kind.form == 3:
        stored = chance.random((SIDE, SIDE, count)).astype(f"{kind.order}f{kind.bits // 8}")
        shares = stored.astype(float)
    else:
        most = (1 << kind.bits) - 1
        deep = chance.integers(0, most // kind.form, (SIDE, SIDE, count), np.uint64, endpoint=True)
        shares = deep.astype(float) / most
        stored = deep.astype(f"{kind.order}u{kind.bits // 8}") if kind.bits in (8, 16, 32, 64) else deep
    strips = []
    for part in [stored[..., [at]] for at in range(count)] if kind.planar == 2 else [stored]:
        samples = np.diff(part, axis=1, prepend=part[:, :1] * 0).astype(part.dtype) if kind.predictor == 2 else part
        whole_bytes = kind.bits in (8, 16, 32, 64)
        raw = samples.tobytes() if whole_bytes else files.packed(samples.reshape(SIDE, -1), kind.bits)
        strips.append(zlib.compress(raw) if kind.compression == 8 else raw)
    tags = {256: [SIDE], 257: [SIDE], 258: [kind.bits] * count, 259: [kind.compression], 262: [kind.photometric]}
    tags |= {277: [count], 278: [SIDE], 284: [kind.planar], 317: [kind.predictor], 339: [kind.form] * count}
    if kind.extra:
        tags[338] = [0]
    if kind.photometric == 3:
        tags[320] = [level * 257 for level in palette(min(kind.bits, 8)).ravel().tolist()]
    if kind.photometric == 6:
        tags[530] = [1, 1]
    return files.tiff(kind.order, tags, strips), shares


def palette(bits: int) -> np.ndarray:
    """(3, 2^bits)."""
    return np.random.default_rng(5).integers(0, 256, (3, 1 << bits))


def colours(kind: Kind, shares: np.ndarray) -> np.ndarray:
    """What the samples look like: (h, w, 3), 0 to 255."""
    levels = np.rint(shares * 255)
    match kind.photometric:
        case 0:
            return np.rint((1 - shares[..., :1]) * 255) * [1, 1, 1]
        case 1:
            return levels[..., :1] * [1, 1, 1]
        case 2:
            return levels[..., :3]
        case 3:
            at = np.rint(shares[..., 0] * ((1 << kind.bits) - 1)).astype(int)
            return np.moveaxis(palette(kind.bits)[:, at], 0, -1)
        case 5:
            return (255 - levels[..., :3]) * (255 - levels[..., 3:4]) / 255
        case _:
            y, blue, red = levels[..., 0], levels[..., 1] - 128, levels[..., 2] - 128
            return np.clip(np.stack([y + 1.402 * red, y - 0.344 * blue - 0.714 * red, y + 1.772 * blue], -1), 0, 255)


READ = {(0, 1, bits) for bits in (1, 2, 4, 8, 16)} | {(1, 1, bits) for bits in (1, 2, 4, 8, 12, 16)}
READ |= {(2, 1, 8), (2, 1, 16), (3, 1, 1), (3, 1, 2), (3, 1, 4), (3, 1, 8), (5, 1, 8), (5, 1, 16), (6, 1, 8)}
READ |= {(0, 3, 32), (1, 3, 32)}


def test_every_kind_of_samples_is_read_rightly_or_refused_by_name():
    read = set()
    for kind in all_kinds():
        data, shares = file_of(kind)
        try:
            pixels = decode(data, RGB).pixels
        except ImageError as error:
            assert error.kind == "unsupported", (kind, error)
            continue
        tolerance = 2 if kind.photometric in (5, 6) else 0  # Pillow's own arithmetic of ink and of YCbCr
        assert np.abs(pixels - colours(kind, shares)).max() <= tolerance, kind
        read.add((kind.photometric, kind.form, kind.bits))
    assert read == READ


def test_the_plainest_kinds_are_read_in_both_byte_orders():
    for order, photometric, bits in itertools.product("<>", (1, 2), (8, 16)):
        data, _ = file_of(Kind(order, photometric, 1, bits, 1, 0, 1, 1))
        decode(data, RGB)


def test_a_refusal_says_what_kind_it_is():
    data, _ = file_of(Kind("<", 1, 2, 16, 1, 0, 1, 1))
    with pytest.raises(ImageError, match="a TIFF of this kind is not read: grey, 16 bits, signed"):
        decode(data, RGB)


def test_a_palette_of_8_bit_levels_is_taken_as_such():
    samples = np.arange(SIDE * SIDE, dtype=np.uint8).reshape(SIDE, SIDE)
    tags = {256: [SIDE], 257: [SIDE], 258: [8], 259: [1], 262: [3], 277: [1], 278: [SIDE]}
    data = files.tiff("<", {**tags, 320: palette(8).ravel().tolist()}, [samples.tobytes()])
    assert np.array_equal(decode(data, RGB).pixels, np.moveaxis(palette(8)[:, samples], 0, -1))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_it_is_turned_once(orientation, compression):
    image = Image.fromarray(np.arange(SIDE * SIDE, dtype=np.uint8).reshape(SIDE, SIDE))
    picture = decode(files.saved(image, "TIFF", compression=compression, tiffinfo={274: orientation}), RGB)
    turned: dict[int, Any] = {1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: np.transpose}
    turned |= {6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a, 2).T, 8: np.rot90}
    assert np.array_equal(picture.pixels[..., 0], turned[orientation](np.asarray(image)))
    assert picture.notes == (("turned",) if orientation > 1 else ())


@pytest.mark.parametrize("tag", [700, 34665, 34675, 34853, 33723, 270, 282])
def test_no_tag_but_those_of_the_pixels_matters(tag):
    samples = np.arange(SIDE * SIDE, dtype=np.uint8)
    tags = {256: [SIDE], 257: [SIDE], 258: [8], 259: [1], 262: [1], 277: [1], 278: [SIDE]}
    for numbers in ([65535], [65535] * 40, [0]):
        data = files.tiff("<", {**tags, tag: numbers}, [samples.tobytes()])
        assert np.array_equal(decode(data, RGB).pixels[..., 0].ravel(), samples)


@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize("present", [1, 3])
def test_a_tiff_with_fewer_strips_than_its_rows_need_is_truncated(compression, present):
    """Pillow leaves what no strip holds black."""
    rows = np.arange(SIDE * SIDE, dtype=np.uint8).reshape(SIDE, SIDE)
    strips = [rows[at : at + 2].tobytes() for at in range(0, SIDE, 2)]
    strips = [zlib.compress(strip) for strip in strips] if compression == 8 else strips
    tags = {256: [SIDE], 257: [SIDE], 258: [8], 259: [compression], 262: [1], 277: [1], 278: [2]}
    assert np.array_equal(decode(files.tiff("<", tags, strips), RGB).pixels[..., 0], rows)
    with pytest.raises(ImageError, match=f"{present} of the 4 strips") as failure:
        decode(files.tiff("<", tags, strips[:present]), RGB)
    assert failure.value.kind == "truncated"


def test_a_big_endian_bigtiff_is_refused_by_name():
    with pytest.raises(ImageError, match="BigTIFF in big-endian order") as failure:
        decode(b"MM\0+\0\x08\0\0" + bytes(64), RGB)
    assert failure.value.kind == "unsupported"
