"""Tensors of the Open Inference Protocol to arrays and back: numbers of JSON, and bytes of the binary extension."""

import math
import sys
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from vae_serve.serve.answers import Refusal, brief
from vae_serve.serve.networks import DATATYPES, DTYPES, Network

Array = npt.NDArray[Any]

BIG_ENDIAN = sys.byteorder == "big"
PART = 1 << 17  # bytes of numbers that are parsed at once
_OF_NUMBERS = b"0123456789+-.eE \t\r\n"  # what a list of numbers consists of, apart from brackets and commas
_BETWEEN = b"[] \t\r\n"


def rows_of(network: Network, name: str, datatype: str, shape: list[int], most: int) -> tuple[int, np.dtype[Any]]:
    """How many rows an input has, and their type, where it is one that the network takes.

    Raises:
        Refusal: 400 where name, datatype or shape are others; 413 where there are more than `most` rows.
    """
    spec = network.input
    if name != spec.name:
        raise Refusal(400, f"the input is called {brief(name)}; {network.name} takes one, {spec.name}")
    if datatype not in network.accepted:
        wanted = " or ".join(network.accepted)
        raise Refusal(400, f"{spec.name} has the datatype {brief(datatype)}; give {wanted}")
    wanted_shape = ", ".join(map(str, network.row_shape))
    if len(shape) != len(network.row_shape) + 1 or tuple(shape[1:]) != network.row_shape:
        raise Refusal(400, f"{spec.name} has the shape {brief(shape)}; give [n, {wanted_shape}]")
    rows = shape[0]
    if rows < 1:
        raise Refusal(400, f"{spec.name} has {rows} rows; give 1 or more")
    if rows > most:
        raise Refusal(413, f"{spec.name} has {rows:,} rows; a request may have {most:,} here: send several")
    return rows, DTYPES[datatype]


def from_json(network: Network, text: bytes, rows: int, dtype: np.dtype[Any]) -> Array:
    """The rows of an input's `data` as they stand in the request, which is JSON: as `from_numbers` takes them.

    They are parsed in parts: a number in Python's hands takes up to 16 times its text.

    Raises:
        Refusal: 400 as there.
    """
    shape = (rows, *network.row_shape)
    values = _parsed(text, shape, dtype)
    if values is not None:
        return values
    if len(text) > PART:
        count, datatype = math.prod(shape), DATATYPES["uint8" if dtype == np.uint8 else "float32"]
        sentence = f"the data of {network.input.name} are not {count:,} numbers as {datatype} has them, in one list or"
        raise Refusal(400, f"{sentence} nested as {list(shape)}")
    try:
        data = msgspec.json.decode(text)
    except ValueError:  # a whole number of thousands of digits
        data = None
    return from_numbers(network, data, rows, dtype)


def _parsed(text: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array | None:
    """The numbers of a list, flat or nested as `shape`; None where it is something else, or holds others."""
    import orjson

    size = math.prod(shape)
    brackets = text.translate(None, _OF_NUMBERS)
    if brackets != b"[" + b"," * (size - 1) + b"]" and brackets != _nested(shape):
        return None
    numbers = text.translate(None, _BETWEEN)
    values = np.empty(size, dtype)
    start = done = 0
    while start < len(numbers):
        stop = numbers.find(b",", start + PART)
        stop = stop if stop >= 0 else len(numbers)
        try:
            part = np.array(orjson.loads(b"[%b]" % numbers[start:stop]))
        except ValueError:
            return None
        if dtype == np.uint8 and (part.dtype.kind == "f" or part.min() < 0 or part.max() > 255):
            return None
        with np.errstate(over="ignore"):  # what is beyond float32 becomes infinite, which is refused
            values[done : done + len(part)] = part
        start, done = stop + 1, done + len(part)
    return values.reshape(shape) if done == size else None


def _nested(shape: tuple[int, ...]) -> bytes:
    """The brackets and commas of lists nested as a shape."""
    brackets = b""
    for count in reversed(shape):
        brackets = b"[" + b",".join([brackets] * count) + b"]"
    return brackets


def from_numbers(network: Network, data: Any, rows: int, dtype: np.dtype[Any]) -> Array:
    """The rows of an input's `data`: a flat list in row-major order, or nested as its shape says.

    Raises:
        Refusal: 400 where it is no list of so many numbers, or they are not such as the datatype has.
    """
    name, shape = network.input.name, (rows, *network.row_shape)
    try:
        values = np.array(data)
    except (ValueError, OverflowError, TypeError, RecursionError):
        raise Refusal(400, f"the data of {name} are ragged or no numbers; give {math.prod(shape):,} numbers") from None
    if values.dtype.kind not in "fiu" or values.size != math.prod(shape):
        found = f"{values.size:,} numbers" if values.dtype.kind in "fiu" else "something else than numbers"
        raise Refusal(400, f"the data of {name} are {found}; {list(shape)} takes {math.prod(shape):,} numbers")
    if values.ndim != 1 and values.shape != shape:
        raise Refusal(400, f"the data of {name} are nested as {list(values.shape)}; nest them as {list(shape)}, or not")
    if dtype == np.uint8:
        if values.dtype.kind == "f" or values.min() < 0 or values.max() > 255:
            raise Refusal(400, f"the data of {name} are not all whole numbers of 0..255, as UINT8 has them")
        return values.astype(np.uint8).reshape(shape)
    with np.errstate(over="ignore"):  # what is beyond float32 becomes infinite, which is refused
        return values.astype(np.float32).reshape(shape)


def from_bytes(network: Network, data: memoryview, rows: int, dtype: np.dtype[Any]) -> Array:
    """The rows of an input's bytes, little-endian, in row-major order. They are copied where they lie at an odd place:
    NumPy goes through numbers that are not aligned in a multiple of the time that a copy takes.

    Raises:
        Refusal: 400 where there are not so many bytes.
    """
    shape = (rows, *network.row_shape)
    expected = math.prod(shape) * dtype.itemsize
    if len(data) != expected:
        raise Refusal(400, f"{network.input.name} has {len(data):,} bytes; {list(shape)} takes {expected:,}")
    values = np.frombuffer(data, dtype).reshape(shape)
    if BIG_ENDIAN:
        return values.byteswap()
    return values if values.flags.aligned else values.copy()


def as_bytes(values: Array) -> memoryview:
    """The bytes of an output, as above; not copied where they are so already."""
    return np.ascontiguousarray(values.byteswap() if BIG_ENDIAN else values).data.cast("B")
