"""How much memory a SavedModel's network takes for each row, from the shapes that its operations make. Pure.

TensorFlow bounds nothing: a constant of 64 KiB added to its transpose makes a gigabyte. So each operation's output is
inferred from its inputs, as for ONNX files: what is computed has rows, constants are stored, and the shapes that a
transposed convolution or a reshaping takes are known numbers behind the batch.
"""

import math
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Message = dict[str, Any]

ROW_LIMIT = 192 << 20  # bytes of one row, all tensors together, as of an ONNX file
STRIDE_LIMIT = 64
RANK_LIMIT = 8
KNOWN_LIMIT = 16  # numbers of a constant that is read as a shape
PACKED_LIMIT = 10 * KNOWN_LIMIT  # bytes of a list of numbers
INTEGERS = {3: "i", 9: "q"}  # tensorflow.DataType: the struct's code
CASTS = frozenset((1, 3, 4))  # to float32, int32, uint8
ITEM_BYTES = 4  # at most


@dataclass(frozen=True)
class Rows:
    """A tensor with the batch as its first axis."""

    inside: tuple[int, ...]


@dataclass(frozen=True)
class Constant:
    """A stored tensor."""

    shape: tuple[int, ...]
    integers: tuple[int, ...] | None  # its values, where they are few integers


@dataclass(frozen=True)
class Known:
    """Numbers that a graph computes of a shape; None is the number of rows."""

    shape: tuple[int, ...]
    values: tuple[int | None, ...]


Tensor = Rows | Constant | Known


def row_bytes(functions: Mapping[str, Message], given: tuple[int, ...]) -> int:
    """Of all tensors of all `functions`, with one row of `given` in; raises ValueError where a shape is not bounded."""
    called = {name for function in functions.values() for name in map(_function, function["node_def"]) if name}
    walk = _Walk(functions)
    for name in functions.keys() - called:
        walk.run(name, [Rows(given)])
    return walk.row_bytes


def _function(node: Message) -> str | None:
    value = _attributes(node).get("f")
    return str(value["func"]["name"]) if value else None


def _attributes(node: Message) -> dict[str, Message]:
    return {entry["key"]: entry["value"] or {} for entry in node["attr"]}


class _Walk:
    def __init__(self, functions: Mapping[str, Message]) -> None:
        self._functions = functions
        self.row_bytes = 0

    def run(self, name: str, given: list[Tensor]) -> list[Tensor]:
        function = self._functions[name]
        arguments = [argument["name"] for argument in function["signature"]["input_arg"]]
        if len(arguments) != len(given):
            raise ValueError(f"the function {name!r:.60} takes {len(arguments)} tensors, not {len(given)}")
        tensors: dict[str, Tensor] = dict(zip(arguments, given, strict=True))
        for node in function["node_def"]:
            inputs = [self._input(tensors, source) for source in node["input"] if not source.startswith("^")]
            if called := _function(node):
                outputs = self.run(called, inputs)
            else:
                try:
                    outputs = list(_OPERATIONS[node["op"]](inputs, _attributes(node)))
                except (ValueError, TypeError, IndexError, KeyError, struct.error) as error:
                    raise ValueError(
                        f"{node['op']} {node['name']!r:.60} does not fit its inputs: {error!s:.150}"
                    ) from None
            for index, tensor in enumerate(outputs):
                tensors[f"{node['name']}:{index}"] = tensor
                if isinstance(tensor, Rows) and not called:
                    self._count(node, tensor)
        returned = {entry["key"]: entry["value"] for entry in function["ret"]}
        return [self._input(tensors, returned[output["name"]]) for output in function["signature"]["output_arg"]]

    def _count(self, node: Message, tensor: Rows) -> None:
        if len(tensor.inside) >= RANK_LIMIT or min(tensor.inside, default=1) < 1:
            raise ValueError(f"{node['op']} {node['name']!r:.60} makes rows of {tensor.inside}")
        self.row_bytes += ITEM_BYTES * math.prod(tensor.inside)
        if self.row_bytes > ROW_LIMIT:
            raise ValueError(
                f"with {node['op']} {node['name']!r:.60} it would take {self.row_bytes:,} bytes for one row; at most "
                f"{ROW_LIMIT:,} are given"
            )

    @staticmethod
    def _input(tensors: dict[str, Tensor], source: str) -> Tensor:
        """Of an argument's name, or of NODE:OUTPUT:INDEX. Each operation here has one output, or one list of them."""
        node, _, place = source.partition(":")
        name = f"{node}:{place.rpartition(':')[2]}" if place else node
        if name not in tensors:
            raise ValueError(f"{source!r:.80} is made by no node before it")
        return tensors[name]


def _rows(tensor: Tensor) -> tuple[int, ...]:
    if not isinstance(tensor, Rows):
        raise ValueError("it computes a constant, which a converter does before it writes a file")
    return tensor.inside


def _stored(tensor: Tensor) -> tuple[int, ...]:
    if not isinstance(tensor, Constant):
        raise ValueError("its weights are not stored")
    return tensor.shape


