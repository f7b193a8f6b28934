"""An ONNX file read and checked before any runtime sees it: the graph, its memory, its metadata."""

import math
from typing import Any

import msgspec

from vae_serve.errors import BundleError
from vae_serve.model.memory import CallMemory
from vae_serve.model.onnx import messages
from vae_serve.model.onnx.operators import OPERATORS, Call, NodeResult, Operator
from vae_serve.model.onnx.tensors import Shape, Tensor, checked_name, port, stored_tensor

SIZE_LIMIT = 1 << 30  # bytes of a file
ROW_LIMIT = 192 << 20  # bytes of a call of one row, more is refused: the small network for 512 x 512 pixels takes 161
PACKED_LIMIT = 1 << 25  # bytes that packing may add to the stored weights
NODE_LIMIT = 2_000
OPSETS = range(13, 29)  # whose operators `operators` has been written for
IR_VERSIONS = range(7, 15)  # opset 13 came with 7; before 4, constants were inputs


class Value(msgspec.Struct, frozen=True):
    """An input or output of a graph."""

    name: str
    dtype: str
    shape: Shape


class OnnxFile(msgspec.Struct, frozen=True):
    """What a file says of itself, and what running it takes."""

    ir_version: int
    opset: int
    producer: str
    metadata: dict[str, str]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    operators: dict[str, int]  # how often each occurs
    parameters: int  # numbers stored in floating-point tensors
    constant_bytes: int  # of the stored tensors, and of the weights as ONNX Runtime packs them
    call_bytes: int  # that a call takes whatever its batch: the working memory of the convolution that needs most
    row_bytes: int  # that each row of a call takes: all tensors together, none of them freed

    @property
    def memory(self) -> CallMemory:
        """What a call takes."""
        return CallMemory(self.call_bytes, self.row_bytes)


def read(contents: bytes | memoryview, name: str) -> OnnxFile:
    """Reads an ONNX file and makes sure that it is one that this project could have written.

    `name` stands for the file in messages.

    Raises:
        BundleError: says what is refused and why.
    """
    if len(contents) > SIZE_LIMIT:
        raise BundleError(f"{name} has {len(contents):,} bytes; models of more than {SIZE_LIMIT:,} are not loaded")
    try:
        model = messages.decode("Model", contents)
    except ValueError as error:
        raise BundleError(f"{name} is not an ONNX file that vae-serve loads, or is cut short: {error}") from error
    try:
        return _judged(model)
    except ValueError as error:
        raise BundleError(f"{name} is refused: {error}") from error


def read_tensor(contents: bytes | memoryview, name: str) -> tuple[str, tuple[int, ...], bytes]:
    """Name, shape and little-endian data of an `onnx.TensorProto` file, the form of ONNX's own test data.

    Raises:
        BundleError: it is none, or declares another size than it stores.
    """
    try:
        tensor_name, tensor = stored_tensor(messages.decode("Tensor", contents))
    except ValueError as error:
        raise BundleError(f"{name} is not a tensor that vae-serve reads: {error}") from error
    return tensor_name, tensor.inside, bytes(tensor.stored or b"")


def _judged(model: Any) -> OnnxFile:
    graph = model.graph
    _require(graph is not None and bool(graph.output), "it has no graph with outputs")
    imports = [(opset.domain or "", opset.version) for opset in model.opset_import]
    _require(
        len(imports) == 1 and imports[0][0] == "" and imports[0][1] in OPSETS,
        f"it imports {imports[:4]!r:.120}, not one of the opsets {OPSETS[0]} to {OPSETS[-1]} of ONNX alone",
    )
    _require(model.ir_version in IR_VERSIONS, f"it is of IR version {model.ir_version}")
    metadata = {entry.key or "": entry.value or "" for entry in model.metadata_props}
    _require(len(metadata) == len(model.metadata_props), "one of its metadata is stated twice")
    _require(len(graph.input) == 1, f"it has {len(graph.input)} inputs; a bundle's networks have one")
    walk = _Walk()
    inputs, outputs = walk.run(graph)
    return OnnxFile(
        ir_version=model.ir_version,
        opset=imports[0][1],
        producer=f"{model.producer_name or ''} {model.producer_version or ''}".strip(),
        metadata=metadata,
        inputs=inputs,
        outputs=outputs,
        operators=walk.operators,
        parameters=walk.parameters,
        constant_bytes=walk.stored_bytes + walk.packed_bytes,
        call_bytes=walk.call_bytes,
        row_bytes=walk.row_bytes,
    )


def _require(fine: bool, reason: str) -> None:
    if not fine:
        raise ValueError(reason)


