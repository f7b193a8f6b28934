"""Folding, exactly: a trained Keras model becomes a chain of plain steps in which no BatchNorm is left.

A BatchNorm in inference mode is x * scale + shift for each channel, scale = gamma / sqrt(variance + epsilon) and
shift = beta - mean * scale (Ioffe & Szegedy 2015, algorithm 2). It goes into the linear step that follows. Into a
dense layer both go by algebra. Into a zero-padded convolution the scale does, but the shift would be missing where the
kernel reaches over the border; there are three exact ways to keep it, and the one that moves the fewest numbers is
used:

- one more channel that is 1 everywhere, made by the convolution before (weight 0, bias 1, through the ReLU);
- a bias of the next step that differs from place to place, computed once;
- `Maximum` in place of the ReLU before: scale * relu(x) + shift = sign * max(|scale| x + sign * shift, sign * shift).
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import TypeGuard

import keras
import numpy as np

from vae_serve.exporting.network import (
    VECTOR,
    Activation,
    Conv,
    ConvTranspose,
    Crop,
    Dense,
    Layer,
    Linear,
    Maximum,
    Network,
    Reshape,
    Scale,
    Shape,
    Step,
    Weights,
    shape_after,
    shapes,
)

_LinearLayer = keras.layers.Dense | keras.layers.Conv2D | keras.layers.Conv2DTranspose


def folded(model: keras.Model, extra_channel: bool = True) -> Network:
    """The network of a trained model, folded. What cannot be folded stays as it is; nothing is approximated.

    `extra_channel` allows the first of the three ways above.
    """
    network = read(model)
    network = replace(network, steps=_into_the_step_before(network.steps))
    for position, step in reversed(list(enumerate(network.steps))):
        if isinstance(step, Scale):
            network = replace(network, steps=_into_the_step_after(network, position, step, extra_channel))
    return network


def read(model: keras.Model) -> Network:
    """A functional Keras model as a chain of steps, unfolded; a single `Layer` where it is not a chain of one input."""
    shape = tuple(model.inputs[0].shape[1:])
    sizes = tuple(int(output.shape[-1]) for output in model.outputs)
    chains = [_chain(output) for output in model.outputs]
    if len(chains) == 1 and chains[0]:
        return Network(shape, _all_steps(chains[0]), sizes)
    ends = [chain[-1] for chain in chains if chain and _is_head(chain[-1])]
    if 1 < len(chains) == len(ends) and all(chain[:-1] == chains[0][:-1] for chain in chains):
        heads = [_dense(end) for end in ends]
        product = Dense(np.concatenate([h.kernel for h in heads], 1), np.concatenate([h.bias for h in heads]))
        return Network(shape, (*_all_steps(chains[0][:-1]), product), sizes)
    return Network(shape, (Layer(model),), sizes)


def _chain(output: keras.KerasTensor) -> list[keras.Layer]:
    """The layers from the input to this tensor; none where a layer reads more than one tensor."""
    layers: list[keras.Layer] = []
    while True:
        layer, index, _ = output._keras_history
        if isinstance(layer, keras.layers.InputLayer):
            return layers[::-1]
        inputs = layer._inbound_nodes[index].input_tensors
        if len(inputs) != 1:
            return []
        layers.append(layer)
        output = inputs[0]


def _is_head(layer: keras.Layer) -> TypeGuard[keras.layers.Dense]:
    return type(layer) is keras.layers.Dense and len(layer.input.shape) == 2 and _name(layer.activation) == "linear"


def _all_steps(layers: list[keras.Layer]) -> tuple[Step, ...]:
    return tuple(step for layer in layers for step in _steps(layer))


def _steps(layer: keras.Layer) -> list[Step]:  # noqa: PLR0911  (one for each kind of layer)
    kinds = keras.layers
    shape = tuple(layer.input.shape[1:])
    last = getattr(layer, "data_format", "channels_last") == "channels_last"
    dense = len(shape) == 1
    if type(layer) is kinds.Dense and dense:
        return [_dense(layer), *_activation(layer)]
    if type(layer) is kinds.Conv2D and last and layer.groups == 1 and set(layer.dilation_rate) == {1}:
        return [_conv(layer, shape), *_activation(layer)]
    if (
        type(layer) is kinds.Conv2DTranspose
        and last
        and set(layer.dilation_rate) == {1}
        and layer.output_padding is None
    ):
        kernel = _array(layer.kernel)
        return [ConvTranspose(kernel, _bias(layer), layer.strides, layer.padding), *_activation(layer)]
    if type(layer) is kinds.BatchNormalization and layer.axis in (-1, len(shape)):
        return [_scale(layer)]
    if type(layer) in (kinds.Flatten, kinds.Reshape):
        return [Reshape(tuple(layer.output.shape[1:]))]
    if type(layer) is kinds.Cropping2D and last:
        (top, _), (left, _) = layer.cropping
        return [Crop(top, left, *layer.output.shape[1:3])]
    if type(layer) is kinds.Activation:
        return _activation(layer)
    return [Layer(layer)]


def _array(weights: keras.Variable) -> Weights:
    return np.asarray(weights, np.float64)


def _bias(layer: _LinearLayer) -> Weights:
    outputs = layer.units if isinstance(layer, keras.layers.Dense) else layer.filters
    return _array(layer.bias) if layer.use_bias else np.zeros(outputs)


def _dense(layer: keras.layers.Dense) -> Dense:
    return Dense(_array(layer.kernel), _bias(layer))


def _conv(layer: keras.layers.Conv2D, shape: Shape) -> Conv:
    kernel = _array(layer.kernel)
    stride = layer.strides
    pads = []
    for size, k, s in zip(shape[:2], kernel.shape[:2], stride, strict=True):
        # TensorFlow's rule for SAME: as few as possible, the odd one at the end
        total = max((-(-size // s) - 1) * s + k - size, 0) if layer.padding == "same" else 0
        pads.append((total // 2, total - total // 2))
    return Conv(kernel, _bias(layer), stride, (pads[0], pads[1]))


def _scale(layer: keras.layers.BatchNormalization) -> Scale:
    scale = 1 / np.sqrt(_array(layer.moving_variance) + layer.epsilon)
    scale = scale * _array(layer.gamma) if layer.scale else scale
    shift = -_array(layer.moving_mean) * scale
    return Scale(scale, shift + _array(layer.beta) if layer.center else shift)


def _name(activation: object) -> str:
    return str(getattr(activation, "__name__", ""))


def _activation(layer: _LinearLayer | keras.layers.Activation) -> list[Step]:
    name = _name(layer.activation)
    if name == "linear":
        return []
    known = name and keras.activations.get(name) is layer.activation
    return [Activation(name) if known else Layer(keras.layers.Activation(layer.activation))]


def _into_the_step_before(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Scales that follow a linear step with no activation between them."""
    done: list[Step] = []
    for step in steps:
        if isinstance(step, Scale) and done and isinstance(done[-1], Dense | Conv | ConvTranspose):
            done[-1] = outputs_scaled(done[-1], step.scale, step.shift)
        else:
            done.append(step)
    return tuple(done)


