"""What an ONNX file says, read and judged before any runtime sees it. Needs neither onnx nor ONNX Runtime.

The messages below are those parts of onnx.proto (field numbers as in onnx/onnx.proto) that this project's exports use.
A file with any other part - functions, subgraphs, sparse or external tensors, strings, training information - is
refused, and so is an operator outside `OPERATORS`: shapes are inferred through these alone, so that nothing can ask a
runtime for more memory than its declared sizes allow.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from vae_serve.errors import BundleError
from vae_serve.model import protobuf

SIZE_LIMIT = 1 << 30  # bytes of a file
ROW_LIMIT = 1 << 26  # elements of one tensor for one row of a batch; the largest network here needs a 30th of it
NODE_LIMIT = 2_000

DTYPES = {1: "float32", 2: "uint8", 6: "int32", 7: "int64"}  # TensorProto.DataType; what the exports hold
ITEM_BYTES = {1: 4, 2: 1, 6: 4, 7: 8}

Shape = tuple[int | str, ...]

_MESSAGES: protobuf.Messages = {
    "Model": {
        "ir_version": (1, "int"), "producer_name": (2, "string"), "producer_version": (3, "string"),
        "domain": (4, "string"), "model_version": (5, "int"), "doc_string": (6, "string"), "graph": (7, "Graph"),
        "opset_import": (8, "*Opset"), "metadata_props": (14, "*Entry"),
    },
    "Opset": {"domain": (1, "string"), "version": (2, "int")},
    "Entry": {"key": (1, "string"), "value": (2, "string")},
    "Graph": {
        "node": (1, "*Node"), "name": (2, "string"), "initializer": (5, "*Tensor"), "doc_string": (10, "string"),
        "input": (11, "*ValueInfo"), "output": (12, "*ValueInfo"), "value_info": (13, "*ValueInfo"),
    },
    "Node": {
        "input": (1, "*string"), "output": (2, "*string"), "name": (3, "string"), "op_type": (4, "string"),
        "attribute": (5, "*Attribute"), "doc_string": (6, "string"), "domain": (7, "string"),
    },
    "Attribute": {
        "name": (1, "string"), "f": (2, "float"), "i": (3, "int"), "s": (4, "bytes"), "floats": (7, "*float"),
        "ints": (8, "*int"), "type": (20, "int"),
    },
    "Tensor": {
        "dims": (1, "*int"), "data_type": (2, "int"), "name": (8, "string"), "raw_data": (9, "bytes"),
        "external_data": (13, "*Entry"), "data_location": (14, "int"),
    },
    "ValueInfo": {"name": (1, "string"), "type": (2, "Type")},
    "Type": {"tensor_type": (1, "TensorType")},
    "TensorType": {"elem_type": (1, "int"), "shape": (2, "TensorShape")},
    "TensorShape": {"dim": (1, "*Dimension")},
    "Dimension": {"dim_value": (1, "int"), "dim_param": (2, "string")},
}  # fmt: skip


@dataclass(frozen=True)
class Value:
    """An input or output of a graph."""

    name: str
    dtype: str
    shape: Shape


@dataclass(frozen=True)
class OnnxFile:
    """What a file says of itself."""

    ir_version: int
    opset: int
    producer: str
    metadata: dict[str, str]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    operators: dict[str, int]  # how often each occurs
    parameters: int  # numbers stored in floating-point tensors


def read(contents: bytes, name: str) -> OnnxFile:
    """Reads an ONNX file and makes sure that it is one that this project could have written.

    `name` stands for the file in messages.

    Raises:
        BundleError: says what was found and is refused.
    """
    if len(contents) > SIZE_LIMIT:
        raise BundleError(f"{name} has {len(contents):,} bytes; models of more than {SIZE_LIMIT:,} are not loaded")
    try:
        model = _decode("Model", memoryview(contents))
    except (ValueError, IndexError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{name} is no ONNX file that vae-serve loads, or is cut short: {error}") from error
    _refuse_unless(model.graph is not None and model.graph.output, name, "it has no graph with outputs")
    _refuse_unless(
        not any(tensor.external_data or tensor.data_location for tensor in model.graph.initializer),
        name,
        "it points to external data; weights stand in the file itself",
    )
    domains = {opset.domain: opset.version for opset in model.opset_import}
    _refuse_unless(set(domains) <= {"", "ai.onnx"} and len(domains) == 1, name, f"it imports the domains {[*domains]}")
    graph = _Graph(name)
    graph.run(model.graph)
    return OnnxFile(
        ir_version=model.ir_version,
        opset=next(iter(domains.values())),
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        metadata={entry.key: entry.value for entry in model.metadata_props},
        inputs=tuple(_value(one, name) for one in model.graph.input),
        outputs=tuple(_value(one, name) for one in model.graph.output),
        operators=graph.operators,
        parameters=graph.parameters,
    )


def read_tensor(contents: bytes, name: str) -> tuple[str, tuple[int, ...], bytes]:
    """Name, shape and little-endian data of an `onnx.TensorProto` file, the form of ONNX's own test data.

    Raises:
        BundleError: it is none, or declares another size than it stores.
    """
    try:
        tensor = _decode("Tensor", memoryview(contents))
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise BundleError(f"{name} is no tensor that vae-serve reads: {error}") from error
    _Graph(name).constant(tensor)
    return tensor.name, tuple(tensor.dims), tensor.raw_data


def _decode(message: str, view: memoryview) -> Any:
    return protobuf.decode(_MESSAGES, message, view)


def _refuse_unless(fine: bool, name: str, reason: str) -> None:
    if not fine:
        raise BundleError(f"{name} is refused: {reason}")


def _value(info: Any, name: str) -> Value:
    tensor = info.type and info.type.tensor_type
    _refuse_unless(bool(tensor and tensor.shape), name, f"{info.name} is no tensor with a shape")
    _refuse_unless(tensor.elem_type in DTYPES, name, f"{info.name} is of a type ({tensor.elem_type}) that is not used")
    shape = tuple(dim.dim_param or int(dim.dim_value) for dim in tensor.shape.dim)
    return Value(info.name, DTYPES[tensor.elem_type], shape)


@dataclass
class _Graph:
    """Shapes through a graph, the batch axis as the word "batch", which stands for 1 in sizes."""

    name: str
    shapes: dict[str, Shape] = field(default_factory=dict)
    integers: dict[str, list[int]] = field(default_factory=dict)  # small int64 constants: shapes, axes, sizes
    operators: dict[str, int] = field(default_factory=dict)
    parameters: int = 0

    def run(self, graph: Any) -> None:
        """Follows all nodes; raises BundleError where one is not as it should be."""
        _refuse_unless(len(graph.node) <= NODE_LIMIT, self.name, f"it has {len(graph.node):,} nodes")
        for tensor in graph.initializer:
            self.constant(tensor)
        for info in graph.input:
            value = _value(info, self.name)
            inside = value.shape[1:]
            fine = value.shape[:1] == ("batch",) and all(isinstance(size, int) and size > 0 for size in inside)
            _refuse_unless(fine, self.name, f"input {value.name} has shape {value.shape}, not (batch, ...)")
            self._put(info.name, value.shape)
        for node in graph.node:
            self._node(node)
        for info in graph.output:
            stated = _value(info, self.name).shape
            found = self.shapes.get(info.name)
            _refuse_unless(
                found == stated, self.name, f"output {info.name} is stated as {stated}, its graph makes {found}"
            )

    def constant(self, tensor: Any) -> None:
        """Takes note of a stored tensor whose declared and stored sizes agree."""
        dims = tuple(int(size) for size in tensor.dims)
        _refuse_unless(tensor.data_type in DTYPES, self.name, f"{tensor.name} is of type {tensor.data_type}")
        _refuse_unless(all(size >= 0 for size in dims), self.name, f"{tensor.name} has the shape {dims}")
        declared, stored = math.prod(dims) * ITEM_BYTES[tensor.data_type], len(tensor.raw_data)
        _refuse_unless(
            declared == stored, self.name, f"{tensor.name} declares {declared:,} bytes and stores {stored:,}"
        )
        if DTYPES[tensor.data_type] == "float32":
            self.parameters += math.prod(dims)
        if DTYPES[tensor.data_type] == "int64" and len(dims) <= 1 and math.prod(dims) <= 8:
            raw = tensor.raw_data
            starts = range(0, len(raw), 8)
            self.integers[tensor.name] = [int.from_bytes(raw[i : i + 8], "little", signed=True) for i in starts]
        self._put(tensor.name, dims)

    def _put(self, tensor: str, shape: Shape) -> None:
        _refuse_unless(tensor not in self.shapes and tensor != "", self.name, f"it defines {tensor!r} twice")
        size = math.prod(size for size in shape if isinstance(size, int))
        _refuse_unless(size <= ROW_LIMIT, self.name, f"{tensor} would have the shape {shape}, {size:,} numbers a row")
        self.shapes[tensor] = shape

    def _node(self, node: Any) -> None:
        kind = node.op_type
        where = f"{kind} {node.name}".strip()
        _refuse_unless(node.domain in ("", "ai.onnx"), self.name, f"{where} is of the domain {node.domain!r}")
        _refuse_unless(kind in OPERATORS, self.name, f"the operator {kind} is none that exports are made of")
        _refuse_unless(
            all(name in self.shapes for name in node.input if name), self.name, f"{where} reads what nobody has made"
        )
        self.operators[kind] = self.operators.get(kind, 0) + 1
        attributes = {one.name: list(one.ints) or one.i for one in node.attribute}
        try:
            outputs = OPERATORS[kind](_Call(self, list(node.input), attributes, len(node.output)))
        except (ValueError, IndexError, KeyError, TypeError) as error:
            raise BundleError(f"{self.name} is refused: {where} does not fit its inputs ({error})") from error
        for name, shape in zip(node.output, outputs, strict=True):
            self._put(name, shape)


@dataclass(frozen=True)
class _Call:
    """One node's inputs and attributes."""

    graph: _Graph
    inputs: list[str]
    attributes: dict[str, Any]
    outputs: int

    def shape(self, index: int) -> Shape:
        return self.graph.shapes[self.inputs[index]]

    def integers(self, index: int) -> list[int]:
        return self.graph.integers[self.inputs[index]]

    def sizes(self, index: int) -> tuple[int, ...]:
        """Of a constant, or of an input without its batch axis."""
        shape = self.shape(index)
        inside = shape[1:] if shape[:1] == ("batch",) else shape
        if not all(isinstance(size, int) for size in inside):
            raise ValueError(f"shape {shape}")
        return tuple(int(size) for size in inside)


