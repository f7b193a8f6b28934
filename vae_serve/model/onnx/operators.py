"""The operators that exports are made of: what each takes, the dtype and shape of its output, the memory that it needs.

The rules hold for opsets 13 to the newest known one, between which none of these changes its meaning under the
attributes allowed here. Its first input depends on the batch; no node computes a constant, for a converter does that.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from vae_serve.model.onnx.tensors import BLOCK, DTYPES, RANK_LIMIT, Tensor, in_blocks

WINDOW_LIMIT = 64  # strides and pads of a convolution; no network here comes near
WHOLE = (1 << 31) - 1  # from here on, an end of Slice is beyond any batch


class Call(msgspec.Struct, frozen=True):
    """One node's inputs and attributes, each of the type that its operator states."""

    inputs: tuple[Tensor | None, ...]  # None: left out
    attributes: Mapping[str, Any]  # "i": int, "f": float, "s": bytes, "ints": tuple
    outputs: int

    @property
    def rows(self) -> Tensor:
        """The first input."""
        first = self.inputs[0]
        if first is None or first.stored is not None:
            raise ValueError("its first input does not depend on the batch")
        return first

    def stored(self, index: int, dtype: str = "float32") -> Tensor:
        """An input that must be stored in the file."""
        tensor = self.optional(index)
        if tensor is None or tensor.stored is None or tensor.dtype != dtype:
            raise ValueError(f"a stored {dtype} tensor belongs where its input {index} is {tensor}")
        return tensor

    def optional(self, index: int) -> Tensor | None:
        """An input, None where it is left out."""
        return self.inputs[index] if index < len(self.inputs) else None


class NodeResult(msgspec.Struct, frozen=True):
    """What a node makes, and the memory beyond that."""

    outputs: tuple[Tensor, ...]
    layout_bytes: int = 0  # for each row: what its input and output take in another layout
    call_bytes: int = 0  # for each call, whatever the batch: working memory
    weight_bytes: int = 0  # for the session: its weights, packed


class Operator(msgspec.Struct, frozen=True):
    """What a node may look like, and what it makes."""

    make: Callable[[Call], NodeResult]  # raises ValueError
    inputs: tuple[int, int] = (1, 1)  # least and most
    attributes: Mapping[str, str] = msgspec.field(default_factory=dict)  # name: "i", "f", "s" or "ints"
    may_omit: frozenset[int] = frozenset()  # inputs that may have an empty name


def _only(tensor: Tensor, dtype: str) -> Tensor:
    if tensor.dtype != dtype:
        raise ValueError(f"{dtype} belongs where {tensor} stands")
    return tensor


def _of_floats(call: Call) -> NodeResult:
    return NodeResult((_only(call.rows, "float32"),))


def _identity(call: Call) -> NodeResult:
    return NodeResult((call.rows,))


def _cast(call: Call) -> NodeResult:
    to = call.attributes.get("to")
    if to not in DTYPES:
        raise ValueError(f"to the type {to}")
    return NodeResult((Tensor(DTYPES[to], call.rows.inside),))


def _clip(call: Call) -> NodeResult:
    for index in (1, 2):
        bound = call.optional(index)
        if bound is not None:
            bound.number("float32")
    return _of_floats(call)


def _quantisation(call: Call) -> None:
    if not call.stored(1).number("float32") > 0:
        raise ValueError("its scale is not above 0")
    if call.optional(2) is not None:
        call.stored(2, "uint8").number("uint8")


def _dequantize(call: Call) -> NodeResult:
    _quantisation(call)
    return NodeResult((Tensor("float32", _only(call.rows, "uint8").inside),))


def _quantize(call: Call) -> NodeResult:
    _quantisation(call)
    return NodeResult((Tensor("uint8", _only(call.rows, "float32").inside),))


def _broadcast(call: Call) -> NodeResult:
    """The batch meets the batch, or a constant that is the same for each row."""
    shapes = []
    for tensor in call.inputs:
        if tensor is None or tensor.dtype != "float32":
            raise ValueError(f"float32 belongs where {tensor} stands")
        shapes.append(tensor.shape)
    rows = [shape for shape, tensor in zip(shapes, call.inputs, strict=True) if tensor and tensor.stored is None]
    rank = max(map(len, rows), default=0)
    constant = [shape for shape in shapes if shape not in rows]
    apart = any(len(shape) > rank or (len(shape) == rank and shape[0] != 1) for shape in constant)
    if not rows or apart or any(len(shape) != rank for shape in rows):
        raise ValueError(f"the shapes {_words(shapes)} do not leave the batch its axis")
    inside = []
    for sizes in zip(*((1,) * (rank - len(shape)) + shape for shape in shapes), strict=True):
        several = {size for size in sizes if size != 1}
        if len(several) > 1:
            raise ValueError(f"the shapes {_words(shapes)}")
        inside.append(several.pop() if several else 1)
    return NodeResult((Tensor("float32", tuple(int(size) for size in inside[1:])),))


