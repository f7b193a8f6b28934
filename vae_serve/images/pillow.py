"""Every picture that Pillow reads, by the rule. `decode` is the way in; importing this imports Pillow.

PNG, JPEG and TIFF files are taken apart first: Pillow is given what their pixels need, and what it would read in
another way than the format says is read here. Metadata alone never fail a picture.
"""

import importlib
import io
import re
import sys
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import AvifImagePlugin, Image, ImageFile, ImagePalette, JpegImagePlugin

from vae_serve.errors import ImageError
from vae_serve.images import fast, fitting, framing, jpeg_file, memory, opaque, orientation, png_file, tiff_file
from vae_serve.images.fitting import Decoded
from vae_serve.images.opaque import Flatten
from vae_serve.images.pixels import Bytes, Picture, PixelRule

# Named, so that no picture reaches a reader that starts a program (EPS) or needs the network.
_PLUGINS = {"PNG": "Png", "JPEG": "Jpeg", "GIF": "Gif", "BMP": "Bmp", "PPM": "Ppm", "WEBP": "WebP", "TIFF": "Tiff"}
_PLUGINS["AVIF"] = "Avif"
for _name in _PLUGINS.values():
    importlib.import_module(f"PIL.{_name}ImagePlugin")
FORMATS = [name for name in _PLUGINS if name in Image.OPEN]
AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # every core has a decoding process of its own

# Bytes that a decoder keeps for each pixel besides Pillow's own, measured as peaks of memory.
_WEBP, _AVIF = 17, 20
_EXIF_ITEM = re.compile(rb"(infe\x02\x00\x00.{5})Exif", re.DOTALL)  # an item's entry, ISO/IEC 14496-12, 8.11.6
_COEFFICIENT = 2  # bytes, of a JPEG whose scans each refine all of it
_SCANS = 20  # of as many pixels as a picture may have, all together


def decode(data: bytes, rule: PixelRule) -> Picture:
    """The first frame of an encoded picture, as the model wants it.

    Raises:
        ImageError: as `vae_serve.images.decode` says.
    """
    if not data:
        raise ImageError("empty", "the file is empty")
    with warnings.catch_warnings():  # what Pillow warns of (odd palettes) is either an error below or harmless
        warnings.simplefilter("ignore")
        try:
            return fitting.fit(_decoded(data, rule), rule)
        except ImageError:
            raise
        except MemoryError:
            raise ImageError("too_large", "decoding it takes more memory than a decoding process may have") from None
        except Exception as error:  # a decoder over hostile bytes raises anything: zlib.error, IndexError
            cut = "truncated" in str(error).lower() or isinstance(error, EOFError)
            raise ImageError("truncated" if cut else "damaged", f"it cannot be decoded: {error}") from error


def from_pixels(pixels: Bytes, rule: PixelRule) -> Picture:
    """Decoded grey (h, w) or RGB (h, w, 3), brought to the rule's channels, size and polarity."""
    return fitting.fit(Decoded((Image.fromarray(pixels),), opaque.plain), rule)


def _decoded(data: bytes, rule: PixelRule) -> Decoded:
    background = rule.background
    if data.startswith(png_file.SIGNATURE):
        return _decode_png(png_file.read(data), background)
    if data.startswith(jpeg_file.START):
        return _decode_jpeg(jpeg_file.read(data), rule)
    if data.startswith(tiff_file.STARTS):
        return _decode_tiff(tiff_file.read(data), background)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _decode_webp(data, background)
    for name in ("GIF", "BMP", "PPM", "AVIF"):
        accept = Image.OPEN[name][1]
        if accept is not None and accept(data[:16]) is True:
            return {"PPM": _decode_ppm, "AVIF": _decode_avif}.get(name, _decode_simple)(name, data, background)
    raise _unknown(data)


def _open(name: str, data: bytes) -> ImageFile.ImageFile:
    """A file by the reader of its format alone. Its pixels are not read yet."""
    try:
        return Image.OPEN[name][0](io.BytesIO(data), "")
    except SyntaxError as error:  # what Pillow's readers raise for what they do not know
        if name in ("BMP", "PPM"):  # two letters that many a text begins with
            raise _unknown(data) from error
        if name == "TIFF":
            raise ImageError("unsupported", f"a TIFF of this kind is not read: {error}") from error
        raise


def _unknown(data: bytes) -> ImageError:
    return ImageError("not_an_image", f"no picture of a known format: it begins with {data[:8]!r}")


