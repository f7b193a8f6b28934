"""Integers and truth values as pixels, in training and serving alike.

Truth values are 0 and 255; integers 0..255 of any type are what they are. uint16 beyond that is taken for 0..65535 and
scaled by 255/65535, as 16-bit picture files are; the whole array decides, not a picture.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from vae_serve.errors import SourceError

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]

DEEP = (
    1 << 14
)  # levels that uint16 pixels have to reach: below, they are of fewer bits than 16, and nothing says how many
_CHUNK = 4096  # images at a time


def is_deep(dtype: np.dtype[Any], highest: int, what: object) -> bool:
    """Whether an array's pixels are of 16 bits, by its highest value.

    Raises:
        SourceError: they may be of any number of bits from 9 to 14; `what` names the array.
    """
    if dtype.kind != "u" or dtype.itemsize != 2 or highest <= 255:
        return False
    if highest < DEEP:
        raise SourceError(
            f"{what} holds values up to {highest:,} in uint16: too much for 8 bits, and not a quarter of 16; "
            "scale it to 0 to 255, or to 0 to 65,535"
        )
    return True


def integers_to_bytes(array: Array, deep: bool) -> Bytes:
    """Pixels (n, ...) as bytes; what is not in 0..255, or in 0..65535 where they are `deep`, becomes anything."""
    if array.dtype.kind == "b":
        return np.where(array, np.uint8(255), np.uint8(0))
    if not deep:
        return array.astype(np.uint8, copy=False)
    levels = np.empty(array.shape, np.uint8)
    for start in range(0, len(array), _CHUNK):
        wide = array[start : start + _CHUNK].astype(np.uint32)
        levels[start : start + _CHUNK] = (wide * 255 + 0x7FFF) // 0xFFFF
    return levels
