# What this project uses of Keras, which ships no types of its own. See docs/design/rooms.md.
# Tensors are those of TensorFlow, the backend that trains here. `Any` stands where Keras takes or gives structures of
# any kind, and beside what a free axis or a layer of several inputs gives.

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt
import tensorflow as tf
from keras import activations as activations
from keras import backend as backend
from keras import config as config
from keras import datasets as datasets
from keras import layers as layers
from keras import metrics as metrics
from keras import models as models
from keras import ops as ops
from keras import optimizers as optimizers
from keras import random as random
from keras import saving as saving
from keras import tree as tree
from keras import utils as utils
from keras.layers import Layer as Layer
from keras.optimizers import Optimizer

_Size = int | Any  # None of an axis that is free, as the batch's
_Array = tf.Tensor | npt.NDArray[Any]

class DTypePolicy:
    @property
    def name(self) -> str: ...

class KerasTensor:
    _keras_history: tuple[Layer, int, int]
    name: str
    @property
    def dtype(self) -> str: ...
    @property
    def shape(self) -> tuple[_Size, ...]: ...

class Variable:
    @property
    def dtype(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def value(self) -> tf.Variable: ...
    def __add__(self, other: tf._Operand, /) -> tf.Tensor: ...
    def __array__(self, dtype: npt.DTypeLike | None = None) -> npt.NDArray[Any]: ...
    def __float__(self) -> float: ...
    def assign(self, value: _Array) -> object: ...
    def numpy(self) -> npt.NDArray[Any]: ...

def Input(shape: Sequence[int | None], *, name: str | None = None) -> KerasTensor: ...

class Model(Layer):
    inputs: list[KerasTensor]
    optimizer: Optimizer
    outputs: list[KerasTensor]
    def __init__(
        self,
        inputs: KerasTensor | Sequence[KerasTensor] = ...,
        outputs: KerasTensor | Sequence[KerasTensor] = ...,
        *,
        name: str | None = None,
    ) -> None: ...
    @property
    def layers(self) -> list[Layer]: ...
    @property
    def metrics_variables(self) -> list[Variable]: ...
    def compile(self, optimizer: Optimizer, *, run_eagerly: bool = False) -> None: ...
    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> tf.Tensor | None: ...
    def fit(self, x: _Array, *, batch_size: int, epochs: int, verbose: int) -> object: ...
    def get_layer(self, name: str) -> Layer: ...
    def get_metrics_result(self) -> dict[str, tf.Tensor]: ...
    def predict_on_batch(self, x: npt.NDArray[Any]) -> Any: ...  # arrays, in the structure of the outputs
    def reset_metrics(self) -> None: ...
    def save(self, filepath: str | Path) -> None: ...
    def train_on_batch(self, x: _Array) -> object: ...
    def train_step(self, data: tf.Tensor) -> dict[str, tf.Tensor]: ...