def _decode_png(png: png_file.PngFile, background: int) -> Decoded:
    passes = 2 if png.depth == 16 and png.colour in (png_file.RGB, png_file.RGBA) else 1
    deep_grey = png.depth == 16 and png.colour == png_file.GREY
    grey = png.colour in (png_file.GREY, png_file.PALETTE)
    size = 2 if deep_grey else 1 if grey else 4
    memory.check(png.width, png.height, size * passes, 2 * len(png.data))
    images = [_open("PNG", png.data)]
    flatten: Flatten
    if passes == 2:
        images.append(_open("PNG", png.data))
        raw = "RGB" if png.colour == png_file.RGB else "RGBA"
        _read_as(images[0], f"{raw};16B")  # the first byte of each sample
        _read_as(images[1], f"{raw};16L")  # the second
        flatten = opaque.deep_colour(png.key, background)
    elif png.depth == 16 and png.colour == png_file.GREY_ALPHA:
        _read_as(images[0], "RGBA")  # the four bytes of a pixel
        flatten = opaque.deep_grey_alpha(background)
    elif deep_grey:
        flatten = opaque.deep_grey(0xFFFF, False, png.key[0] if png.key else None, background)
    elif png.key is not None:
        images[0].info.pop("transparency", None)
        step = 255 // ((1 << png.depth) - 1)
        flatten = opaque.keyed(tuple(level * step for level in png.key), background)
    else:
        flatten = opaque.any_mode(background)
    for image in images:
        image.load()
    last_row = images[0].crop((0, png.height - 1, png.width, png.height))
    if (png.interlaced or not last_row.getbbox(alpha_only=False)) and not png_file.has_all_pixels(png.data):
        raise ImageError("truncated", "its PNG pixels end before its last row")
    return Decoded(tuple(images), flatten, png.orientation, _notes(png.animated))


def _decode_jpeg(jpeg: jpeg_file.JpegFile, rule: PixelRule) -> Decoded:
    work = jpeg.scans * jpeg.width * jpeg.height
    limit = _SCANS * memory.pixel_limit()
    if work > limit:
        raise ImageError(
            "too_large",
            f"its {jpeg.scans:,} scans go over {work:,} pixels; the limit is {limit:,}",
        )
    if jpeg.components not in (1, 3, 4):
        raise ImageError("unsupported", f"it has {jpeg.components} components; JPEG files with 1, 3 or 4 are read")
    size = jpeg.width, jpeg.height
    scale = framing.jpeg_scale(fitting.turned(size, jpeg.orientation), rule)
    pixel = (1 if jpeg.components == 1 else 4) / scale**2 + (_COEFFICIENT * jpeg.components if jpeg.buffered else 0)
    memory.check(*size, pixel, 2 * len(jpeg.data))
    image = _jpeg_image(jpeg.data, scale, "L" if rule.channels == 1 else None)
    if jpeg.plain_scan and _may_end_early(image):
        whole = image if scale == 1 else _jpeg_image(jpeg.data)  # fewer pixels show less of what is missing
        if _may_end_early(whole) and whole.tobytes() != _jpeg_image(jpeg.with_other_end()).tobytes():
            raise ImageError("truncated", "its JPEG data end before its last pixel")
    opaquely = opaque.any_mode(rule.background)
    return Decoded((image,), opaquely, jpeg.orientation, _notes(jpeg.animated), scale, size)


