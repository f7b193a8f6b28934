"""ONNX files, tensors and SavedModels."""

import struct
from functools import cache

import numpy as np

from fuzzing.seeds import BUNDLE
from fuzzing.seeds.sources import npy


def onnx_graphs() -> list[bytes]:
    """The packaged graphs with their weights, and the smallest graph that a bundle can hold."""
    return [onnx_small(), (BUNDLE / "encoder.onnx").read_bytes(), (BUNDLE / "decoder.onnx").read_bytes()]


def _varint(number: int) -> bytes:
    data = bytearray()
    while number > 127:
        data.append(number & 127 | 128)
        number >>= 7
    return bytes([*data, number])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value & (1 << 64) - 1)


def _part(field: int, *data: bytes | str) -> bytes:
    whole = b"".join(part.encode() if isinstance(part, str) else part for part in data)
    return _varint(field << 3 | 2) + _varint(len(whole)) + whole


@cache
def onnx_small() -> bytes:
    """z (batch, 2) -> image (batch, 3, 2, 1) by MatMul and Reshape, as onnx.proto encodes it."""

    def value(name: str, *sizes: int) -> bytes:
        dims = _part(1, _part(2, "batch")) + b"".join(_part(1, _number(1, size)) for size in sizes)
        return _part(1, name) + _part(2, _part(1, _number(1, 1), _part(2, dims)))

    def tensor(name: str, kind: int, sizes: tuple[int, ...], raw: bytes) -> bytes:
        return b"".join(_number(1, size) for size in sizes) + _number(2, kind) + _part(8, name) + _part(9, raw)

    graph = (
        _part(1, _part(1, "z"), _part(1, "w"), _part(2, "flat"), _part(4, "MatMul"))
        + _part(1, _part(1, "flat"), _part(1, "to"), _part(2, "image"), _part(4, "Reshape"))
        + _part(2, "small")
        + _part(5, tensor("w", 1, (2, 6), struct.pack("<12f", *range(12))))
        + _part(5, tensor("to", 7, (4,), struct.pack("<4q", -1, 3, 2, 1)))
        + _part(11, value("z", 2))
        + _part(12, value("image", 3, 2, 1))
    )
    return _number(1, 8) + _part(7, graph) + _part(8, _part(1, ""), _number(2, 15))


def tensors() -> list[bytes]:
    """Tensors as ONNX's own test data have them."""
    folder = BUNDLE / "conformance" / "encoder" / "test_data_set_0"
    small = _number(1, 2) + _number(1, 3) + _number(2, 1) + _part(8, "z") + _part(9, b"\0" * 24)
    return [small, (folder / "output_0.pb").read_bytes()]


def vectors() -> list[bytes]:
    """Conformance vectors as .npy."""
    return [(BUNDLE / "conformance" / "encoder" / "z_mean.npy").read_bytes(), npy(np.zeros((2, 3), np.uint8))]


def saved_models() -> list[bytes]:
    """saved_model.pb of the packaged model."""
    return [(BUNDLE / "saved_model" / side / "1" / "saved_model.pb").read_bytes() for side in ("encoder", "decoder")]
