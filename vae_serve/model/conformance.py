"""A bundle's conformance vectors, read without NumPy's loader: inputs, and the trained model's outputs."""

import io
import math
import struct
import tokenize
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from vae_serve.errors import BundleError
from vae_serve.model import onnx, plain
from vae_serve.model.bundle import Bundle
from vae_serve.model.manifest import Role, TensorSpec

RULE = "conformance/conformance.json"

Array = npt.NDArray[Any]


class _Tolerance(msgspec.Struct):
    float32: float
    uint8: float


class _Rule(msgspec.Struct):
    """What of conformance.json something here reads."""

    tolerance: _Tolerance


def tolerance(bundle: Bundle) -> dict[str, float]:
    """For each type of tensor, as the bundle's conformance.json states it.

    Raises:
        BundleError: the bundle has none, or it is damaged.
    """
    try:
        rule = msgspec.convert(plain.parse(bundle.read(RULE)), _Rule)
    except (ValueError, msgspec.ValidationError) as error:
        raise BundleError(f"{bundle.path / RULE} is damaged: {error}") from None
    return {"float32": rule.tolerance.float32, "uint8": rule.tolerance.uint8}


def vectors(bundle: Bundle, role: Role, place: str, tensor: TensorSpec) -> Array:
    """One conformance tensor, (n, ...), the same in both of its files; `place` is its name among ONNX's test data.

    Raises:
        BundleError: the bundle has none, or it is damaged.
    """
    path = f"conformance/{role}/{tensor.name}.npy"
    array = read_npy(bundle.read(path), str(bundle.path / path))
    if str(array.dtype) != tensor.dtype or array.shape[1:] != tensor.shape[1:] or not array.size:
        raise BundleError(f"{bundle.path / path} is {array.dtype} {array.shape}, not {tensor.dtype} {tensor.shape}")
    twin = f"conformance/{role}/test_data_set_0/{place}.pb"
    name, shape, data = onnx.read_tensor(bundle.read(twin), str(bundle.path / twin))
    if (name, shape, data) != (tensor.name, array.shape, array.tobytes()):
        raise BundleError(f"{bundle.path / twin} is not the same tensor as {path}")
    return array


def read_npy(contents: bytes, name: str) -> Array:
    """A plain .npy file: numbers, C order, as many as it declares. Never a pickle, nothing allocated by its word.

    Raises:
        BundleError: it is none.
    """
    file = io.BytesIO(contents)
    try:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"format {version}")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        if dtype.hasobject:
            raise BundleError(f"{name} holds Python objects (a pickle), which are never loaded")
        stored = len(contents) - file.tell()
        if (
            fortran
            or dtype.kind not in "fu"
            or min(shape, default=0) < 0
            or math.prod(shape) * dtype.itemsize != stored
        ):
            raise BundleError(f"{name} declares {dtype} {shape} and stores {stored:,} bytes")
        return np.frombuffer(contents, dtype, offset=file.tell()).reshape(shape)
    except (ValueError, TypeError, SyntaxError, OverflowError, MemoryError, RecursionError, *_HEADER) as error:
        raise BundleError(f"{name} is not an .npy file that vae-serve reads: {error!s:.200}") from error


_HEADER = (tokenize.TokenError, struct.error, UnicodeError)  # what NumPy's reader of the header raises besides