def _words(shapes: list[Any]) -> str:
    return " and ".join(map(str, shapes))


def _product(call: Call, weights: tuple[int, ...]) -> NodeResult:
    """(batch, inner) by (inner, columns); the weights are packed into blocks of columns."""
    inside = _only(call.rows, "float32").inside
    if len(inside) != 1 or len(weights) != 2 or inside[0] != weights[0]:
        raise ValueError(f"{call.rows} by {weights}")
    inner, columns = weights
    return NodeResult((Tensor("float32", (columns,)),), weight_bytes=4 * inner * in_blocks(columns))


def _matmul(call: Call) -> NodeResult:
    return _product(call, call.stored(1).inside)


def _gemm(call: Call) -> NodeResult:
    if call.attributes.get("transA", 0) != 0 or call.attributes.get("transB", 0) not in (0, 1):
        raise ValueError("of transA and transB, 0 and 0 or 1 are used")
    weights = call.stored(1).inside
    result = _product(call, weights[::-1] if call.attributes.get("transB") else weights)
    if call.optional(2) is not None:
        bias, (columns,) = call.stored(2).inside, result.outputs[0].inside
        if bias not in ((), (1,), (columns,), (1, 1), (1, columns)):
            raise ValueError(f"a bias {bias} for {columns} columns")
    return result


class _Window(msgspec.Struct, frozen=True):
    """A two-dimensional convolution's sizes; weights and strides within bounds that no network here comes near."""

    channels: int
    size: tuple[int, int]
    weights: tuple[int, int]  # the two sizes of its weights that are channels
    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]  # rows before, columns before, rows after, columns after


def _window(call: Call) -> _Window:
    weights, inside = call.stored(1).inside, _only(call.rows, "float32").inside
    strides = call.attributes.get("strides", (1, 1))
    pads = call.attributes.get("pads", (0, 0, 0, 0))
    plain = call.attributes.get("group", 1) == 1 and call.attributes.get("dilations", (1, 1)) == (1, 1)
    shaped = (len(inside), len(weights), len(strides), len(pads)) == (3, 4, 2, 4)
    bounded = all(1 <= s <= WINDOW_LIMIT for s in strides) and all(0 <= p <= WINDOW_LIMIT for p in pads)
    if not (plain and shaped and bounded) or call.attributes.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise ValueError("a window of this kind is not used")
    outer, inner, *kernel = weights
    if call.attributes.get("kernel_shape", tuple(kernel)) != tuple(kernel):
        raise ValueError("its kernel_shape and its weights disagree")
    channels, height, width = inside
    return _Window(channels, (height, width), (outer, inner), (kernel[0], kernel[1]), strides, pads)


def _conv(call: Call) -> NodeResult:
    window = _window(call)
    outputs, inputs = window.weights
    size = [
        (window.size[i] + window.pads[i] + window.pads[i + 2] - window.kernel[i]) // window.strides[i] + 1
        for i in (0, 1)
    ]
    output = _map(call, inputs, outputs, size)
    area = math.prod(window.kernel)
    packed_inputs = inputs if inputs < BLOCK // 2 else in_blocks(inputs)
    return NodeResult(
        (output,),
        # its input in blocks of channels, and its output out of them again
        layout_bytes=Tensor("float32", (inputs, *window.size)).row_bytes + output.bytes,
        call_bytes=4 * inputs * area * math.prod(size),  # im2col of one row: MlasConvPrepare in mlas/lib/convolve.cpp
        weight_bytes=4 * in_blocks(outputs) * packed_inputs * area,
    )


def _conv_transpose(call: Call) -> NodeResult:
    window = _window(call)
    inputs, outputs = window.weights
    size = [
        (window.size[i] - 1) * window.strides[i] + window.kernel[i] - window.pads[i] - window.pads[i + 2]
        for i in (0, 1)
    ]
    output = _map(call, inputs, outputs, size)
    area = math.prod(window.kernel)
    return NodeResult(
        (output,),
        call_bytes=4 * outputs * area * math.prod(window.size),  # `col_buffer` of one row in cpu/nn/conv_transpose.cc
        weight_bytes=4 * inputs * outputs * area,
    )


def _map(call: Call, inputs: int, outputs: int, size: list[int]) -> Tensor:
    """A convolution's output, once its sizes agree."""
    if call.rows.inside[0] != inputs:
        raise ValueError(f"{call.rows.inside[0]} channels where its weights have {inputs}")
    if min(size) < 1:
        raise ValueError(f"its result would be of {size[0]} x {size[1]}")
    if call.optional(2) is not None and call.stored(2).inside != (outputs,):
        raise ValueError(f"a bias {call.stored(2).inside} for {outputs} channels")
    return Tensor("float32", (outputs, *size))