def _into_the_step_after(network: Network, position: int, scale: Scale, extra_channel: bool) -> tuple[Step, ...]:
    """The steps without the Scale at `position`, or with what cannot be folded of it."""
    steps = network.steps
    before = steps[:position]
    after = position + 1
    shape = shapes(network)[position]
    # As a map over all places, carried through the steps that only move numbers
    factor, shift = (np.broadcast_to(values, shape) for values in (scale.scale, scale.shift))
    while after < len(steps) and isinstance(steps[after], Reshape | Crop):
        factor, shift = _moved(steps[after], factor), _moved(steps[after], shift)
        shape = shape_after(steps[after], shape)
        after += 1
    moves, rest = steps[position + 1 : after], steps[after + 1 :]
    match steps[after] if after < len(steps) else None:
        case Dense() as linear:
            dense = Dense(linear.kernel * factor[:, None], linear.bias + shift @ linear.kernel)
            return (*before, *moves, dense, *rest)
        case Conv() | ConvTranspose() as linear if _by_channel(factor) and _by_channel(shift):
            return _into_convolution(before, factor[0, 0], shift[0, 0], moves, linear, shape, rest, extra_channel)
    # It stays, but its size goes through the ReLU, so that only a sign is left of the scale
    match before:
        case (*earlier, Dense() | Conv() | ConvTranspose() as linear, Activation("relu") as relu):
            sign = np.where(scale.scale < 0, -1.0, 1.0)
            linear = outputs_scaled(linear, np.abs(scale.scale), np.zeros(1))
            return (*earlier, linear, relu, Scale(sign, scale.shift), *steps[position + 1 :])
    return steps


