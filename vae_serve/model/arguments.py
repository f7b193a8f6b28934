"""What `Model` takes, checked: anything else is an InputError that says what to give."""

import math
import os
import sys
from typing import Any

import numpy as np
import numpy.typing as npt

from vae_serve.errors import InputError
from vae_serve.images.pixels import are_0_to_1
from vae_serve.model.manifest import PixelType
from vae_serve.model.whole_numbers import give_whole, whole_or_none

ALWAYS_ROOM = 64 << 20  # bytes that are not worth asking the system for

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]


def checked_images(images: npt.ArrayLike, image_shape: tuple[int, int, int]) -> Array:
    """Images as (n, H, W, C), bytes or floats of this machine's byte order; their range is not looked at.

    Raises:
        InputError: another shape or type than `Model.encode` takes.
    """
    rows = as_array(images, "images")
    given, wanted = rows.shape, image_shape
    if rows.ndim == 3 and wanted[2] == 1:
        rows = rows[..., np.newaxis]
    if rows.shape[1:] != wanted or rows.ndim != 4:
        plain = f" or (n, {wanted[0]}, {wanted[1]})" if wanted[2] == 1 else ""
        raise InputError(
            f"images are of the shape {given}; give (n, {', '.join(map(str, wanted))}){plain}"
            + (": one image is images[np.newaxis]" if given in (wanted, wanted[:2]) else "")
        )
    if rows.dtype == np.uint8:
        return rows
    if rows.dtype.kind != "f":
        raise InputError(f"images are of the type {rows.dtype}; give uint8 0..255, or float32 0..1")
    return _as_float32(rows, "images")


def checked_points(values: npt.ArrayLike, latent_dim: int, name: str) -> Floats:
    """Points of a latent space, (n, latent_dim), of any type of numbers as float32; `name` stands for them in messages.

    Raises:
        InputError: another shape or type, or one that is not finite in float32.
    """
    points = latent_points(values, latent_dim, name)
    require_finite_points(points, name)
    return points


def latent_points(values: npt.ArrayLike, latent_dim: int, name: str) -> Floats:
    """As `checked_points`, but for their being finite."""
    points = as_array(values, name)
    if points.ndim != 2 or points.shape[1] != latent_dim:
        hint = f": one point is {name}[numpy.newaxis]" if points.shape == (latent_dim,) else ""
        raise InputError(f"{name} is of the shape {points.shape}; give (n, {latent_dim}){hint}")
    if points.dtype.kind not in "fiu":
        raise InputError(f"{name} is of the type {points.dtype}; give float32")
    return _as_float32(points, name)


def require_finite_points(points: Floats, name: str) -> None:
    """Raises InputError where one of the points (n, d) is not finite."""
    if not math.isfinite(points.sum(dtype=np.float64)):  # which no sum of finite float32 is beyond
        at = int(np.argmin(np.isfinite(points).all(axis=1)))
        raise InputError(f"{name}[{at}] is {points[at][:4].tolist()}, which is not finite in float32; leave it out")


def require_range(images: Floats) -> None:
    """Raises InputError where one of the images (n, H, W, C) has floats that are not in 0..1."""
    if are_0_to_1(images):
        return
    if not (images.min() >= 0 and images.max() <= 1):  # false for NaN, too
        flat = images.reshape(len(images), -1)
        at = int(np.argmax(~((flat.min(axis=1) >= 0) & (flat.max(axis=1) <= 1))))
        raise InputError(
            f"images[{at}] has values from {flat[at].min():g} to {flat[at].max():g}; floats are 0..1: "
            "give bytes as uint8, or images / 255"
        )


def as_array(values: Any, name: str) -> Array:
    """What NumPy makes an array of; `name` stands for it in messages.

    Raises:
        InputError: it is none, or values of a masked array are masked.
    """
    # `numpy.ma` is imported by its first use, which takes as long as decoding a plane: who has a masked array has it
    if "numpy.ma" in sys.modules and isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise InputError(f"{name} is a masked array with values that are not there; leave them out, or fill them in")
    try:
        return np.asarray(values)
    except Exception as error:  # `__array__` is somebody else's code: PyTorch alone raises three kinds
        raise InputError(f"{name} cannot be made an array: {error}") from error


def _as_float32(values: Array, name: str) -> Floats:
    """Numbers that are beyond float32 become infinite."""
    if values.dtype == np.float32:  # of this machine's byte order; what follows takes a tenth of a small call
        return values
    try:
        with np.errstate(over="ignore"):
            return values.astype(np.float32, copy=False)
    except MemoryError:
        raise _too_much(values.shape, np.dtype(np.float32), name) from None


def room_for(shape: tuple[int, ...], dtype: npt.DTypeLike, what: str) -> Array:
    """Where the results for an array go."""
    kind = np.dtype(dtype)
    try:
        size = math.prod(shape) * kind.itemsize
        if size > ALWAYS_ROOM and size > _physical_memory():
            raise MemoryError
        return np.empty(shape, kind)
    except (MemoryError, ValueError):  # ValueError: beyond what an address can say
        raise _too_much(shape, kind, what) from None


def _too_much(shape: tuple[int, ...], dtype: np.dtype[Any], what: str) -> InputError:
    return InputError(
        f"{what}: an array {shape} of {dtype} takes {math.prod(shape) * dtype.itemsize:,} bytes, which is more than "
        "memory holds; go through it in parts"
    )


def _physical_memory() -> float:
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, OSError, ValueError):
        return math.inf


def whole(name: str, value: object, least: int, most: int | None = None) -> int:
    """A whole number, NumPy's included."""
    number = whole_or_none(value, least, most)
    if number is None:
        raise InputError(f"{name} is {value!r:.100}; {give_whole(least, most)}")
    return number


def pixel_type(dtype: object) -> PixelType:
    """The type of pixels that is meant: its name, or NumPy's type."""
    name: str | None
    if isinstance(dtype, str) and dtype in ("float32", "uint8"):  # NumPy takes as long for a name as for a row's copy
        name = dtype
    else:
        try:
            name = np.dtype(dtype).name if dtype is not None else None  # type: ignore[call-overload]  # what is none raises
        except (TypeError, ValueError, SyntaxError, RecursionError):
            name = None
    match name:
        case "float32":
            return "float32"
        case "uint8":
            return "uint8"
    raise InputError(f"dtype is {dtype!r:.100}; images are 'float32' 0..1 or 'uint8' 0..255")