def _same(call: _Call) -> list[Shape]:
    return [call.shape(0)]


def _broadcast(call: _Call) -> list[Shape]:
    shapes = [call.shape(index) for index in range(len(call.inputs))]
    rank = max(map(len, shapes))
    merged: list[int | str] = []
    for sizes in zip(*((1,) * (rank - len(shape)) + shape for shape in shapes), strict=True):
        several = {size for size in sizes if size != 1}
        if len(several) > 1:
            raise ValueError(f"shapes {shapes}")
        merged.append(several.pop() if several else 1)
    return [tuple(merged)]


def _matmul(call: _Call) -> list[Shape]:
    (rows, inner), (same, columns) = call.shape(0), call.shape(1)
    if inner != same or isinstance(columns, str):
        raise ValueError(f"shapes {call.shape(0)} and {call.shape(1)}")
    return [(rows, columns)]


def _gemm(call: _Call) -> list[Shape]:
    if call.attributes.get("transA"):
        raise ValueError("transA")
    inner, columns = call.sizes(1)[::-1] if call.attributes.get("transB") else call.sizes(1)
    if call.shape(0)[1:] != (inner,):
        raise ValueError(f"shapes {call.shape(0)} and {call.shape(1)}")
    return [(call.shape(0)[0], columns)]


