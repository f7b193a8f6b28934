"""Narrow feature maps kept in blocks of pixels, exactly: the same sums, in a shape that a CPU computes faster.

A map (H, W, C) stored in blocks of r x r pixels is a map (H / r, W / r, r * r * C) (space-to-depth). Between such
maps a convolution or transposed convolution is a convolution again, its weights rearranged, with zeros where a kernel
does not reach (Shi et al. 2016, "Is the deconvolution layer the same as a convolutional layer?", for the transposed
one). A runtime computes 16 or more channels of a pixel at once, so maps of 8 or 16 channels leave most of the vector
unit idle, and its transposed convolution moves every product through memory; four or sixteen times the channels at a
quarter or a sixteenth of the places avoid both. The gain must be larger than the cost of the added zeros and of
interleaving to pixels: `blocked` takes the cheapest choice for each map by a model of ONNX Runtime's cost, and leaves
wide networks alone.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from vae_serve.exporting.network import (
    VECTOR,
    WIDE,
    Activation,
    Conv,
    ConvTranspose,
    Crop,
    Interleave,
    Maximum,
    Network,
    Scale,
    Shape,
    Step,
    Weights,
    shapes,
)

SIZES = (1, 2, 4)  # of a block's side

# Nanoseconds, ONNX Runtime 1.32, one AVX-512 core, batch 32, by its own profile of the small model's kernels. They
# choose between forms that are equal in what they compute, so on another machine they can cost time, never truth.
NS_PER_MAC = {1: 1 / 50, 2: 1 / 68}  # of a convolution with 16 or 32 output channels
NS_PER_MAC_WIDER = 1 / 80
NS_PER_MAC_FEW_INPUTS = {1: 1 / 31}  # fewer than 16 input channels, by the vectors of output channels
NS_PER_MAC_FEW_INPUTS_WIDER = 1 / 45
NS_PER_INPUT_FEW = 0.45  # they are brought into another layout first, unless the picture itself is read
NS_PER_OUTPUT_UNFUSED = 0.4  # an Add, and a ReLU that is not a part of the convolution any more
NS_PER_MAC_ODD_INPUTS = 1 / 15  # not a multiple of 4: outside the fast layout
NS_PER_MAC_TRANSPOSED = 1 / 60
NS_PER_PRODUCT_TRANSPOSED = 0.8  # each product is added to its place in memory
NS_PER_OUTPUT_TRANSPOSED = 0.6  # its ReLU is not fused, its layout is another one
NS_PER_INTERLEAVED = {True: 0.85, False: 1.3}  # by whether whole vectors move
WORTH = 0.9  # of the plain form's cost: for less the graph stays as it was trained


@dataclass(frozen=True)
class _Stage:
    """A convolution with what follows it up to the next one."""

    linear: Conv | ConvTranspose
    pointwise: tuple[Step, ...]  # Activation or Maximum
    crop: Crop | None
    shape: Shape  # before, in pixels
    out: Shape  # after the convolution, in pixels


@dataclass(frozen=True)
class _Form:
    """One way to compute stages: how to make its steps, and the block size that the result is stored in."""

    build: Callable[[], tuple[Step, ...]]  # called for the cheapest one alone: others may be too large to exist
    r: int
    cost: float  # ns an image


def blocked(network: Network) -> Network:
    """The same network with its narrow maps in blocks where that is cheaper."""
    steps: list[Step] = []
    position = 0
    while position < len(network.steps):
        stages, end = _stretch(network, position)
        if stages:
            steps += _cheapest(stages)
            position = end
        else:
            steps.append(network.steps[position])
            position += 1
    return replace(network, steps=tuple(steps))


def _stretch(network: Network, position: int) -> tuple[list[_Stage], int]:
    """The convolutions that follow one another from `position` on, and the position after them."""
    before = shapes(network)
    stages: list[_Stage] = []
    while position < len(network.steps) and isinstance(linear := network.steps[position], Conv | ConvTranspose):
        end = position + 1
        while end < len(network.steps) and isinstance(network.steps[end], Activation | Maximum):
            end += 1
        pointwise = network.steps[position + 1 : end]
        crop = network.steps[end] if end < len(network.steps) else None
        crop = crop if isinstance(crop, Crop) else None
        stages.append(_Stage(linear, pointwise, crop, before[position], before[position + 1]))
        position = end + (crop is not None)
    return stages, position


def _cheapest(stages: list[_Stage]) -> tuple[Step, ...]:
    """Dynamic programming over the block sizes that the maps between the stages are stored in."""
    best = {1: _Form(tuple, 1, 0.0)}
    plain = _Form(tuple, 1, 0.0)
    for number, stage in enumerate(stages):
        first, last = number == 0, number == len(stages) - 1
        cheapest: dict[int, _Form] = {}
        for so_far in best.values():
            for form in _forms(stage, so_far.r, first, last):
                both = _then(so_far, form)
                if form.r not in cheapest or both.cost < cheapest[form.r].cost:
                    cheapest[form.r] = both
        best = cheapest
        plain = _then(plain, _plain(stage, first))
    return (best[1] if best[1].cost < WORTH * plain.cost else plain).build()


def _then(first: _Form, second: _Form) -> _Form:
    return _Form(lambda: (*first.build(), *second.build()), second.r, first.cost + second.cost)


def _plain(stage: _Stage, first: bool) -> _Form:
    steps = (stage.linear, *stage.pointwise, *([stage.crop] if stage.crop else []))
    sizes = _Sizes(stage.linear.kernel.shape[:2], stage.shape, stage.out)
    return _Form(lambda: steps, 1, _cost(sizes, stage.linear, first, isinstance(stage.linear, ConvTranspose)))


def _forms(stage: _Stage, r_in: int, first: bool, last: bool) -> Iterator[_Form]:
    if r_in == 1:
        yield _plain(stage, first)
    for r in SIZES:
        if (r_in, r) != (1, 1):
            if last:
                for offset in range(r):
                    yield from _to_pixels(stage, r_in, r, offset, first)
            else:
                yield from _between(stage, r_in, r, first)


def _between(stage: _Stage, r_in: int, r: int, first: bool) -> Iterator[_Form]:
    """A stage that is not the last: its result in blocks, or interleaved to pixels at once."""
    axes = _axes(stage.linear, stage.shape, stage.out, r_in, r, 0)
    if axes is None or stage.out[0] % r or stage.out[1] % r:
        return
    crop = _crop_in_blocks(stage.crop, r)
    cost = _cost(_sizes(axes, stage, r_in, r), stage.linear, first, False)
    cost += NS_PER_OUTPUT_UNFUSED * math.prod(stage.out) * sum(isinstance(step, Maximum) for step in stage.pointwise)

    if crop is not None or stage.crop is None:
        blocks = (*(_pointwise_in_blocks(step, r) for step in stage.pointwise), *([crop] if crop else []))
        yield _Form(lambda: (_in_blocks(stage.linear, axes, r_in, r), *blocks), r, cost)
    if r > 1:
        # A ReLU comes right after the convolution, which computes it in passing; a Maximum where the layout has settled
        early = tuple(step for step in stage.pointwise if isinstance(step, Activation))
        late = tuple(step for step in stage.pointwise if not isinstance(step, Activation))
        pixels = (*early, Interleave(r), *late, *([stage.crop] if stage.crop else []))
        yield _Form(
            lambda: (_in_blocks(stage.linear, axes, r_in, r), *pixels), 1, cost + _cost_of_interleaving(stage.out, r)
        )


def _to_pixels(stage: _Stage, r_in: int, r: int, offset: int, first: bool) -> Iterator[_Form]:
    """The last stage, its blocks moved by `offset` pixels up and left where a kernel then reaches fewer of them."""
    axes = _axes(stage.linear, stage.shape, stage.out, r_in, r, offset)
    if axes is None:
        return
    sizes = _sizes(axes, stage, r_in, r)
    height, width, _ = sizes.out
    after: list[Step] = [Interleave(r)] if r > 1 else []
    if (height * r, width * r) != stage.out[:2]:
        after.append(Crop(offset, offset, *stage.out[:2]))
    linear = stage.linear
    if linear.bias.ndim > 1 and r > 1:  # its map may not fill the outermost blocks, so it is added to the pixels
        after.append(Scale(np.ones(1), linear.bias))
        linear = replace(linear, bias=np.zeros(stage.out[2]))
    after += [*stage.pointwise, *([stage.crop] if stage.crop else [])]
    cost = _cost(sizes, stage.linear, first, False) + (_cost_of_interleaving(stage.out, r) if r > 1 else 0.0)
    yield _Form(lambda: (_in_blocks(linear, axes, r_in, r), *after), 1, cost)


@dataclass(frozen=True)
class _Axis:
    """How a convolution between blocks works along one axis."""

    reads: list[tuple[int, int, int, int]]  # place in the output block, tap, block within the kernel, place in that
    size: int  # of the kernel, in blocks
    stride: int
    pads: tuple[int, int]
    count: int  # of output blocks


@dataclass(frozen=True)
class _Sizes:
    """What the cost of a convolution depends on."""

    kernel: tuple[int, int]
    shape: Shape
    out: Shape


def _sizes(axes: tuple[_Axis, _Axis], stage: _Stage, r_in: int, r: int) -> _Sizes:
    rows, columns = axes
    shape = (stage.shape[0] // r_in, stage.shape[1] // r_in, stage.shape[2] * r_in**2)
    return _Sizes((rows.size, columns.size), shape, (rows.count, columns.count, stage.out[2] * r**2))


def in_blocks(
    linear: Conv | ConvTranspose, shape: Shape, out: Shape, r_in: int, r: int, offset: int = 0
) -> Conv | None:
    """The convolution from blocks of `r_in` to blocks of `r`, that is the same as `linear` from pixels to pixels.

    `shape` and `out` are the pixel maps (H, W, C). Output block j holds the pixels r * j - offset and on; those outside
    the map are without meaning. None where blocks and stride do not go together.
    """
    axes = _axes(linear, shape, out, r_in, r, offset)
    return None if axes is None else _in_blocks(linear, axes, r_in, r)


def _axes(
    linear: Conv | ConvTranspose, shape: Shape, out: Shape, r_in: int, r: int, offset: int
) -> tuple[_Axis, _Axis] | None:
    rows, columns = (_axis(linear, axis, shape[axis], out[axis], r_in, r, offset) for axis in (0, 1))
    return None if rows is None or columns is None else (rows, columns)


def _axis(
    linear: Conv | ConvTranspose, axis: int, size: int, out_size: int, r_in: int, r: int, offset: int
) -> _Axis | None:
    stride, taps = linear.stride[axis], linear.kernel.shape[axis]
    step, rest = divmod(r, stride * r_in) if isinstance(linear, ConvTranspose) else divmod(stride * r, r_in)
    if rest or size % r_in:
        return None
    reads: list[tuple[int, int, int, int]] = []  # by output block 0
    for place, tap in itertools.product(range(r), range(taps)):
        o = place - offset
        if isinstance(linear, ConvTranspose):
            y, between = divmod(o + linear.crop[axis] - tap, stride)
            if between:
                continue
        else:
            y = stride * o + tap - linear.pads[axis][0]
        reads.append((place, tap, y // r_in, y % r_in))
    first, last = min(block for _, _, block, _ in reads), max(block for _, _, block, _ in reads)
    count = math.ceil((out_size + offset) / r)
    after = step * (count - 1) + last - (size // r_in - 1)
    if first > 0 or after < 0:
        return None
    reads = [(place, tap, block - first, inside) for place, tap, block, inside in reads]
    return _Axis(reads, last - first + 1, step, (-first, after), count)


def _in_blocks(linear: Conv | ConvTranspose, axes: tuple[_Axis, _Axis], r_in: int, r: int) -> Conv:
    rows, columns = axes
    source = linear.kernel.swapaxes(2, 3) if isinstance(linear, ConvTranspose) else linear.kernel  # (kh, kw, in, out)
    inputs, outputs = source.shape[2:]
    kernel = np.zeros((rows.size, columns.size, r_in, r_in, inputs, r, r, outputs))
    for (out_y, tap_y, block_y, in_y), (out_x, tap_x, block_x, in_x) in itertools.product(rows.reads, columns.reads):
        kernel[block_y, block_x, in_y, in_x, :, out_y, out_x] += source[tap_y, tap_x]
    merged = kernel.reshape(rows.size, columns.size, r_in**2 * inputs, r**2 * outputs)
    bias = np.tile(linear.bias, r**2) if linear.bias.ndim == 1 else _map_in_blocks(linear.bias, r)
    return Conv(merged, bias, (rows.stride, columns.stride), (rows.pads, columns.pads))


def _map_in_blocks(values: Weights, r: int) -> Weights:
    height, width, channels = values.shape
    cut = values.reshape(height // r, r, width // r, r, channels).swapaxes(1, 2)
    return cut.reshape(height // r, width // r, r * r * channels)


def _pointwise_in_blocks(step: Step, r: int) -> Step:
    return Maximum(np.tile(step.least, r**2)) if isinstance(step, Maximum) else step


def _crop_in_blocks(crop: Crop | None, r: int) -> Crop | None:
    if crop is None or any(edge % r for edge in (crop.top, crop.left, crop.height, crop.width)):
        return None
    return Crop(crop.top // r, crop.left // r, crop.height // r, crop.width // r)


def _cost(sizes: _Sizes, linear: Conv | ConvTranspose, first: bool, transposed: bool) -> float:
    """Of `linear` in a form of these sizes; `first`: it reads the network's input, `transposed`: it stays one."""
    (height, width, inputs), (out_height, out_width, outputs) = sizes.shape, sizes.out
    reach = math.prod(sizes.kernel)
    if transposed:
        products = height * width * reach * outputs
        moved = products * NS_PER_PRODUCT_TRANSPOSED + out_height * out_width * outputs * NS_PER_OUTPUT_TRANSPOSED
        return products * inputs * NS_PER_MAC_TRANSPOSED + moved
    vectors = math.ceil(outputs / VECTOR)
    products = out_height * out_width * reach * vectors * VECTOR
    unfused = out_height * out_width * outputs * NS_PER_OUTPUT_UNFUSED if linear.bias.ndim > 1 else 0.0
    if inputs < VECTOR:
        reordered = 0.0 if first else height * width * inputs * NS_PER_INPUT_FEW
        rate = NS_PER_MAC_FEW_INPUTS.get(vectors, NS_PER_MAC_FEW_INPUTS_WIDER)
        return products * inputs * rate + reordered + unfused
    if inputs % 4:
        return products * inputs * NS_PER_MAC_ODD_INPUTS + unfused
    return products * math.ceil(inputs / VECTOR) * VECTOR * NS_PER_MAC.get(vectors, NS_PER_MAC_WIDER) + unfused


def _cost_of_interleaving(out: Shape, r: int) -> float:
    return math.prod(out) * NS_PER_INTERLEAVED[r * out[2] >= WIDE]
