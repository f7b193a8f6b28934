"""A graph that could take more than it says, in rows or in memory, is refused."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from tests.model.onnx_nodes import FLOAT, INT32, INT64, STRING, UINT8, Node, floats, ints
from vae_serve.errors import BundleError
from vae_serve.model import onnx as contract


def small(*steps: Node, inside: tuple[int, ...] = (4,), change: Callable[[ModelProto], None] | None = None) -> bytes:
    """A chain whose last tensor is the output, not inferred by ONNX, so that anything can be written into it."""
    made, stored, last = [], [], "x"
    for number, (operator, more, attributes) in enumerate(steps):
        names = [last]
        for slot, item in enumerate(more):
            names.append(item if isinstance(item, str) else f"w{number}.{slot}")
            if not isinstance(item, str):
                stored.append(numpy_helper.from_array(np.asarray(item), names[-1]))
        made.append(helper.make_node(operator, names, [f"y{number}"], **attributes))
        last = f"y{number}"
    ports = [helper.make_tensor_value_info(name, FLOAT, ("batch", *inside)) for name in ("x", last)]
    model = helper.make_model(helper.make_graph(made, "g", ports[:1], ports[1:], stored))
    model.opset_import[0].version, model.ir_version = 13, 7
    if change:
        change(model)
    return model.SerializeToString()


def attribute(name: str, **members: Any) -> Callable[[ModelProto], None]:
    """Adds an attribute, of any members, to the first node."""

    def change(model: ModelProto) -> None:
        added = model.graph.node[0].attribute.add(name=name)
        for member, value in members.items():
            if isinstance(value, list):
                getattr(added, member).extend(value)
            else:
                setattr(added, member, value)

    return change


def first_dim(**members: Any) -> Callable[[ModelProto], None]:
    """Another first axis for the input."""

    def change(model: ModelProto) -> None:
        dim = model.graph.input[0].type.tensor_type.shape.dim[0]
        dim.Clear()
        for member, value in members.items():
            setattr(dim, member, value)

    return change


def add(model: ModelProto, name: str, shape: tuple[int, ...] = (4,)) -> None:
    """Another constant."""
    model.graph.initializer.append(numpy_helper.from_array(floats(*shape), name))


RELU: Node = ("Relu", [], {})
ELU: Node = ("Elu", [], {})
CONV: Node = ("Conv", [floats(2, 1, 1, 1)], {})
PICTURE = {"inside": (1, 4, 4)}
REFUSED: dict[str, tuple[bytes, str]] = {
    # the batch stays the first axis, and meets only itself
    "an axis of another name": (small(RELU, change=first_dim(dim_param="n")), r"shape \['n', 4\]"),
    "a fixed batch": (small(RELU, change=first_dim(dim_value=1)), "shape"),
    "an axis of no size": (small(RELU, change=first_dim()), "shape"),
    "an axis of no name": (small(RELU, change=first_dim(dim_param="")), "shape"),
    "a size of 0": (small(RELU, inside=(0,)), "shape"),
    "a negative size": (small(RELU, inside=(-4,)), "shape"),
    "a second batch axis": (
        small(RELU, change=lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[1], "dim_param", "batch")),
        "shape",
    ),
    "the batch made a vector": (small(("Reshape", [ints(-1)], {}), inside=(1,)), "Reshape"),
    "the batch moved to the second axis": (small(("Reshape", [ints(1, -1, 4)], {})), "Reshape"),
    "a batch of a size": (small(("Reshape", [ints(2, 4)], {})), "Reshape"),
    "a copied batch": (small(("Reshape", [ints(0, 4)], {})), "Reshape"),
    "another product": (small(("Reshape", [ints(-1, 3)], {})), "Reshape"),
    "a constant with a batch of its own": (small(("Add", [floats(2, 4)], {})), "batch its axis"),
    "a constant of more axes": (small(("Add", [floats(1, 1, 4)], {})), "batch its axis"),
    "outer sums": (small(("Reshape", [ints(-1, 4, 1)], {}), ("Add", ["x"], {})), "batch its axis"),
    "a batch that is turned away": (small(("Transpose", [], {"perm": [1, 0]})), "perm"),
    "an order that repeats": (small(("Transpose", [], {"perm": [0, 0]})), "perm"),
    "no order": (small(("Transpose", [], {})), "perm"),
    "a cut of the batch": (small(("Slice", [ints(1), ints(1 << 40), ints(0)], {})), "cuts the batch"),
    "the end of the batch": (small(("Slice", [ints(0), ints(100), ints(0)], {})), "cuts the batch"),
    "every second row": (small(("Slice", [ints(0), ints(1 << 40), ints(-2), ints(2)], {})), "cuts the batch"),
    "a split of the batch": (small(("Split", [ints(4)], {"axis": 0})), "Split"),
    "a split of the batch from behind": (small(("Split", [ints(4)], {"axis": -2})), "Split"),
    # sizes
    "steps backwards": (small(("Slice", [ints(-1), ints(-(1 << 40)), ints(1), ints(-1)], {})), "Slice"),
    "no step": (small(("Slice", [ints(0), ints(4), ints(1), ints(0)], {})), "Slice"),
    "nothing left": (small(("Slice", [ints(2), ints(2), ints(1)], {})), "nothing is left"),
    "an axis cut twice": (small(("Slice", [ints(0, 0), ints(2, 2), ints(1, -1)], {})), "twice"),
    "an axis that is not there": (small(("Slice", [ints(0), ints(2), ints(2)], {})), "axis 2"),
    "a kernel larger than its map": (small(("Conv", [floats(1, 1, 5, 5)], {}), **PICTURE), "result would be"),
    "pads that leave nothing": (
        small(("ConvTranspose", [floats(1, 1, 1, 1)], {"pads": [0, 2, 0, 2]}), **PICTURE),
        "result would be",
    ),
    "negative pads": (small(("Conv", [floats(1, 1, 1, 1)], {"pads": [-1] * 4}), **PICTURE), "window"),
    "a part of nothing": (small(("Split", [ints(4, 0)], {"axis": 1})), "Split"),
    "an empty constant": (small(("Add", [floats(0)], {})), "shape"),
    # attributes
    "auto_pad": (small(("Conv", [floats(1, 1, 1, 1)], {"auto_pad": "SAME_UPPER"}), **PICTURE), "window"),
    "groups": (small(("Conv", [floats(1, 1, 1, 1)], {"group": 2}), **PICTURE), "window"),
    "dilations": (small(("Conv", [floats(1, 1, 1, 1)], {"dilations": [2, 2]}), **PICTURE), "window"),
    "output_shape": (
        small(("ConvTranspose", [floats(1, 1, 1, 1)], {"output_shape": [9, 9]}), **PICTURE),
        "'output_shape' is not used",
    ),
    "output_padding": (
        small(("ConvTranspose", [floats(1, 1, 1, 1)], {"output_padding": [1, 1]}), **PICTURE),
        "'output_padding' is not used",
    ),
    "allowzero": (small(("Reshape", [ints(-1, 4)], {"allowzero": 1})), "'allowzero' is not used"),
    "axes as attributes": (small(("Relu", [], {"axes": [1]})), "'axes' is not used"),
    "an attribute twice": (small(("Elu", [], {"alpha": 1.0}), change=attribute("alpha", f=2.0, type=1)), "twice"),
    "an attribute of two values": (small(ELU, change=attribute("alpha", f=1.0, i=1, type=1)), "holds"),
    "an attribute of a list beside": (small(ELU, change=attribute("alpha", f=1.0, ints=[1], type=1)), "holds"),
    "an attribute of another type": (small(ELU, change=attribute("alpha", i=1, type=2)), "holds"),
    "an attribute that states another type": (small(ELU, change=attribute("alpha", f=1.0, type=2)), "holds"),
    "an attribute of no type": (small(ELU, change=attribute("alpha", f=1.0)), "holds"),
    "an attribute of no value": (small(ELU, change=attribute("alpha", type=1)), "holds"),
    "an attribute that is not finite": (small(("Elu", [], {"alpha": float("nan")})), "nan"),
    # types
    "a cast to strings": (small(("Cast", [], {"to": STRING})), "type 8"),
    "a cast to doubles": (small(("Cast", [], {"to": TensorProto.DOUBLE})), "type 11"),
    "a cast to nothing": (small(("Cast", [], {})), "type None"),
    "integers to an activation": (small(("Cast", [], {"to": INT32}), RELU), "float32 belongs"),
    "integers added": (small(("Cast", [], {"to": INT64}), ("Add", [ints(1)], {})), "float32 belongs"),
    "an output of another type": (
        small(RELU, change=lambda m: setattr(m.graph.output[0].type.tensor_type, "elem_type", UINT8)),
        "is stated as",
    ),
    "an output of another shape": (
        small(RELU, change=lambda m: setattr(m.graph.output[0].type.tensor_type.shape.dim[1], "dim_value", 5)),
        "is stated as",
    ),
    "a scale of no sign": (small(("QuantizeLinear", [np.float32(0), np.uint8(0)], {})), "above 0"),
    "a scale for each": (small(("QuantizeLinear", [floats(4), np.uint8(0)], {})), "scalar"),
    "a signed zero point": (small(("QuantizeLinear", [np.float32(1), np.int8(0)], {})), "type"),
    # constants
    "a computed constant": (
        small(RELU, change=lambda m: add(m, "w") or m.graph.node.append(helper.make_node("Relu", ["w"], ["v"]))),
        "computes a constant",
    ),
    "a convolution of a constant": (
        small(CONV, change=lambda m: add(m, "w", (1, 1, 4, 4)) or m.graph.node[0].input.__setitem__(0, "w"), **PICTURE),
        "computes a constant",
    ),
    "a product of two constants": (
        small(RELU, change=lambda m: add(m, "w", (4, 4)) or m.graph.node.add(op_type="MatMul", input="ww", output="v")),
        "computes a constant",
    ),
    "a convolution of a constant by the batch": (
        small(
            CONV, change=lambda m: add(m, "w", (1, 1, 4, 4)) or m.graph.node[0].input.__setitem__(slice(2), ["w", "x"])
        ),
        "a stored float32 tensor belongs",
    ),
    "computed weights": (small(("MatMul", ["x"], {})), "a stored float32"),
    "a constant as output": (
        small(RELU, change=lambda m: add(m, "w") or setattr(m.graph.output[0], "name", "w")),
        "made by no node",
    ),
    "the input as output": (small(RELU, change=lambda m: setattr(m.graph.output[0], "name", "x")), "made by no node"),
    "a constant in place of the input": (small(RELU, change=lambda m: add(m, "x")), "defines x twice"),
    # names and numbers of things
    "an output twice": (
        small(RELU, change=lambda m: m.graph.output.add().CopyFrom(m.graph.output[0])),
        "states an output twice",
    ),
    "a tensor made twice": (
        small(RELU, RELU, change=lambda m: m.graph.node[1].output.__setitem__(0, "y0")),
        "y0 twice",
    ),
    "nodes out of order": (
        small(("Relu", [], {}), change=lambda m: m.graph.node[0].input.__setitem__(0, "y9")),
        "'y9'",
    ),
    "an input left out": (small(("Add", [""], {})), "'' is made by no node"),
    "a name with an escape sequence": (
        small(RELU, change=lambda m: m.graph.node[0].output.append("\x1b[2J")),
        r"named '\\x1b\[2J'",
    ),
    "too few inputs": (small(("Add", [], {})), "1 inputs where 2 to 2"),
    "too many inputs": (small(("Max", [floats(4), floats(4)], {})), "3 inputs where 2 to 2"),
    "too many outputs": (small(RELU, change=lambda m: m.graph.node[0].output.append("z")), "has 2 outputs"),
    "no outputs": (small(RELU, RELU, change=lambda m: m.graph.node[1].ClearField("output")), "has 0 outputs"),
    "an operator of ONNX Runtime's own": (
        small(RELU, change=lambda m: setattr(m.graph.node[0], "domain", "com.microsoft")),
        "com.microsoft",
    ),
    "opsets twice": (
        small(RELU, change=lambda m: m.opset_import.append(helper.make_opsetid("", 21))),
        "it imports",
    ),
    "the same opset by two names": (
        small(RELU, change=lambda m: m.opset_import.append(helper.make_opsetid("ai.onnx", 13))),
        "it imports",
    ),
    "an old opset": (small(RELU, change=lambda m: setattr(m.opset_import[0], "version", 12)), "opsets 13 to"),
    "an opset of the future": (small(RELU, change=lambda m: setattr(m.opset_import[0], "version", 99)), "opsets 13 to"),
    "an IR version whose constants are inputs": (
        small(RELU, change=lambda m: setattr(m, "ir_version", 3)),
        "IR version",
    ),
    "metadata twice": (
        small(RELU, change=lambda m: [m.metadata_props.add(key="k", value=value) for value in "ab"] and None),
        "metadata is stated twice",
    ),
    "stated shapes of inner tensors": (
        small(RELU, change=lambda m: m.graph.value_info.add().CopyFrom(m.graph.output[0])),
        "field 13",
    ),
    "two inputs": (
        small(RELU, change=lambda m: m.graph.input.add(name="more").type.CopyFrom(m.graph.input[0].type)),
        "2 inputs",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_graph_that_could_take_more_than_it_says_is_refused(case):
    contents, words = REFUSED[case]
    with pytest.raises(BundleError, match=words):
        contract.read(contents, "graph.onnx")


SUM: tuple[Node, ...] = (
    ("Reshape", [ints(-1, 1, 1, 1)], {}),
    ("Add", [floats(512, 1)], {}),
    ("Add", [floats(512)], {}),
)
SQUARE = floats(512, 512)
TOO_MUCH: dict[str, tuple[bytes, str]] = {
    "one tensor": (small(*SUM, ("Add", [floats(200, 1, 1)], {}), inside=(1,)), "for one row"),
    "all tensors together": (small(*SUM, *[RELU] * 40, inside=(1,)), "for one row"),
    "the working memory of a convolution": (
        small(*SUM, ("Conv", [floats(1, 1, 20, 20)], {"pads": [10] * 4}), inside=(1,)),
        "working memory of Conv",
    ),
    "the working memory of a transposed convolution": (
        small(*SUM, ("ConvTranspose", [floats(1, 1, 20, 20)], {"pads": [9] * 4}), inside=(1,)),
        "working memory of ConvTranspose",
    ),
    "one column filled up to sixteen": (small(("MatMul", [floats(1 << 20, 1)], {}), inside=(1 << 20,)), "packing its"),
    "weights that many nodes share": (
        small(("MatMul", [SQUARE], {}), *[("MatMul", ["w0.0"], {})] * 40, inside=(512,)),
        "packing its",
    ),
    "a map that many nodes share": (
        small(("Add", [floats(1 << 20)], {}), *[("Add", ["w0.0"], {})] * 20, inside=(1 << 20,)),
        "packing its",
    ),
    "many nodes": (small(*[RELU] * 2001), "2,001 nodes"),
}


@pytest.mark.parametrize("case", TOO_MUCH)
def test_a_graph_that_takes_too_much_memory_is_refused_with_the_figures(case):
    contents, words = TOO_MUCH[case]
    with pytest.raises(BundleError, match=words):
        contract.read(contents, "graph.onnx")


def test_the_largest_batch_is_what_fits_and_at_least_one():
    file = contract.read(small(RELU, inside=(1 << 20,)), "graph.onnx")
    assert file.row_bytes == 2 * (4 << 20)  # what it reads and what it makes
    assert [file.memory.largest_batch(limit) for limit in (0, 16 << 20, (24 << 20) - 1)] == [1, 2, 2]
    assert file.memory.of(3) == file.call_bytes + 3 * file.row_bytes


def test_constants_are_counted_as_stored_and_as_packed():
    file = contract.read(small(("MatMul", [floats(4, 4)], {})), "graph.onnx")
    assert file.constant_bytes == 4 * 4 * 4 + 4 * 4 * 16
