"""A network becomes an ONNX file: one conversion path, canonical names and order, hence reproducible bytes."""

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import tf2onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper, version_converter

from vae_serve import __version__
from vae_serve.errors import UsageError
from vae_serve.exporting.convert.signature import serving_function
from vae_serve.exporting.network import Network
from vae_serve.model import onnx as contract
from vae_serve.model.manifest import GraphSpec, TensorSpec

# The default, and what every export is converted with first. Nothing in these graphs needs a newer one, and the older
# the opset, the more web and mobile runtimes read it; 13 brings IR version 7.
OPSET = 13
NEWEST_OPSET = min(onnx.defs.onnx_opset_version(), contract.OPSETS[-1])

PRODUCER = "vae-serve"


def to_onnx(network: Network, spec: GraphSpec, opset: int, metadata: dict[str, str]) -> bytes:
    """The bytes of an ONNX file with the inputs and outputs of `spec`, in that order, and one symbolic axis `batch`.

    The same weights give the same bytes in every process: nodes stand in the order in which the outputs need them and
    are named after it; nothing of TensorFlow's own names, which differ from process to process, is left.

    Raises:
        UsageError: an opset that cannot be had.
        BundleError: the graph needs what no bundle may have, such as a random operator; names it.
    """
    check_opset(opset)
    contents = bytes(convert(network, spec, opset, metadata).SerializeToString(deterministic=True))
    contract.read(contents, spec.file)  # by the same rules as when it is loaded
    return contents


def convert(network: Network, spec: GraphSpec, opset: int, metadata: dict[str, str]) -> ModelProto:
    """The checked ONNX model, before it is held against the rules for a bundle's files."""
    converted = _convert(network, spec)
    if opset != OPSET:
        converted = version_converter.convert_version(converted, opset)
    finished = _canonical(converted, spec, opset, metadata)
    onnx.checker.check_model(finished, full_check=True)
    return finished


def check_opset(opset: int) -> None:
    """Raises UsageError for an opset that cannot be had."""
    if not OPSET <= opset <= NEWEST_OPSET:
        raise UsageError(f"--opset {opset}: with onnx {onnx.__version__} it is {OPSET} to {NEWEST_OPSET}")


def ir_version(opset: int) -> int:
    """The lowest IR version that a file of this opset may have, so that the most runtimes read it."""
    return int(helper.find_min_ir_version_for([helper.make_opsetid("", opset)]))


def _convert(network: Network, spec: GraphSpec) -> ModelProto:
    logger = logging.getLogger("tf2onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        function = serving_function(network, spec)
        converted: ModelProto = tf2onnx.convert.from_function(function, function.input_signature, opset=OPSET)[0]
    finally:
        logger.setLevel(level)
    return converted


def _canonical(model: ModelProto, spec: GraphSpec, opset: int, metadata: dict[str, str]) -> ModelProto:
    """The same graph with names and order that depend on its structure alone."""
    graph = model.graph
    makers = {output: node for node in graph.node for output in node.output}
    stored = {tensor.name: tensor for tensor in graph.initializer}
    nodes = list(_needed(makers, [output.name for output in spec.outputs]))
    ports = {tensor.name: tensor.name for tensor in (*spec.inputs, *spec.outputs)}
    names: dict[str, str] = dict(ports)
    weights: list[TensorProto] = []
    for number, node in enumerate(nodes):
        node.name = f"{node.op_type.lower()}_{number}"
        node.doc_string = ""
        for slot, name in enumerate(node.input):
            if name in stored and name not in names:
                names[name] = f"{node.name}.{slot}"
                weights.append(_stored(stored[name], names[name]))
        for slot, name in enumerate(node.output):
            names.setdefault(name, f"{node.name}:{slot}" if slot else node.name)
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names[name] for name in node.output]
        attributes = sorted(node.attribute, key=lambda attribute: str(attribute.name))
        del node.attribute[:]
        node.attribute.extend(attributes)
    finished = helper.make_model(
        helper.make_graph(
            nodes,
            spec.file.removesuffix(".onnx"),
            [_value(tensor) for tensor in spec.inputs],
            [_value(tensor) for tensor in spec.outputs],
            weights,
        ),
        opset_imports=[helper.make_opsetid("", opset)],
        producer_name=PRODUCER,
        producer_version=__version__,
    )
    finished.ir_version = ir_version(opset)
    helper.set_model_props(finished, metadata)
    return finished


def _needed(makers: dict[str, NodeProto], outputs: list[str]) -> Iterator[NodeProto]:
    """The nodes that `outputs` need, each after those it reads: depth first, inputs in their order."""
    done: set[int] = set()
    stack = [makers[name] for name in reversed(outputs)]
    while stack:
        node = stack[-1]
        waiting = [makers[name] for name in node.input if name in makers and id(makers[name]) not in done]
        if waiting:
            stack.append(waiting[0])
            continue
        stack.pop()
        if id(node) not in done:
            done.add(id(node))
            yield node


def _stored(tensor: TensorProto, name: str) -> TensorProto:
    """Raw little-endian data, whatever field the converter chose."""
    return numpy_helper.from_array(numpy_helper.to_array(tensor), name)


def _value(tensor: TensorSpec) -> Any:
    return helper.make_tensor_value_info(
        tensor.name, helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype)), tensor.shape
    )