def _into_convolution(
    before: tuple[Step, ...],
    scale: Weights,
    shift: Weights,
    moves: tuple[Step, ...],
    linear: Conv | ConvTranspose,
    shape: Shape,
    rest: tuple[Step, ...],
    extra_channel: bool,
) -> tuple[Step, ...]:
    """`before`, a scale and shift (C,) of the channels, `moves`, and a convolution of a (H, W, C) map, folded."""
    relu_after = bool(rest) and rest[0] == Activation("relu")
    cost_of_map = int(np.prod(shape_after(linear, shape))) * (1 + relu_after)  # the ReLU is no longer a part of it
    match before:
        case (*earlier, Conv() as maker, Activation("relu") as relu) if (
            extra_channel
            and not moves
            and isinstance(linear, Conv)
            and maker.kernel.shape[3] % VECTOR  # room for one more
        ):
            widened = np.pad(maker.kernel, ((0, 0), (0, 0), (0, 0), (0, 1)))
            bias = np.concatenate([maker.bias, np.ones((*maker.bias.shape[:-1], 1))], -1)
            carried = np.einsum("yxio,i->yxo", linear.kernel, shift)[:, :, None]
            kernel = np.concatenate([linear.kernel * scale[:, None], carried], 2)
            return (*earlier, replace(maker, kernel=widened, bias=bias), relu, replace(linear, kernel=kernel), *rest)
        case (*earlier, Dense() | Conv() | ConvTranspose() as maker, Activation("relu")) if (
            not any(isinstance(step, Reshape) for step in moves) and int(np.prod(shape)) < cost_of_map
        ):
            sign = np.where(scale < 0, -1.0, 1.0)
            maker = outputs_scaled(maker, np.abs(scale), sign * shift)
            return (*earlier, maker, Maximum(sign * shift), *moves, inputs_scaled(linear, sign), *rest)
    spread = response(linear, shape, shift)
    biased = replace(inputs_scaled(linear, scale), bias=linear.bias + spread)
    return (*before, *moves, biased, *rest)


def _moved(step: Step, values: Weights) -> Weights:
    match step:
        case Reshape():
            return values.reshape(step.shape)
        case Crop():
            return values[step.top : step.top + step.height, step.left : step.left + step.width]
    raise TypeError(step)


def _by_channel(values: Weights) -> bool:
    return bool((values == values[0, 0]).all())


def inputs_scaled(linear: Linear, scale: Weights) -> Linear:
    """The linear step of x * scale, `scale` (in,)."""
    if isinstance(linear, ConvTranspose):
        return replace(linear, kernel=linear.kernel * scale)
    return replace(linear, kernel=linear.kernel * scale[:, None])


def outputs_scaled(linear: Linear, scale: Weights, shift: Weights) -> Linear:
    """The linear step that gives y * scale + shift, each (out,)."""
    kernel = linear.kernel * (scale[:, None] if isinstance(linear, ConvTranspose) else scale)
    return replace(linear, kernel=kernel, bias=linear.bias * scale + shift)


def response(linear: Conv | ConvTranspose, shape: Shape, values: Weights) -> Weights:
    """What a convolution, without its bias, makes of a map of `shape` that is `values` (C,) everywhere: (H, W, out)."""
    out = shape_after(linear, shape)
    equation = "yxoi,i->yxo" if isinstance(linear, ConvTranspose) else "yxio,i->yxo"
    reach = [np.zeros((out[axis], linear.kernel.shape[axis])) for axis in (0, 1)]
    for axis in (0, 1):
        for k, o, _ in taps(linear, axis, shape[axis], out[axis]):
            reach[axis][o, k] = 1
    spread: Weights = np.einsum("Yy,Xx,yxo->YXo", *reach, np.einsum(equation, linear.kernel, values), optimize=True)
    return spread


def taps(linear: Conv | ConvTranspose, axis: int, size: int, out_size: int) -> Iterator[tuple[int, int, int]]:
    """Along one axis, every (k, o, y): kernel[k] carries input place y to output place o, both within the map."""
    kernel, stride = linear.kernel.shape[axis], linear.stride[axis]
    if isinstance(linear, ConvTranspose):
        triples = ((k, stride * y + k - linear.crop[axis], y) for y in range(size) for k in range(kernel))
    else:
        triples = ((k, o, stride * o + k - linear.pads[axis][0]) for o in range(out_size) for k in range(kernel))
    return ((k, o, y) for k, o, y in triples if 0 <= o < out_size and 0 <= y < size)