def _jpeg_image(data: bytes, scale: int = 1, mode: str | None = None) -> Image.Image:
    """Decoded. Where it is shrunk by `scale`, one in colour is given its luma alone if the `mode` is L: that is a part
    of the file, and what it costs to convert the rest and weigh it again is saved.
    """
    image = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
    if scale > 1:
        image.draft(mode, (image.width // scale, image.height // scale))
    image.load()
    return image


def _may_end_early(image: Image.Image) -> bool:
    last = image.crop((image.width - 1, image.height - 1, image.width, image.height))
    return fast.may_be_filled_up(np.asarray(last))


def _decode_tiff(tiff: tiff_file.TiffFile, background: int) -> Decoded:
    image = _open("TIFF", tiff.data)
    if image.size != (tiff.width, tiff.height):
        raise ImageError("damaged", "its TIFF directory states two sizes")
    images = [image]
    args = image.tile[0].args if image.tile else None
    raw = str(args[0]) if isinstance(args, tuple) else ""
    passes = 2 if raw.endswith((";16L", ";16B", ";16N")) and image.mode not in ("I;16", "I;16B") else 1
    size = memory.pixel_bytes(image.mode) * passes + 8 * tiff.depth / 8
    memory.check(tiff.width, tiff.height, size, 2 * len(tiff.data))
    flatten: Flatten
    if passes == 2:
        high = raw if raw[-1] != "N" else f"{raw[:-1]}{'L' if sys.byteorder == 'little' else 'B'}"
        images.append(_open("TIFF", tiff.data))
        _read_as(images[1], f"{high[:-1]}{'B' if high[-1] == 'L' else 'L'}")
        flatten = opaque.deep_colour(None, background)
    elif image.mode == "F":
        flatten = opaque.floats(tiff.white_is_zero)
    elif image.mode.startswith("I"):
        flatten = opaque.deep_grey((1 << tiff.depth) - 1, tiff.white_is_zero, None, background)
    else:
        flatten = opaque.any_mode(background)
    if image.mode in ("P", "PA"):
        levels = tiff.colour_map  # 16 bits by the standard, of which writers fill the low 8 differently; some write 8
        low = 8 if max(levels, default=0) > 255 else 0
        image.palette = ImagePalette.raw("RGB;L", bytes(level >> low for level in levels))
    for each in images:
        each.load()
    return Decoded(tuple(images), flatten, tiff.orientation, _notes(tiff.animated))


def _decode_webp(data: bytes, background: int) -> Decoded:
    width, height = _webp_size(data)
    memory.check(width, height, _WEBP + 4, 3 * len(data))
    return _first_frame(_open("WEBP", data), background)


def _webp_size(data: bytes) -> tuple[int, int]:
    """Width and height of the canvas, before memory is set aside for it (RFC 9649, 2.5 to 2.7)."""
    kind = data[12:16]
    if len(data) < 30:
        raise ImageError("truncated", f"the WebP ends after {len(data):,} bytes, within its header")
    if kind == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF


def _decode_avif(name: str, data: bytes, background: int) -> Decoded:
    try:
        image = _open(name, data)
    except Exception:  # noqa: BLE001  of an EXIF block that libavif or Pillow cannot read, it may be
        image = _open(name, _EXIF_ITEM.sub(rb"\1free", data, 1))
    memory.check(image.width, image.height, _AVIF + 4, 2 * len(data))
    return _first_frame(image, background)


def _decode_ppm(name: str, data: bytes, background: int) -> Decoded:
    image = _open(name, data)
    coder, _, offset, args = image.tile[0]
    many = 8 if coder == "ppm_plain" else 2  # Pillow counts out plain ones one by one
    memory.check(image.width, image.height, memory.pixel_bytes(image.mode) * many, len(data))
    if image.mode not in ("L", "I", "RGB") or coder == "ppm_plain":
        image.load()
        flatten = opaque.floats(False) if image.mode == "F" else opaque.any_mode(background)
        if image.mode == "I":
            flatten = opaque.deep_grey(0xFFFF, False, None, background)
        return Decoded((image,), flatten)
    return Decoded((_ppm_samples(image, data, offset, args),), opaque.any_mode(background))


def _ppm_samples(image: ImageFile.ImageFile, data: bytes, offset: int, args: Any) -> Image.Image:
    """Samples 0 to the stated maximum as 8 bits. Pillow's own way goes byte by byte, and rounds twice."""
    most = args[1] if isinstance(args, tuple) else {"I;16B": 0xFFFF}.get(args, 255)
    kind = np.dtype(">u2" if most > 255 else "u1")
    shape = (image.height, image.width, 3) if image.mode == "RGB" else (image.height, image.width)
    if len(data) - offset < int(np.prod(shape)) * kind.itemsize:
        raise ImageError("truncated", f"the picture ends after {len(data):,} bytes, before its last pixel")
    samples: npt.NDArray[Any] = np.frombuffer(data, kind, int(np.prod(shape)), offset).reshape(shape)
    levels = np.empty(shape, np.uint8)
    for row, line in zip(levels, samples, strict=True):
        row[...] = line if most == 255 else np.rint(np.minimum(line, most) * 255.0 / most)
    return Image.fromarray(levels)


def _decode_simple(name: str, data: bytes, background: int) -> Decoded:
    image = _open(name, data)
    memory.check(image.width, image.height, 2 * memory.pixel_bytes(image.mode) + 1, len(data))
    return _first_frame(image, background)


def _first_frame(image: ImageFile.ImageFile, background: int) -> Decoded:
    animated = bool(getattr(image, "is_animated", False))
    image.seek(0)
    image.load()
    block, packet = image.info.get("exif", b""), image.info.get("xmp", b"")
    stated = isinstance(block, bytes) and orientation.of_exif(block)
    stated = stated or (isinstance(packet, bytes) and orientation.of_xmp(packet)) or orientation.UPRIGHT
    return Decoded((image,), opaque.any_mode(background), stated, _notes(animated))


def _read_as(image: ImageFile.ImageFile, raw: str) -> None:
    """Has the decoder take the samples of a picture another way."""
    args = image.tile[0].args
    image.tile = [tile._replace(args=(raw, *args[1:]) if isinstance(args, tuple) else raw) for tile in image.tile]
    image._mode = "RGBA" if raw == "RGBA" else image.mode


def _notes(animated: bool) -> tuple[str, ...]:
    return ("animated",) if animated else ()