def _reshape(call: Call) -> NodeResult:
    first, *inside = call.stored(1, "int64").integers()
    fine = first == -1 and 1 <= len(inside) < RANK_LIMIT and min(inside) >= 1
    if not fine or math.prod(inside) != math.prod(call.rows.inside):
        raise ValueError(f"{call.rows.shape} to {(first, *inside)}")
    return NodeResult((Tensor(call.rows.dtype, tuple(inside)),))


def _transpose(call: Call) -> NodeResult:
    order = call.attributes.get("perm", ())
    if order[:1] != (0,) or sorted(order) != list(range(len(call.rows.shape))):
        raise ValueError(f"{call.rows.shape} by perm {order}")
    return NodeResult((Tensor(call.rows.dtype, tuple(call.rows.inside[axis - 1] for axis in order[1:])),))


def _slice(call: Call) -> NodeResult:
    shape = call.rows.shape
    starts, ends = call.stored(1, "int64").integers(), call.stored(2, "int64").integers()
    axes = call.stored(3, "int64").integers() if call.optional(3) else tuple(range(len(starts)))
    steps = call.stored(4, "int64").integers() if call.optional(4) else (1,) * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps) or min(steps) < 1:
        raise ValueError(f"from {starts} to {ends} along {axes} by {steps}")
    inside, cut = list(call.rows.inside), set()
    for start, end, given_axis, step in zip(starts, ends, axes, steps, strict=True):
        axis = _axis(given_axis, len(shape))
        if axis in cut:
            raise ValueError(f"it cuts axis {axis} twice")
        cut.add(axis)
        if axis == 0:
            if (start, step) != (0, 1) or end < WHOLE:
                raise ValueError("it cuts the batch")
            continue
        inside[axis - 1] = len(range(inside[axis - 1])[start:end:step])
        if not inside[axis - 1]:
            raise ValueError(f"nothing is left of {shape} from {start} to {end} along axis {axis}")
    return NodeResult((Tensor(call.rows.dtype, tuple(inside)),))


def _split(call: Call) -> NodeResult:
    sizes, inside = call.stored(1, "int64").integers(), call.rows.inside
    axis = _axis(call.attributes.get("axis", 0), len(call.rows.shape))
    if axis == 0 or sum(sizes) != inside[axis - 1] or min(sizes) < 1 or len(sizes) != call.outputs:
        raise ValueError(f"{call.rows.shape} into {call.outputs} of {sizes} along axis {axis}")
    parts = ((*inside[: axis - 1], size, *inside[axis:]) for size in sizes)
    return NodeResult(tuple(Tensor(call.rows.dtype, part) for part in parts))


def _axis(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise ValueError(f"axis {axis} of {rank}")
    return axis % rank


_WINDOW = {
    "auto_pad": "s",
    "dilations": "ints",
    "group": "i",
    "kernel_shape": "ints",
    "pads": "ints",
    "strides": "ints",
}

OPERATORS: dict[str, Operator] = {  # of the standard domain
    **dict.fromkeys(("Relu", "Sigmoid", "Tanh", "Softplus", "Neg", "Round"), Operator(_of_floats)),
    **dict.fromkeys(("LeakyRelu", "Elu"), Operator(_of_floats, attributes={"alpha": "f"})),
    "Selu": Operator(_of_floats, attributes={"alpha": "f", "gamma": "f"}),
    "Identity": Operator(_identity),
    "Cast": Operator(_cast, attributes={"to": "i"}),
    "Clip": Operator(_clip, (1, 3), may_omit=frozenset({1})),
    "DequantizeLinear": Operator(_dequantize, (2, 3)),
    "QuantizeLinear": Operator(_quantize, (2, 3)),
    **dict.fromkeys(("Add", "Mul", "Max", "Min", "Sub", "Div"), Operator(_broadcast, (2, 2))),
    "MatMul": Operator(_matmul, (2, 2)),
    "Gemm": Operator(_gemm, (2, 3), {"alpha": "f", "beta": "f", "transA": "i", "transB": "i"}),
    "Conv": Operator(_conv, (2, 3), _WINDOW),
    "ConvTranspose": Operator(_conv_transpose, (2, 3), _WINDOW),
    "Reshape": Operator(_reshape, (2, 2)),
    "Transpose": Operator(_transpose, attributes={"perm": "ints"}),
    "Slice": Operator(_slice, (3, 5)),
    "Split": Operator(_split, (2, 2), {"axis": "i"}),
}
