"""The latent coordinates at the edge of a picture of the plane, as a plot has them. Pure."""

import math

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Bytes = npt.NDArray[np.uint8]

FONT_SIZE = 12  # pixels
TICK = 4  # pixels
GAP = 3  # pixels between tick, number and name


def label(plane: Bytes, values: list[float], dimensions: tuple[int, int]) -> Bytes:
    """A plane of n x n pictures (n * H, n * W, C), C = 1 or 3, within a white margin with ticks, numbers and names.

    `values` (n,) are the coordinates of the columns from the left, and of the rows from the bottom.
    """
    height, width, channels = plane.shape
    decimals = 1 if len(values) < 2 or min(np.diff(values)) >= 0.1 else 2
    texts = [f"{round(value, decimals) + 0:.{decimals}f}" for value in values]  # + 0: no "-0.0"
    font = ImageFont.load_default(FONT_SIZE)
    widest = math.ceil(max(font.getlength(text) for text in texts))
    line = FONT_SIZE + GAP  # height of a line of text
    left = line + widest + TICK + 2 * GAP
    sheet = Image.new("RGB", (left + width + widest // 2, line // 2 + height + TICK + 2 * line + GAP), "white")
    top = line // 2
    sheet.paste(Image.fromarray(np.broadcast_to(plane, (height, width, 3))), (left, top))
    pen = ImageDraw.Draw(sheet)
    for at in _shown(len(texts), width // len(texts), widest + GAP):
        x = left + width * (2 * at + 1) // (2 * len(texts))
        pen.line((x, top + height, x, top + height + TICK), "black")
        pen.text((x, top + height + TICK + GAP), texts[at], "black", font, "mt")
    for at in _shown(len(texts), height // len(texts), line):
        y = top + height - height * (2 * at + 1) // (2 * len(texts))
        pen.line((left - TICK, y, left - 1, y), "black")
        pen.text((left - TICK - GAP, y), texts[at], "black", font, "rm")
    pen.text((left + width // 2, sheet.height - GAP), f"z[{dimensions[0]}]", "black", font, "mb")
    _write_upwards(sheet, f"z[{dimensions[1]}]", font, (GAP, top + height // 2))
    labelled = np.asarray(sheet if channels == 3 else sheet.convert("L"))
    return labelled.reshape(*labelled.shape[:2], channels)


def _shown(count: int, cell: int, room: int) -> range:
    """Which numbers are shown, so that each has `room` pixels: all, every second one, ...; the middle one always."""
    step = -(-room // max(cell, 1))
    return range(count // 2 % step, count, step)


def _write_upwards(
    sheet: Image.Image, text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, at: tuple[int, int]
) -> None:
    """Text from bottom to top, its left edge and middle at `at`."""
    left, top, right, bottom = (math.ceil(edge) for edge in font.getbbox(text))
    written = Image.new("RGB", (right + 1, bottom + 1), "white")
    ImageDraw.Draw(written).text((0, 0), text, "black", font)
    turned = written.crop((left, top, right + 1, bottom + 1)).rotate(90, expand=True)
    sheet.paste(turned, (at[0], at[1] - turned.height // 2))