class _Walk(msgspec.Struct):
    """Follows a graph node by node, from its input and its stored tensors to its outputs."""

    tensors: dict[str, Tensor] = msgspec.field(default_factory=dict)
    operators: dict[str, int] = msgspec.field(default_factory=dict)
    parameters: int = 0
    stored_bytes: int = 0
    packed_bytes: int = 0
    call_bytes: int = 0
    row_bytes: int = 0

    def run(self, graph: Any) -> tuple[tuple[Value, ...], tuple[Value, ...]]:
        """Inputs and outputs; raises ValueError where anything is not as it should be."""
        _require(len(graph.node) <= NODE_LIMIT, f"it has {len(graph.node):,} nodes; at most {NODE_LIMIT:,} are read")
        for message in graph.initializer:
            name, tensor = stored_tensor(message)
            self._add(name, tensor)
            self.stored_bytes += tensor.bytes
            if tensor.dtype == "float32":
                self.parameters += math.prod(tensor.inside)
        inputs = [port(message) for message in graph.input]
        for name, tensor in inputs:
            self._add(name, tensor)
        computed: set[str] = set()
        for node in graph.node:
            computed.update(self._node(node))
        outputs = [port(message) for message in graph.output]
        for name, tensor in outputs:
            _require(name in computed, f"its output {name} is made by no node")
            _require(
                self.tensors[name] == tensor,
                f"its output {name} is stated as {tensor}, its graph makes {self.tensors[name]}",
            )
        _require(len(dict(outputs)) == len(outputs), "it states an output twice")
        return tuple(_value(*port) for port in inputs), tuple(_value(*port) for port in outputs)

    def _add(self, name: str, tensor: Tensor) -> None:
        _require(name not in self.tensors, f"it defines {name} twice")
        self.tensors[name] = tensor
        if tensor.stored is None:
            self._count_row(tensor.row_bytes, f"{name} of {tensor.shape}")

    def _count_row(self, size: int, what: str) -> None:
        self.row_bytes += size
        needed = self.row_bytes + self.call_bytes
        if needed > ROW_LIMIT:
            raise ValueError(f"with {what} it would take {needed:,} bytes for one row; at most {ROW_LIMIT:,} are given")

    def _node(self, node: Any) -> list[str]:
        """Its outputs' names."""
        kind = node.op_type or ""
        _require(not node.domain, f"an operator is of the domain {(node.domain or '')[:80]!r}")
        _require(kind in OPERATORS, f"the operator {kind[:80]!r} is none that exports are made of")
        operator = OPERATORS[kind]
        self.operators[kind] = self.operators.get(kind, 0) + 1
        names = [checked_name(name) for name in node.output]
        where = f"{kind} that makes {names[0] if names else 'nothing'}"
        try:
            result = operator.make(self._call(operator, node))
        except ValueError as error:
            raise ValueError(f"{where} does not fit its inputs: {error}") from error
        _require(len(result.outputs) == len(names), f"{where} has {len(names)} outputs, not {len(result.outputs)}")
        self._count(result, node, where)
        for name, tensor in zip(names, result.outputs, strict=True):
            self._add(name, tensor)
        return names

    def _count(self, result: NodeResult, node: Any, where: str) -> None:
        self.call_bytes = max(self.call_bytes, result.call_bytes)  # given back before the next node
        self._count_row(result.layout_bytes, f"the working memory of {where}")
        # The runtime may keep a copy of a constant for each node that reads it, in a layout of that node's own
        stored = [self.tensors[name] for name in node.input if name and self.tensors[name].stored is not None]
        self.packed_bytes += max(result.weight_bytes, sum(tensor.bytes for tensor in stored))
        added = self.packed_bytes - self.stored_bytes
        _require(
            added <= PACKED_LIMIT, f"with {where}, packing its weights would take {added:,} bytes more than they have"
        )

    def _call(self, operator: Operator, node: Any) -> Call:
        least, most = operator.inputs
        if not least <= len(node.input) <= most:
            raise ValueError(f"{len(node.input)} inputs where {least} to {most} belong")
        inputs: list[Tensor | None] = []
        for index, name in enumerate(node.input):
            if not name and index in operator.may_omit:
                inputs.append(None)
                continue
            if name not in self.tensors:
                raise ValueError(f"{name[:80]!r} is made by no node before it")
            inputs.append(self.tensors[name])
        if all(tensor is None or tensor.stored is not None for tensor in inputs):
            raise ValueError("it computes a constant, which a converter does before it writes a file")
        attributes = dict(_attribute(message, operator) for message in node.attribute)
        if len(attributes) != len(node.attribute):
            raise ValueError("an attribute occurs twice")
        return Call(tuple(inputs), attributes, len(node.output))


_ATTRIBUTE_TYPES = {1: "f", 2: "i", 3: "s", 6: "floats", 7: "ints"}  # AttributeProto.AttributeType


def _attribute(message: Any, operator: Operator) -> tuple[str, Any]:
    """Name and value, which is of the type that is stated and that the operator takes."""
    name = message.name or ""
    if name not in operator.attributes:
        raise ValueError(f"the attribute {name[:80]!r} is not used")
    stated = _ATTRIBUTE_TYPES.get(message.type, "")
    filled = [member for member in ("f", "i", "s") if getattr(message, member) is not None]
    filled += [member for member in ("floats", "ints") if getattr(message, member)]
    if not filled == [stated] == [operator.attributes[name]]:
        raise ValueError(f"the attribute {name} is of the type {message.type} and holds {filled}")
    value = getattr(message, stated)
    if stated == "f" and not math.isfinite(value):
        raise ValueError(f"the attribute {name} is {value}")
    if stated == "s":
        return name, bytes(value[:80])
    return name, tuple(value) if stated == "ints" else value


def _value(name: str, tensor: Tensor) -> Value:
    return Value(name, tensor.dtype, tensor.shape)
