"""What our reader infers of a graph, ONNX and ONNX Runtime find too."""

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st
from onnx import ModelProto, helper, numpy_helper

from tests.export.conftest import PACKAGED
from tests.model.agreement import agrees, with_all_outputs
from tests.model.onnx_nodes import FLOAT, INT32, INT64, UINT8, Node, floats, ints
from vae_serve.errors import BundleError
from vae_serve.model import onnx as contract


def chain(inside: tuple[int, ...], *nodes: Node, elem_type: int = FLOAT, opset: int = 13) -> ModelProto:
    """Nodes after one another; every node's outputs are the graph's, with the shapes that ONNX itself infers."""
    made, stored, last, before = [], [], "x", {"x"}
    for number, (operator, more, attributes) in enumerate(nodes):
        names = [last]
        for slot, item in enumerate(more):
            if isinstance(item, str):
                names.append(item)
                continue
            names.append(f"w{number}.{slot}")
            stored.append(numpy_helper.from_array(np.asarray(item), names[-1]))
        parts = len(more[0]) if operator == "Split" else 1
        outputs = [f"y{number}"] + [f"y{number}.{part}" for part in range(1, parts)]
        made.append(helper.make_node(operator, names, outputs, **attributes))
        before.update(outputs)
        last = outputs[0]
    port = helper.make_tensor_value_info("x", elem_type, ("batch", *inside))
    graph = helper.make_graph(made, "g", [port], [], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = helper.find_min_ir_version_for(model.opset_import)
    return with_all_outputs(model)


def read(model: ModelProto) -> contract.OnnxFile:
    return contract.read(model.SerializeToString(), "graph.onnx")


ACCEPTED: dict[str, Any] = {
    "unary": ((3,), [(name, [], {}) for name in ("Relu", "Sigmoid", "Tanh", "Softplus", "Neg", "Round", "Identity")]),
    "with slopes": (
        (3,),
        [
            ("LeakyRelu", [], {"alpha": 0.2}),
            ("Elu", [], {"alpha": 0.5}),
            ("Selu", [], {"alpha": 1.5, "gamma": 1.1}),
        ],
    ),
    "arithmetic": (
        (2, 3),
        [
            ("Add", [floats(3)], {}),
            ("Mul", [floats(1, 2, 1)], {}),
            ("Max", [np.float32(0)], {}),
            ("Min", ["x"], {}),
            ("Sub", [floats(1)], {}),
            ("Div", [floats(2, 3) + 3], {}),
        ],
    ),
    "a map from a vector": ((1, 1), [("Add", [floats(4, 1)], {}), ("Add", [floats(1, 1, 5)], {})]),
    "products": (
        (4,),
        [
            ("MatMul", [floats(4, 6)], {}),
            ("Gemm", [floats(6, 5), floats(5)], {}),
            ("Gemm", [floats(3, 5), floats(1, 3)], {"transB": 1, "alpha": 0.5, "beta": 2.0}),
            ("Gemm", [floats(3, 2)], {}),
        ],
    ),
    "convolutions": (
        (3, 9, 8),
        [
            (
                "Conv",
                [floats(4, 3, 3, 2), floats(4)],
                {"strides": [2, 1], "pads": [1, 0, 1, 1], "kernel_shape": [3, 2], "group": 1, "dilations": [1, 1]},
            ),
            ("Conv", [floats(17, 4, 1, 1)], {}),
            ("ConvTranspose", [floats(17, 2, 3, 4), floats(2)], {"strides": [2, 3], "pads": [1, 0, 0, 2]}),
            ("ConvTranspose", [floats(2, 1, 1, 1)], {"auto_pad": "NOTSET", "dilations": [1, 1]}),
        ],
    ),
    "shapes": (
        (4, 6),
        [
            ("Reshape", [ints(-1, 2, 2, 6)], {}),
            ("Transpose", [], {"perm": [0, 3, 1, 2]}),
            ("Slice", [ints(0, 1), ints(1 << 31, 6), ints(0, 1), ints(1, 2)], {}),
            ("Slice", [ints(-2), ints(1 << 40), ints(-1)], {}),
            ("Slice", [ints(0, 0), ints(1 << 31, -1)], {}),
            ("Split", [ints(1, 1)], {"axis": -1}),
        ],
    ),
    "types": (
        (2, 2),
        [("Cast", [], {"to": kind}) for kind in (FLOAT, INT32, INT64, UINT8, FLOAT)]
        + [("Clip", [np.float32(0), np.float32(1)], {}), ("Clip", ["", np.float32(1)], {}), ("Clip", [], {})],
    ),
    "bytes": (
        (2, 2),
        [
            ("QuantizeLinear", [np.float32(1 / 255), np.uint8(0)], {}),
            ("DequantizeLinear", [np.float32(1 / 255), np.uint8(0)], {}),
            ("QuantizeLinear", [np.float32(0.5)], {}),
            ("DequantizeLinear", [np.float32(0.5)], {}),
            ("Reshape", [ints(-1, 4)], {}),
        ],
    ),
}


@pytest.mark.parametrize("opset", [13, 18, 21])
@pytest.mark.parametrize("case", ACCEPTED)
def test_an_operator_makes_what_onnx_infers_and_onnx_runtime_computes(case, opset):
    inside, nodes = ACCEPTED[case]
    model = chain(inside, *nodes, opset=opset)
    agrees(model, read(model))


@pytest.mark.parametrize("role", ["encoder", "decoder"])
def test_every_tensor_of_a_shipped_network_has_the_inferred_shape(role):
    model = with_all_outputs(onnx.load(PACKAGED / f"{role}.onnx"))
    file = read(model)
    assert len(file.outputs) == sum(len(node.output) for node in model.graph.node)
    agrees(model, file)


SIZES = st.integers(1, 5)


@st.composite
def nodes(draw: st.DrawFn) -> Node:
    """Any operator with any small constant, fitting or not."""

    def constant(rank: int) -> np.ndarray:
        return floats(*draw(st.lists(SIZES, min_size=rank, max_size=rank)))

    small = st.integers(-2, 5)
    return draw(
        st.one_of(
            st.sampled_from([(name, [], {}) for name in ("Relu", "Sigmoid", "Round", "Identity", "Softplus")]),
            st.builds(lambda to: ("Cast", [], {"to": to}), st.sampled_from([FLOAT, UINT8, INT32, INT64])),
            st.builds(
                lambda name, rank: (name, [constant(rank)], {}),
                st.sampled_from(["Add", "Mul", "Max", "Sub"]),
                st.integers(0, 5),
            ),
            st.builds(lambda name: (name, ["x"], {}), st.sampled_from(["Add", "Min"])),
            st.builds(lambda: ("MatMul", [constant(2)], {})),
            st.builds(lambda trans: ("Gemm", [constant(2)], {"transB": trans}), st.integers(0, 1)),
            st.builds(
                lambda name, strides, pads: (name, [constant(4)], {"strides": strides, "pads": pads}),
                st.sampled_from(["Conv", "ConvTranspose"]),
                st.lists(st.integers(1, 3), min_size=2, max_size=2),
                st.lists(st.integers(0, 3), min_size=4, max_size=4),
            ),
            st.builds(lambda sizes: ("Reshape", [ints(-1, *sizes)], {}), st.lists(SIZES, min_size=0, max_size=4)),
            st.builds(lambda perm: ("Transpose", [], {"perm": [0, *perm]}), st.permutations([1, 2, 3])),
            st.builds(lambda perm: ("Transpose", [], {"perm": perm}), st.permutations([0, 1, 2])),
            st.builds(
                lambda start, end, axis, step: ("Slice", [ints(start), ints(end), ints(axis), ints(step)], {}),
                small,
                st.one_of(small, st.just(1 << 40)),
                small,
                st.integers(-1, 3),
            ),
            st.builds(
                lambda sizes, axis: ("Split", [ints(*sizes)], {"axis": axis}), st.lists(SIZES, min_size=1), small
            ),
            st.just(("QuantizeLinear", [np.float32(0.1), np.uint8(3)], {})),
            st.just(("DequantizeLinear", [np.float32(0.1), np.uint8(3)], {})),
        )
    )


@settings(max_examples=400, deadline=None)
@given(
    inside=st.one_of(st.lists(SIZES, min_size=1, max_size=1), st.lists(SIZES, min_size=3, max_size=3)),
    steps=st.lists(nodes(), min_size=1, max_size=12),
)
def test_what_is_accepted_of_any_graph_onnx_runtime_computes_in_the_inferred_shapes(inside, steps):
    """Grown node by node, as long as ONNX and our reader take it."""
    kept: list[Node] = []
    for step in steps:
        try:
            model = chain(tuple(inside), *kept, step)
        except Exception:  # noqa: BLE001  ONNX's inference raises many kinds, ValueErrors of protobuf among them
            continue
        try:
            file = read(model)
        except BundleError:
            continue
        kept.append(step)
        last = (model, file)
    assume(kept)
    event(f"{len(kept)} nodes")
    agrees(*last)
