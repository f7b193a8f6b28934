"""Bytes to the model's floats and back, and pictures side by side. Pure."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

SCALE = np.float32(1 / 255)


def to_model(pixels: Bytes) -> Floats:
    """Bytes 0..255 to floats 0..1, any shape: one float32 multiplication by float32(1/255).

    A multiplication, not a division: every runtime rounds it the same way, so the raw-pixel graphs can repeat it.
    """
    return np.multiply(pixels, SCALE, dtype=np.float32)


def to_bytes(image: Floats) -> Bytes:
    """Floats 0..1 to bytes 0..255, any shape, rounded (half to even), not truncated."""
    rounded: Floats = np.rint(np.clip(image, 0, 1) * np.float32(255))
    return rounded.astype(np.uint8)


def tile(images: npt.NDArray[np.uint8], columns: int) -> Bytes:
    """Pictures (n, H, W, C) side by side, row by row: (ceil(n / columns) * H, columns * W, C). Gaps stay 0."""
    count, height, width, channels = images.shape
    rows = -(-count // columns)
    sheet = np.zeros((rows * columns, height, width, channels), np.uint8)
    sheet[:count] = images
    grid = sheet.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    return grid.reshape(rows * height, columns * width, channels)
