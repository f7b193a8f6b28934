"""The rule from a picture to the model's input, bytes to the model's floats and back, pictures side by side. Pure."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt

from vae_serve.errors import BundleError

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

SCALE = np.float32(1 / 255)

Fit = Literal["stretch", "pad", "crop"]
Invert = Literal["no", "yes", "auto"]


@dataclass(frozen=True)
class PixelRule:
    """How any picture becomes the model's input; `vae_serve.images.decode` carries it out.

    In this order: turned as its EXIF says, composited over `background` where it is transparent, made grey or RGB,
    fitted to size, inverted, scaled. The same in training and serving: a manifest's `pixels` is this as a dict.
    """

    height: int
    width: int
    channels: int  # 1: grey, ITU-R BT.601 luma; 3: RGB
    fit: Fit = "stretch"  # pad: whole picture, the rest in the median of its border; crop: the largest middle part
    filter: Literal["bilinear"] = "bilinear"  # for another size; its support widens when shrinking, as Pillow has it
    background: int = 255  # grey level 0..255 under transparency
    invert: Invert = "no"  # auto: where the median of the picture's border is 128 or more, so that dark is ground
    scale: float = float(SCALE)  # bytes times this are the model's floats

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """The rule of a manifest.

        Raises:
            BundleError: a field is missing, unknown, or has a value that this vae-serve does not know.
        """
        try:
            rule = cls(**found)
        except TypeError as error:
            raise BundleError(f"the manifest's pixel rule is not valid: {error}") from None
        known: dict[str, tuple[object, ...]] = {
            "channels": (1, 3),
            "fit": get_args(Fit),
            "filter": ("bilinear",),
            "invert": get_args(Invert),
            "scale": (float(SCALE),),
            "background": tuple(range(256)),
        }
        for one in fields(cls):
            value = getattr(rule, one.name)
            if one.name in known and value not in known[one.name]:
                raise BundleError(f"the manifest's pixel rule has {one.name} {value!r}, which is not known here")
        if not (isinstance(rule.height, int) and isinstance(rule.width, int) and rule.height > 0 < rule.width):
            raise BundleError(f"the manifest's pixel rule has the size {rule.width!r} x {rule.height!r}")
        return rule

    def to_json(self) -> dict[str, Any]:
        """As a manifest holds it."""
        return asdict(self)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return self.height, self.width, self.channels


def to_model(pixels: Bytes) -> Floats:
    """Bytes 0..255 to floats 0..1, any shape: one float32 multiplication by float32(1/255).

    A multiplication, not a division: every runtime rounds it the same way, so the raw-pixel graphs can repeat it.
    """
    return np.multiply(pixels, SCALE, dtype=np.float32)


def to_bytes(image: Floats) -> Bytes:
    """Floats 0..1 to bytes 0..255, any shape, rounded (half to even), not truncated."""
    levels = np.multiply(image, np.float32(255))
    np.rint(levels, out=levels)  # in place: temporary arrays took three quarters of the time
    np.clip(levels, 0, 255, out=levels)
    return levels.astype(np.uint8)


def tile(images: npt.NDArray[np.uint8], columns: int) -> Bytes:
    """Pictures (n, H, W, C) side by side, row by row: (ceil(n / columns) * H, columns * W, C). Gaps stay 0."""
    count, height, width, channels = images.shape
    rows = -(-count // columns)
    sheet = np.zeros((rows * columns, height, width, channels), np.uint8)
    sheet[:count] = images
    grid = sheet.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    return grid.reshape(rows * height, columns * width, channels)
