"""What a picture may take: judged by what it declares, before anything is decoded."""

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import files
import numpy as np
import pytest
from PIL import Image

from vae_serve.errors import ImageError
from vae_serve.images import memory
from vae_serve.images.decode import decode
from vae_serve.images.pixels import PixelRule

RULE = PixelRule(28, 28, 1)


def declared(width: int, height: int, bits: int, colour: int) -> bytes:
    """A PNG that declares a size."""
    header = files.chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + files.chunk(b"IDAT", zlib.compress(b"")) + files.chunk(b"IEND", b"")


def kind_of(data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        decode(data, RULE)
    return caught.value.kind


def test_the_limit_counts_what_a_pixel_takes():
    assert kind_of(declared(9_000, 9_900, 8, 2)) == "truncated"  # it would fit: what is missing are its pixels
    assert kind_of(declared(9_000, 9_900, 16, 0)) == "truncated"
    assert kind_of(declared(9_000, 9_900, 16, 2)) == "too_large"
    assert kind_of(declared(9_500, 9_900, 8, 0)) == "too_large"


def test_a_webp_is_refused_before_memory_is_set_aside_for_it():
    body = b"\x2f" + (16_382 | 9_999 << 14).to_bytes(4, "little") + bytes(12)
    chunk = b"VP8L" + len(body).to_bytes(4, "little") + body
    assert kind_of(b"RIFF" + (len(chunk) + 4).to_bytes(4, "little") + b"WEBP" + chunk) == "too_large"


def test_scans_without_end_are_refused_by_the_work_that_they_are():
    data = bytearray(files.saved(Image.new("L", (64, 64)), "JPEG", progressive=True))
    at = data.index(b"\xff\xc2")
    data[at + 5 : at + 9] = struct.pack(">HH", 8_000, 8_000)
    end = data.rindex(b"\xff\xd9")
    scan = data[data.rindex(b"\xff\xda") : end]
    assert kind_of(bytes(data[:end] + scan * 40 + data[end:])) == "too_large"


PEAK = r"""
import re, sys
from vae_serve.images.decode import decode
from vae_serve.images.pixels import PixelRule
pixels = decode(open(sys.argv[1], "rb").read(), PixelRule(28, 28, 3, fit="pad")).pixels
assert (pixels == 255).all()
# not ru_maxrss, which begins with what the process that started this one had
print(int(re.search(r"VmHWM:\s*(\d+) kB", open("/proc/self/status").read())[1]) * 1024)
"""


@pytest.mark.parametrize("shape", ["turned", "thin"])
def test_the_largest_pictures_take_little_more_than_the_limit(tmp_path, shape):
    width, height, exif = (9_000, 9_900, b"\6") if shape == "turned" else (1, 6_000_000, b"\1")
    packing = zlib.compressobj(1)
    line = bytes(1 + 4 * width) * max(1, 1000 // width)
    lines = [packing.compress(line) for _ in range(height // max(1, 1000 // width))]
    header = files.chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0))
    block = files.chunk(b"eXIf", b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0" + exif + bytes(7))
    pixels = files.chunk(b"IDAT", b"".join([*lines, packing.flush()]))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + block + pixels + files.chunk(b"IEND", b""))
    root = Path(__file__).parent.parent.parent
    words = [sys.executable, "-c", PEAK, tmp_path / "a.png"]
    done = subprocess.run(words, cwd=root, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < memory.LIMIT + (150 << 20)


GROWTH = r"""
import re, sys
from vae_serve.images.decode import Decoder
from vae_serve.images.pixels import PixelRule
def peak():
    return int(re.search(r"VmHWM:\s*(\d+) kB", open("/proc/self/status").read())[1]) * 1024
decoder, data = Decoder(PixelRule(28, 28, int(sys.argv[2]))), open(sys.argv[1], "rb").read()
decoder.prepare()
before = peak()
assert (decoder(data).pixels == 255).all()
print(peak() - before)
"""


@pytest.mark.parametrize(
    ("mode", "form", "channels", "most"),
    [
        ("RGB", "PNG", 3, 4.0),
        ("RGB", "PNG", 1, 5.0),  # and the grey that is made of it
        ("RGB", "JPEG", 3, 4.0),
        ("L", "PNG", 3, 1.0),  # grey until it has the model's size
        ("L", "TIFF", 3, 1.0),
    ],
)
def test_a_large_plain_picture_is_held_once(tmp_path, mode, form, channels, most):
    width, height = 6_000, 5_000
    options = {"TIFF": {"compression": "tiff_lzw"}, "PNG": {"compress_level": 1}}.get(form, {})
    Image.new(mode, (width, height), "white").save(tmp_path / "a", form, **options)
    words = [sys.executable, "-c", GROWTH, tmp_path / "a", str(channels)]
    root = Path(__file__).parent.parent.parent
    done = subprocess.run(words, cwd=root, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < most * width * height + (16 << 20)


def test_a_pgm_of_any_maximum_is_scaled_and_rounded_once():
    for most in (1, 100, 255, 256, 1000, 65535):
        kind = ">u2" if most > 255 else "u1"
        samples = np.random.default_rng(most).integers(0, most + 1, (28, 28)).astype(kind)
        colour = np.repeat(samples[..., np.newaxis], 3, axis=2)
        expected = np.rint(samples.astype(float) * 255 / most)
        for magic, stored in ((b"P5", samples), (b"P6", colour)):
            data = magic + b"\n28 28\n%d\n" % most + stored.tobytes()
            assert np.array_equal(decode(data, PixelRule(28, 28, 3)).pixels[..., 0], expected)
            assert kind_of(data[:-1]) == "truncated"
