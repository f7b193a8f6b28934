"""The rule from a picture to the model's input, bytes to the model's floats and back, pictures side by side. Pure."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Self, get_args

import msgspec
import numpy as np
import numpy.typing as npt

from vae_serve.errors import BundleError

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
AnyPixels = npt.NDArray[Any]

SCALE = np.float32(1 / 255)
ONE = 0x3F800000  # the bits of the float32; those of all floats that are not in 0..1 are greater
# Added to a float32 or float64 (by its bytes) of 0..255, it leaves no bits for a fraction: the sum is rounded as
# by rint, half to even, and the lowest byte of its bits is the result: quicker than rint and a conversion.
_WHOLE = {4: 1.5 * 2.0**23, 8: 1.5 * 2.0**52}
PIXEL_LIMIT = 89_478_485  # Pillow's own: what 256 MB hold at three bytes a pixel. A file that declares more is a bomb

Fit = Literal["stretch", "pad", "crop"]
Invert = Literal["no", "yes", "auto"]
Decode = Literal["whole", "scaled"]


class PixelRule(msgspec.Struct, frozen=True):
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
    scale: str = "1/255"  # bytes times float32(1/255) are the model's floats
    decode: Decode = "whole"  # scaled: a JPEG that shrinks by 2 or more is decoded at 1/2, 1/4 or 1/8, see `framing`

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """The rule of a manifest.

        Raises:
            BundleError: a field is missing, unknown, or has a value that this vae-serve does not know.
        """
        try:
            rule = cls(**record)
        except TypeError as error:
            raise BundleError(f"the manifest's pixel rule is not valid: {error}") from None
        known: dict[str, tuple[object, ...]] = {
            "channels": (1, 3),
            "fit": get_args(Fit),
            "filter": ("bilinear",),
            "invert": get_args(Invert),
            "scale": ("1/255",),
            "background": tuple(range(256)),
            "decode": get_args(Decode),
        }
        for name in cls.__struct_fields__:
            value = getattr(rule, name)
            if name in known and value not in known[name]:
                raise BundleError(f"the manifest's pixel rule has {name} {value!r}, which is not known here")
        if not (isinstance(rule.height, int) and isinstance(rule.width, int) and rule.height > 0 < rule.width):
            raise BundleError(f"the manifest's pixel rule has the size {rule.width!r} x {rule.height!r}")
        return rule

    def to_json(self) -> dict[str, Any]:
        """As a manifest holds it: `decode` is left out where it is `whole`, since it came later than the others."""
        fields = msgspec.structs.asdict(self)
        if self.decode == "whole":
            del fields["decode"]
        return fields

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return self.height, self.width, self.channels


class Picture(NamedTuple):
    """A decoded picture."""

    pixels: Bytes  # (H, W, C) as a rule has them
    size: tuple[int, int]  # width and height of the file's picture, after turning
    notes: tuple[str, ...] = ()  # what was done that a reader should know of: `animated`, `turned`, `inverted`


def to_model(pixels: Bytes, out: Floats | None = None) -> Floats:
    """Bytes 0..255 to floats 0..1, any shape: one float32 multiplication by float32(1/255). Into `out` where given.

    A multiplication, not a division: every runtime rounds it the same way, so the raw-pixel graphs can repeat it.
    """
    return np.multiply(pixels, SCALE, out=out, dtype=np.float32)


def are_0_to_1(image: Floats) -> bool:
    """Whether one pass over their bits shows all floats of an array to be in 0..1. It takes no negative zero."""
    return not image.size or bool(image.view(np.uint32).max() <= ONE)


def to_bytes(image: Floats, out: Bytes | None = None, *, in_range: bool = False) -> Bytes:
    """Floats 0..1 to bytes 0..255, any shape, rounded (half to even), not truncated. Into `out` where given.

    Others are taken as 0 or 1, whichever is nearer, unless they are known to be `in_range`.
    """
    levels = image if in_range else np.clip(image, np.float32(0), np.float32(1))  # first: the largest would overflow
    levels = np.multiply(levels, np.float32(255), out=None if in_range else levels)  # new arrays took most of the time
    np.add(levels, _WHOLE[levels.itemsize], out=levels)
    out = np.empty(levels.shape, np.uint8) if out is None else out
    np.copyto(out, levels.view(f"u{levels.itemsize}"), casting="unsafe")  # the lowest byte
    return out


def border(picture: AnyPixels) -> AnyPixels:
    """The outermost pixels of (H, W, C): (n, C). Those of one row or column come twice, which no median minds."""
    return np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])


def invert(images: AnyPixels, how: Invert) -> tuple[AnyPixels, int]:
    """Pictures (n, H, W, C), bytes or floats 0..1, turned dark to light as a rule says; and how many were."""
    top = np.array(255 if images.dtype == np.uint8 else 1, images.dtype)
    light = np.array([how == "yes" or (how == "auto" and np.median(border(image)) * 2 > top) for image in images], bool)
    return np.where(light[:, None, None, None], top - images, images), int(light.sum())


def tile(images: npt.NDArray[np.uint8], columns: int) -> Bytes:
    """Pictures (n, H, W, C) side by side, row by row: (ceil(n / columns) * H, columns * W, C). Gaps stay 0."""
    count, height, width, channels = images.shape
    rows = -(-count // columns)
    sheet = np.zeros((rows * columns, height, width, channels), np.uint8)
    sheet[:count] = images
    grid = sheet.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    return grid.reshape(rows * height, columns * width, channels)
