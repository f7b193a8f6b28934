"""A network as it is deployed: a chain of plain steps with their weights, which folding rewrites and exports convert.

Feature maps are (batch, H, W, C), weights are float64 until they are written, so folded weights are rounded once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

Weights = npt.NDArray[np.float64]
Shape = tuple[int, ...]  # without the batch axis

WHOLE_LIMIT = 4096  # elements
VECTOR = 16  # channels that a runtime computes at once
WIDE = 16  # floats; a copy of fewer costs ONNX Runtime a call of memcpy each


@dataclass(frozen=True)
class Dense:
    """x @ kernel + bias."""

    kernel: Weights  # (in, out)
    bias: Weights  # (out,)


@dataclass(frozen=True)
class Conv:
    """A convolution (cross-correlation) of the zero-padded input."""

    kernel: Weights  # (kh, kw, in, out)
    bias: Weights  # (out,), or a map (H, W, out) where it differs from place to place
    stride: tuple[int, int]
    pads: tuple[tuple[int, int], tuple[int, int]]  # before and after, of rows and of columns


@dataclass(frozen=True)
class ConvTranspose:
    """A transposed convolution: input pixel y adds kernel[k] to output pixel stride * y + k - crop."""

    kernel: Weights  # (kh, kw, out, in), as in Keras
    bias: Weights  # as in `Conv`
    stride: tuple[int, int]
    padding: str  # "same" or "valid", as in Keras

    @property
    def crop(self) -> tuple[int, int]:
        """Rows and columns cut off before the first one."""
        if self.padding == "valid":
            return (0, 0)
        rows, columns = (max(k - s, 0) // 2 for k, s in zip(self.kernel.shape[:2], self.stride, strict=True))
        return rows, columns


@dataclass(frozen=True)
class Scale:
    """x * scale + shift, each broadcast against the last axes: what is left of a BatchNorm."""

    scale: Weights
    shift: Weights


@dataclass(frozen=True)
class Maximum:
    """max(x, least), `least` broadcast against the last axes."""

    least: Weights


@dataclass(frozen=True)
class Activation:
    """An activation function by its Keras name."""

    name: str


@dataclass(frozen=True)
class Reshape:
    """Another shape, same order."""

    shape: Shape


@dataclass(frozen=True)
class Crop:
    """A window of the rows and columns."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class Interleave:
    """Blocks to pixels: (h, w, r * r * C) to (r * h, r * w, C); within a block row by row."""

    r: int


@dataclass(frozen=True)
class Layer:
    """Any other Keras layer or model, as it is."""

    layer: keras.Layer


Linear = Dense | Conv | ConvTranspose
Step = Linear | Scale | Maximum | Activation | Reshape | Crop | Interleave | Layer


@dataclass(frozen=True)
class Network:
    """Steps from an input of `shape`; the last one's output is cut along its last axis into parts of `outputs`."""

    shape: Shape
    steps: tuple[Step, ...]
    outputs: tuple[int, ...]  # sizes; a single one is not cut


def shape_after(step: Step, shape: Shape) -> Shape:  # noqa: PLR0911  (one for each kind of step)
    """The shape that a step makes of `shape`."""
    match step:
        case Dense():
            return (step.kernel.shape[1],)
        case Conv():
            padded = [size + sum(pads) for size, pads in zip(shape, step.pads, strict=False)]
            windows = zip(padded, step.kernel.shape[:2], step.stride, strict=True)
            return (*((size - k) // s + 1 for size, k, s in windows), step.kernel.shape[3])
        case ConvTranspose():
            sizes = zip(shape[:2], step.kernel.shape[:2], step.stride, strict=True)
            valid = step.padding == "valid"
            return (*(size * s + (max(k - s, 0) if valid else 0) for size, k, s in sizes), step.kernel.shape[2])
        case Reshape():
            return step.shape
        case Crop():
            return (step.height, step.width, *shape[2:])
        case Interleave():
            return (shape[0] * step.r, shape[1] * step.r, shape[2] // step.r**2)
        case Layer():
            return tuple(step.layer.compute_output_shape((None, *shape))[1:])
        case Scale() | Maximum() | Activation():
            return shape


def shapes(network: Network) -> list[Shape]:
    """The shapes before each step, and after the last."""
    sizes = [network.shape]
    for step in network.steps:
        sizes.append(shape_after(step, sizes[-1]))
    return sizes


def as_function(network: Network) -> Callable[[tf.Tensor], list[tf.Tensor]]:
    """The network as a function of one float32 tensor, in TensorFlow, its weights constants."""
    before = shapes(network)

    def function(x: tf.Tensor) -> list[tf.Tensor]:
        for step, shape in zip(network.steps, before, strict=False):
            x = _apply(step, x, shape)
        if len(network.outputs) > 1 and not isinstance(x, list):  # a `Layer` that is a whole model gives a list
            return tf.split(x, network.outputs, axis=-1)
        return tf.nest.flatten(x)

    return function


def _constant(values: Weights) -> tf.Tensor:
    return tf.constant(values.astype(np.float32))


def _apply(step: Step, x: tf.Tensor, shape: Shape) -> Any:  # noqa: PLR0911  (one for each kind of step)
    match step:
        case Dense():
            return tf.matmul(x, _constant(step.kernel)) + _constant(step.bias)
        case Conv():
            pads = [[0, 0], *map(list, step.pads), [0, 0]]
            x = tf.nn.conv2d(x, _constant(step.kernel), [1, *step.stride, 1], pads)
            return x + _constant(step.bias)
        case ConvTranspose():
            sizes = [tf.shape(x)[0], *shape_after(step, shape)]
            x = tf.nn.conv2d_transpose(x, _constant(step.kernel), sizes, [1, *step.stride, 1], step.padding.upper())
            return x + _constant(step.bias)
        case Scale():
            x = x * _constant(step.scale) if (step.scale != 1).any() else x
            return x + _constant(step.shift)
        case Maximum():
            return tf.maximum(x, _constant(_whole(step.least, shape)))
        case Activation():
            return keras.activations.get(step.name)(x)
        case Reshape():
            return tf.reshape(x, [-1, *step.shape])  # a constant shape: no subgraph that computes it
        case Crop():
            return x[:, step.top : step.top + step.height, step.left : step.left + step.width, :]
        case Interleave():
            return _interleave(x, step.r, shape)
        case Layer():
            return step.layer(x, training=False)


def _whole(values: Weights, shape: Shape) -> Weights:
    """`values` (C,) as a whole map where that is small: ONNX Runtime broadcasts one long stretch faster than many."""
    return np.broadcast_to(values, shape) if np.prod(shape) <= WHOLE_LIMIT else values


def _interleave(x: tf.Tensor, r: int, shape: Shape) -> tf.Tensor:
    height, width, blocks = shape
    channels = blocks // r**2
    if r * channels >= WIDE:
        x = tf.reshape(x, [-1, height, width, r, r * channels])  # rows within the block, then (columns, channels)
        x = tf.transpose(x, [0, 1, 3, 2, 4])
    else:  # in two turns, each of which moves long stretches: rows of a block together, then its columns between them
        x = tf.reshape(tf.transpose(x, [0, 3, 1, 2]), [-1, r, r * channels, height, width])
        x = tf.reshape(tf.transpose(x, [0, 1, 3, 4, 2]), [-1, r, height, width * r * channels])
        x = tf.transpose(x, [0, 2, 1, 3])
    return tf.reshape(x, [-1, r * height, r * width, channels])
