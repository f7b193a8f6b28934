"""Nodes and constants that the tests make graphs of."""

from typing import Any

import numpy as np
from onnx import TensorProto

Node = tuple[str, list[Any], dict[str, Any]]  # operator, what it reads beside the node before, attributes

FLOAT, UINT8, INT32, INT64, STRING = (
    TensorProto.FLOAT,
    TensorProto.UINT8,
    TensorProto.INT32,
    TensorProto.INT64,
    TensorProto.STRING,
)


def floats(*shape: int) -> np.ndarray:
    return np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)
