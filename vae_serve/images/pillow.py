"""Every picture that Pillow reads, by the rule. `decode` is the way in; importing this costs what Pillow costs."""

import importlib
import io
import warnings
import zlib
from contextlib import suppress

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from vae_serve.errors import ImageError
from vae_serve.images.pixels import PIXEL_LIMIT, Bytes, Picture, PixelRule, border, invert

# Named, so that no picture reaches a reader that starts a program (EPS) or needs the network.
_PLUGINS = {"PNG": "Png", "JPEG": "Jpeg", "GIF": "Gif", "BMP": "Bmp", "PPM": "Ppm", "WEBP": "WebP", "TIFF": "Tiff"}
_PLUGINS["AVIF"] = "Avif"  # since Pillow 11.3
for _name in _PLUGINS.values():
    with suppress(ImportError):
        importlib.import_module(f"PIL.{_name}ImagePlugin")
FORMATS = [name for name in _PLUGINS if name in Image.OPEN]

_ORIENTATION = 0x0112  # EXIF; 1 is upright

_PNG = b"\x89PNG\r\n\x1a\n"


def decode(data: bytes, rule: PixelRule) -> Picture:
    """The first frame of an encoded picture, as the model wants it.

    Raises:
        ImageError: as `vae_serve.images.decode` says.
    """
    if not data:
        raise ImageError("empty", "the file is empty")
    if data.startswith(_PNG):
        _check_png(data)
    with warnings.catch_warnings():  # what Pillow warns of (odd EXIF, palettes) is either an error below or harmless
        warnings.simplefilter("ignore")
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        except UnidentifiedImageError:
            raise ImageError("not_an_image", f"no picture of a known format: it begins with {data[:8]!r}") from None
        except Image.DecompressionBombError as error:
            raise ImageError("too_large", f"{error}") from None
        except Exception as error:  # a decoder over hostile bytes raises anything: zlib.error, IndexError
            raise ImageError("damaged", f"it cannot be decoded: {error}") from error
        if image.width * image.height > PIXEL_LIMIT:
            raise ImageError(
                "too_large", f"it declares {image.width:,} x {image.height:,} pixels; the limit is {PIXEL_LIMIT:,}"
            )
        try:
            return _by_rule(image, rule)
        except ImageError:
            raise
        except Exception as error:  # as above
            kind = "truncated" if "truncated" in str(error) or isinstance(error, EOFError) else "damaged"
            raise ImageError(kind, f"it cannot be decoded: {error}") from error


def _by_rule(image: Image.Image, rule: PixelRule) -> Picture:
    notes = ["animated"] if getattr(image, "is_animated", False) else []
    image.seek(0)
    turned_by_pillow = image.format == "TIFF" and _is_lying(image)  # on loading
    image.load()
    if _is_lying(image):
        image = ImageOps.exif_transpose(image)
        notes.append("turned")
    elif turned_by_pillow:
        notes.append("turned")
    opaque = _over(image, rule.background)
    picture = _fit(opaque.convert("L" if rule.channels == 1 else "RGB"), rule)
    return Picture(picture.pixels, picture.size, (*notes, *picture.notes))


def _is_lying(image: Image.Image) -> bool:
    return image.getexif().get(_ORIENTATION, 1) in range(2, 9)


def _over(image: Image.Image, background: int) -> Image.Image:
    """8 bits a channel without transparency: mode L, RGB, or one that Pillow converts to them without loss of range."""
    if image.mode in {"I", "F"} or image.mode.startswith("I;16"):
        return _from_deep(image, background)
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, (background, background, background, 255))
        return Image.alpha_composite(ground, layered).convert("RGB")
    return image.convert("RGB") if image.mode == "P" else image


def _from_deep(image: Image.Image, background: int) -> Image.Image:
    """Grey of 16 bits or floats to 8 bits. Pillow's own conversion clips at 255 in place of scaling."""
    levels = np.asarray(image)
    if image.mode == "F":
        if not np.isfinite(levels).all() or levels.min() < 0 or levels.max() > 1:
            raise ImageError("range", f"its floats reach from {levels.min()} to {levels.max()}; 0 to 1 has a meaning")
        return Image.fromarray(np.rint(levels * np.float32(255)).astype(np.uint8))
    deep = levels.astype(np.int64)
    if deep.min() < 0 or deep.max() > 0xFFFF:
        raise ImageError("range", f"its integers reach from {deep.min()} to {deep.max()}; 16 bits have a meaning")
    grey = ((deep * 255 + 0x7FFF) // 0xFFFF).astype(np.uint8)
    if isinstance(image.info.get("transparency"), int):  # tRNS: one level of grey that stands for nothing
        grey[deep == image.info["transparency"]] = background
    return Image.fromarray(grey)


def from_pixels(pixels: Bytes, rule: PixelRule) -> Picture:
    """Decoded grey (h, w) or RGB (h, w, 3), brought to the rule's channels, size and polarity."""
    return _fit(Image.fromarray(pixels).convert("L" if rule.channels == 1 else "RGB"), rule)


def _fit(image: Image.Image, rule: PixelRule) -> Picture:
    """An opaque picture of mode L or RGB, brought to the rule's size and polarity."""
    size = (rule.width, rule.height)
    if image.size != size:
        if rule.fit == "stretch":
            sized = image.resize(size, Image.Resampling.BILINEAR)
        elif rule.fit == "crop":
            sized = ImageOps.fit(image, size, Image.Resampling.BILINEAR)
        else:
            sized = _pad(image, size)
    else:
        sized = image
    pixels, inverted = invert(np.asarray(sized).reshape(1, *rule.shape), rule.invert)
    return Picture(pixels[0], image.size, ("inverted",) if inverted else ())


def _pad(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    ground = np.median(border(np.atleast_3d(np.asarray(image))), axis=0)
    inner = ImageOps.contain(image, size, Image.Resampling.BILINEAR)
    sheet = Image.new(image.mode, size, tuple(int(level) for level in ground))
    sheet.paste(inner, ((size[0] - inner.width) // 2, (size[1] - inner.height) // 2))
    return sheet


def _check_png(data: bytes) -> None:
    """Every chunk's length and CRC, up to IEND (PNG specification, 5.3). Pillow passes over those of the pixels."""
    at = len(_PNG)
    while at < len(data):
        body = int.from_bytes(data[at : at + 4], "big")
        end = at + 12 + body
        if end > len(data):
            break
        if zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            name = data[at + 4 : at + 8]
            raise ImageError("checksum", f"the checksum of its PNG chunk {name!r} is wrong: the file is damaged")
        if data[at + 4 : at + 8] == b"IEND":
            return
        at = end
    raise ImageError("truncated", f"the PNG ends after {len(data):,} bytes, before its last chunk")
