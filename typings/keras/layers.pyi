from collections.abc import Callable, Sequence
from typing import Any, Self, overload

import numpy.typing as npt
import tensorflow as tf
from keras import KerasTensor, Variable, _Array

class Layer:
    name: str
    _inbound_nodes: list[_Node]
    def __init__(self, *, dtype: str | None = None, name: str | None = None) -> None: ...
    # tensors for symbolic tensors, tensors or arrays, in structures of any kind
    def __call__(self, inputs: Any, *, training: bool | None = None) -> Any: ...
    @property
    def compute_dtype(self) -> str: ...
    @property
    def input(self) -> KerasTensor | Any: ...  # a list where there are several
    @property
    def output(self) -> KerasTensor | Any: ...
    @property
    def trainable_variables(self) -> list[Variable]: ...
    @property
    def trainable_weights(self) -> list[Variable]: ...
    @property
    def variables(self) -> list[Variable]: ...
    @property
    def weights(self) -> list[Variable]: ...
    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self: ...
    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> Any: ...
    def count_params(self) -> int: ...
    def get_config(self) -> dict[str, Any]: ...
    def get_weights(self) -> list[npt.NDArray[Any]]: ...
    def set_weights(self, weights: Sequence[npt.NDArray[Any]]) -> None: ...

class _Node:
    @property
    def input_tensors(self) -> list[KerasTensor]: ...

class _OneToOne(Layer):
    @overload
    def __call__(self, inputs: KerasTensor, *, training: bool | None = None) -> KerasTensor: ...
    @overload
    def __call__(self, inputs: _Array, *, training: bool | None = None) -> tf.Tensor: ...

_Activation = str | Callable[[tf.Tensor], tf.Tensor]

class Activation(_OneToOne):
    activation: Callable[[tf.Tensor], tf.Tensor]
    def __init__(self, activation: _Activation, *, dtype: str | None = None, name: str | None = None) -> None: ...

class Add(Layer): ...

class BatchNormalization(_OneToOne):
    axis: int
    beta: Variable
    center: bool
    epsilon: float
    gamma: Variable
    momentum: float
    moving_mean: Variable
    moving_variance: Variable
    scale: bool
    def __init__(self, *, name: str | None = None) -> None: ...
    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None) -> tf.Tensor: ...

class _Convolution(_OneToOne):
    activation: Callable[[tf.Tensor], tf.Tensor]
    bias: Variable
    data_format: str
    dilation_rate: tuple[int, int]
    filters: int
    groups: int
    kernel: Variable
    padding: str
    strides: tuple[int, int]
    use_bias: bool
    def __init__(
        self,
        filters: int,
        kernel_size: int,
        strides: int | tuple[int, int] = (1, 1),
        padding: str = "valid",
        *,
        activation: _Activation | None = None,
        dtype: str | None = None,
        name: str | None = None,
    ) -> None: ...

class Conv2D(_Convolution): ...

class Conv2DTranspose(_Convolution):
    output_padding: tuple[int, int] | None

class Cropping2D(_OneToOne):
    cropping: tuple[tuple[int, int], tuple[int, int]]
    data_format: str
    def __init__(self, cropping: tuple[tuple[int, int], tuple[int, int]] = ..., *, name: str | None = None) -> None: ...

class Dense(_OneToOne):
    activation: Callable[[tf.Tensor], tf.Tensor]
    bias: Variable
    units: int
    use_bias: bool
    def __init__(
        self,
        units: int,
        activation: _Activation | None = None,
        *,
        dtype: str | None = None,
        name: str | None = None,
    ) -> None: ...
    @property
    def kernel(self) -> Variable: ...

class Flatten(_OneToOne):
    def __init__(self, *, name: str | None = None) -> None: ...

class InputLayer(Layer): ...

class Lambda(Layer):
    def __init__(self, function: Callable[[Any], Any]) -> None: ...

class Reshape(_OneToOne):
    def __init__(self, target_shape: Sequence[int], *, dtype: str | None = None, name: str | None = None) -> None: ...