def _window(call: _Call) -> tuple[list[int], list[int], list[int]]:
    """Strides, pads and kernel of a two-dimensional convolution; within bounds that no network here comes near."""
    _, _, *kernel = call.sizes(1)
    strides = call.attributes.get("strides", [1, 1])
    pads = call.attributes.get("pads", [0, 0, 0, 0])
    plain = call.attributes.get("group", 1) == 1 and call.attributes.get("dilations", [1, 1]) == [1, 1]
    shaped = (len(kernel), len(strides), len(pads)) == (2, 2, 4)
    if not (plain and shaped and all(1 <= s <= 64 for s in strides) and all(0 <= p <= 64 for p in pads)):
        raise ValueError("a window of this kind is not used")
    if call.attributes.get("kernel_shape", kernel) != kernel or {"output_shape", "output_padding"} & {*call.attributes}:
        raise ValueError("its attributes and its weights disagree")
    return strides, pads, kernel


def _conv(call: _Call) -> list[Shape]:
    strides, pads, kernel = _window(call)
    channels, *size = call.sizes(0)
    outputs, inputs, *_ = call.sizes(1)
    if channels != inputs:
        raise ValueError(f"{channels} channels where its weights have {inputs}")
    found = [(size[i] + pads[i] + pads[i + 2] - kernel[i]) // strides[i] + 1 for i in (0, 1)]
    return [("batch", outputs, *found)]


def _conv_transpose(call: _Call) -> list[Shape]:
    strides, pads, kernel = _window(call)
    channels, *size = call.sizes(0)
    inputs, outputs, *_ = call.sizes(1)
    if channels != inputs:
        raise ValueError(f"{channels} channels where its weights have {inputs}")
    found = [(size[i] - 1) * strides[i] + kernel[i] - pads[i] - pads[i + 2] for i in (0, 1)]
    return [("batch", outputs, *found)]


def _reshape(call: _Call) -> list[Shape]:
    first, *rest = call.integers(1)
    if first != -1 or math.prod(rest) != math.prod(call.sizes(0)) or min(rest, default=1) < 1:
        raise ValueError(f"{call.shape(0)} to {(first, *rest)}")
    return [("batch", *rest)]


def _transpose(call: _Call) -> list[Shape]:
    shape, order = call.shape(0), call.attributes["perm"]
    if order[0] != 0 or sorted(order) != list(range(len(shape))):
        raise ValueError(f"perm {order}")
    return [tuple(shape[axis] for axis in order)]


def _slice(call: _Call) -> list[Shape]:
    shape = list(call.shape(0))
    starts, ends = call.integers(1), call.integers(2)
    axes = call.integers(3) if len(call.inputs) > 3 else list(range(len(starts)))
    steps = call.integers(4) if len(call.inputs) > 4 else [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = shape[axis]
        if isinstance(size, str):
            if (start, step) != (0, 1) or end < 1 << 30:
                raise ValueError("it cuts the batch")
            continue
        shape[axis] = len(range(size)[slice(start, end, step)])
    return [tuple(shape)]


def _split(call: _Call) -> list[Shape]:
    shape, sizes = list(call.shape(0)), call.integers(1)
    axis = call.attributes.get("axis", 0) % len(shape)
    if axis == 0 or sum(sizes) != shape[axis] or min(sizes) < 1 or len(sizes) != call.outputs:
        raise ValueError(f"{shape} into {sizes}")
    return [(*shape[:axis], size, *shape[axis + 1 :]) for size in sizes]


OPERATORS: dict[str, Callable[[_Call], list[Shape]]] = {  # of the standard domain, and how each makes its shapes
    **dict.fromkeys(
        (
            "Relu",
            "Sigmoid",
            "Tanh",
            "LeakyRelu",
            "Elu",
            "Selu",
            "Softplus",
            "Neg",
            "Round",
            "Cast",
            "Identity",
            "DequantizeLinear",
        ),
        _same,
    ),
    **dict.fromkeys(("Add", "Mul", "Max", "Min", "Sub", "Div"), _broadcast),
    "DequantizeLinear": _same,
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Slice": _slice,
    "Split": _split,
}