def _integers(tensor: Tensor) -> tuple[int, ...]:
    if not isinstance(tensor, Constant) or tensor.integers is None:
        raise ValueError("a few stored integers belong where something else stands")
    return tensor.integers


def _numbers(tensor: Tensor) -> tuple[int | None, ...]:
    return tensor.values if isinstance(tensor, Known) else _integers(tensor)


def _const(_: list[Tensor], attributes: dict[str, Message]) -> Iterable[Tensor]:
    tensor = attributes["value"]["tensor"]
    shape = tuple(dim["size"] or 0 for dim in (tensor["tensor_shape"] or {"dim": []})["dim"])
    code, count = INTEGERS.get(tensor["dtype"]), math.prod(shape)
    if code is None or count > KNOWN_LIMIT:
        return [Constant(shape, None)]
    if tensor["tensor_content"]:
        return [Constant(shape, struct.unpack(f"<{count}{code}", tensor["tensor_content"]))]
    values = _packed(tensor["int_val"]) or (0,)
    return [Constant(shape, (*values, *values[-1:] * count)[:count])]


def _packed(contents: bytes) -> tuple[int, ...]:
    """The numbers of a packed repeated field, which are few."""
    if len(contents) > PACKED_LIMIT:
        raise ValueError(f"a list of numbers has {len(contents):,} bytes")
    values, value, shift = [], 0, 0
    for byte in contents:
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            value &= (1 << 64) - 1
            values.append(value - (1 << 64) if value >> 63 else value)
            value = shift = 0
    if shift:
        raise ValueError("a list of numbers is cut short")
    return tuple(values)


def _same(inputs: list[Tensor], _: dict[str, Message]) -> Iterable[Tensor]:
    return [Rows(_rows(inputs[0]))]


def _cast(inputs: list[Tensor], attributes: dict[str, Message]) -> Iterable[Tensor]:
    if attributes["DstT"]["type"] not in CASTS:
        raise ValueError(f"to the type {attributes['DstT']['type']}")
    return [Rows(_rows(inputs[0]))]


def _broadcast(inputs: list[Tensor], _: dict[str, Message]) -> Iterable[Tensor]:
    first, second = inputs
    if isinstance(first, Constant):
        first, second = second, first
    inside = _rows(first)
    if isinstance(second, Rows):
        if second != first:
            raise ValueError(f"{inside} and {second.inside}")
        return [first]
    other = _stored(second)
    if len(other) > len(inside) and other[:1] == (1,) and len(other) == len(inside) + 1:
        other = other[1:]
    if len(other) > len(inside):
        raise ValueError(f"{inside} and a constant {other}")
    pairs = list(zip(inside, (1,) * (len(inside) - len(other)) + other, strict=True))
    if any(first != second and 1 not in (first, second) for first, second in pairs):
        raise ValueError(f"{inside} and a constant {other}")
    return [Rows(tuple(map(max, pairs)))]


def _matmul(inputs: list[Tensor], attributes: dict[str, Message]) -> Iterable[Tensor]:
    (inner,), weights = _rows(inputs[0]), _stored(inputs[1])
    if attributes.get("transpose_a", {}).get("b"):
        raise ValueError("it transposes the batch")
    rows, columns = reversed(weights) if attributes.get("transpose_b", {}).get("b") else weights
    if rows != inner:
        raise ValueError(f"{inner} by {weights}")
    return [Rows((columns,))]


def _strides(attributes: dict[str, Message]) -> tuple[int, int]:
    batch, rows, columns, channels = _packed(attributes["strides"]["list"]["i"])
    dilations = attributes.get("dilations")
    if dilations is not None and set(_packed(dilations["list"]["i"])) != {1}:
        raise ValueError("it is dilated")
    if (batch, channels) != (1, 1) or not (1 <= rows <= STRIDE_LIMIT and 1 <= columns <= STRIDE_LIMIT):
        raise ValueError(f"its strides are {batch, rows, columns, channels}")
    if (attributes.get("data_format") or {}).get("s") not in (None, b"NHWC"):
        raise ValueError("its channels are not last")
    return rows, columns


def _pads(attributes: dict[str, Message]) -> tuple[int, ...]:
    listed = (attributes.get("explicit_paddings") or {}).get("list")
    pads = _packed(listed["i"]) if listed else ()
    if pads and (len(pads) != 8 or not all(0 <= pad <= STRIDE_LIMIT for pad in pads) or any(pads[:2] + pads[6:])):
        raise ValueError(f"it is padded by {pads}")
    return pads[2:6] or (0, 0, 0, 0)


