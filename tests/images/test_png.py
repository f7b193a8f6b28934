import io
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from vae_serve.images import png, png_bulk

# Prints the SHA-256 of the files of digits, of noise and of one colour, which take a compressor's different ways.
FILES = """
import hashlib, sys
sys.path[:0] = sys.argv[1].split(":")
import numpy as np
from vae_serve.images import mnist, png_bulk
noise = np.random.default_rng(0).integers(0, 256, (32, 28, 28, 1), np.uint8)
pictures = np.concatenate([mnist.load("test")[0][:256].reshape(-1, 28, 28, 1), noise, noise // 32, noise * 0 + 7])
print(hashlib.sha256(b"".join(png_bulk.encode(pictures))).hexdigest(), png_bulk.COMPRESSOR)
"""
PROCESSORS = {"Nehalem": "SSE 4.2", "Haswell": "AVX2"}  # the least that NumPy runs on, and what most have


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "LA"), (3, "RGB"), (4, "RGBA")])
def test_pillow_reads_back_every_pixel(channels, mode):
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, channels), np.uint8)
    with Image.open(io.BytesIO(png.encode(picture))) as read:
        assert (read.size, read.mode) == ((7, 5), mode)
        assert np.array_equal(np.asarray(read).reshape(picture.shape), picture)


@pytest.mark.parametrize("channels", [1, 3])
def test_pillow_reads_back_every_pixel_of_many(channels):
    pictures = np.random.default_rng(0).integers(0, 256, (9, 5, 7, channels), np.uint8)
    for picture, file in zip(pictures, png_bulk.encode(pictures), strict=True):
        with Image.open(io.BytesIO(file)) as read:
            assert np.array_equal(np.asarray(read).reshape(picture.shape), picture)


@pytest.mark.parametrize("processor", PROCESSORS)
def test_the_files_of_many_are_the_same_on_another_processor(processor):
    emulator = shutil.which("qemu-x86_64")
    if emulator is None:
        pytest.skip("there is no qemu-x86_64 here (scripts/test installs it, where it may)")
    command = [os.path.realpath(sys.executable), "-c", FILES, ":".join(sys.path)]
    here = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    there = subprocess.run([emulator, "-cpu", processor, *command], check=True, capture_output=True, text=True).stdout
    assert there == here