def _conv(inputs: list[Tensor], attributes: dict[str, Message]) -> Iterable[Tensor]:
    *size, channels = _rows(inputs[0])
    *kernel, given, made = _stored(inputs[1])
    strides, pads = _strides(attributes), _pads(attributes)
    padding = attributes["padding"]["s"]
    if (len(size), len(kernel)) != (2, 2) or given != channels or padding not in (b"SAME", b"VALID", b"EXPLICIT"):
        raise ValueError(f"{size} of {channels} channels by {kernel} of {given}, {padding!r:.20}")
    if padding == b"SAME":
        result = [-(-size[axis] // strides[axis]) for axis in (0, 1)]
    else:
        pads = pads if padding == b"EXPLICIT" else (0, 0, 0, 0)
        padded = [size[axis] + sum(pads[2 * axis : 2 * axis + 2]) for axis in (0, 1)]
        result = [(padded[axis] - kernel[axis]) // strides[axis] + 1 for axis in (0, 1)]
    return [Rows((*result, made))]


def _conv_transpose(inputs: list[Tensor], attributes: dict[str, Message]) -> Iterable[Tensor]:
    sizes, weights, channels = _numbers(inputs[0]), _stored(inputs[1]), _rows(inputs[2])[-1]
    _strides(attributes)
    _, _, made, given = weights
    inside = _inside(sizes)
    if len(inside) != 3 or given != channels or made != inside[2]:
        raise ValueError(f"{channels} channels by {weights} to {inside}")
    return [Rows(inside)]


def _inside(numbers: tuple[int | None, ...]) -> tuple[int, ...]:
    """The sizes behind the batch of a shape that keeps the batch."""
    inside = tuple(size for size in numbers[1:] if size is not None)
    if numbers[:1] not in ((None,), (-1,)) or len(inside) != len(numbers) - 1 or min(inside, default=0) < 1:
        raise ValueError(f"the shape {numbers!r:.80}")
    return inside


def _reshape(inputs: list[Tensor], _: dict[str, Message]) -> Iterable[Tensor]:
    given, inside = _rows(inputs[0]), _inside(_numbers(inputs[1]))
    if math.prod(given) != math.prod(inside):
        raise ValueError(f"{given} to {inside}")
    return [Rows(inside)]


def _shape(inputs: list[Tensor], _: dict[str, Message]) -> Iterable[Tensor]:
    inside = _rows(inputs[0])
    return [Known((len(inside) + 1,), (None, *inside))]


def _pack(inputs: list[Tensor], _: dict[str, Message]) -> Iterable[Tensor]:
    if len(inputs) > KNOWN_LIMIT or any(isinstance(tensor, Rows) or tensor.shape for tensor in inputs):
        raise ValueError("it is not a shape")
    return [Known((len(inputs),), tuple(_numbers(tensor)[0] for tensor in inputs))]


def _transpose(inputs: list[Tensor], _: dict[str, Message]) -> Iterable[Tensor]:
    inside, order = _rows(inputs[0]), _integers(inputs[1])
    if order[:1] != (0,) or sorted(order) != list(range(len(inside) + 1)):
        raise ValueError(f"{inside} by {order}")
    return [Rows(tuple(inside[axis - 1] for axis in order[1:]))]


def _strided_slice(inputs: list[Tensor], attributes: dict[str, Message]) -> Iterable[Tensor]:
    begin, end, steps = map(_integers, inputs[1:])
    from_start, to_end, single = (
        attributes.get(name, {}).get("i") or 0 for name in ("begin_mask", "end_mask", "shrink_axis_mask")
    )
    if isinstance(inputs[0], Known):
        if (begin, end, steps, from_start, to_end, single) != ((0,), (1,), (1,), 0, 0, 1):
            raise ValueError("of a shape, the number of rows alone is used")
        return [Known((), inputs[0].values[:1])]
    inside = _rows(inputs[0])
    if single or not len(begin) == len(end) == len(steps) <= len(inside) + 1 or min(steps, default=0) < 1:
        raise ValueError(f"{inside} from {begin} to {end} by {steps}")
    cut = list(inside)
    for axis, (start, stop, step) in enumerate(zip(begin, end, steps, strict=True)):
        first, last = (from_start >> axis & 1, to_end >> axis & 1)
        if axis == 0:
            if not (first and last and step == 1):
                raise ValueError("it cuts the batch")
            continue
        cut[axis - 1] = len(range(inside[axis - 1])[None if first else start : None if last else stop : step])
    return [Rows(tuple(cut))]


def _split(inputs: list[Tensor], _: dict[str, Message]) -> Iterable[Tensor]:
    inside, sizes, (axis,) = _rows(inputs[0]), _integers(inputs[1]), _integers(inputs[2])
    place = axis % (len(inside) + 1)
    if not -len(inside) - 1 <= axis <= len(inside) or place == 0:
        raise ValueError(f"along axis {axis}")
    if min(sizes, default=0) < 1 or sum(sizes) != inside[place - 1]:
        raise ValueError(f"{inside} into {sizes}")
    return [Rows((*inside[: place - 1], size, *inside[place:])) for size in sizes]


_OPERATIONS: dict[str, Callable[[list[Tensor], dict[str, Message]], Iterable[Tensor]]] = {
    **dict.fromkeys(("Identity", "Relu", "Round", "Sigmoid"), _same),
    **dict.fromkeys(("AddV2", "Maximum", "Mul"), _broadcast),
    "Cast": _cast,
    "Const": _const,
    "Conv2D": _conv,
    "Conv2DBackpropInput": _conv_transpose,
    "MatMul": _matmul,
    "Pack": _pack,
    "Reshape": _reshape,
    "Shape": _shape,
    "SplitV": _split,
    "StridedSlice": _strided_slice,
    "Transpose": _transpose,
}
