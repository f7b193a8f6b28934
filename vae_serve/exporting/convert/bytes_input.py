"""An ONNX file of floats becomes the variant that takes an image's bytes and scales them itself."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from vae_serve.images.pixels import SCALE
from vae_serve.model import onnx as contract
from vae_serve.model.manifest import GraphSpec

NODE = "dequantizelinear"
FLOATS = "pixels"  # what the floats are called inside, since the input keeps its name


def of_bytes(contents: bytes, spec: GraphSpec) -> bytes:
    """The same graph behind one DequantizeLinear, with the input of `spec`, uint8 of the same shape.

    DequantizeLinear (ONNX operators, opset 10 on) is one float32 multiplication of exact floats, so it gives the
    same bits as `vae_serve.images.pixels.to_model`, and is faster. It has a zero point, though that is 0, because ONNX
    Runtime 1.32 is slower without.

    Raises:
        BundleError: a bundle may not have such a graph.
    """
    model = onnx.load_model_from_string(contents)
    graph = model.graph
    (image,) = graph.input
    for node in graph.node:
        node.input[:] = [FLOATS if name == image.name else name for name in node.input]
    scale, zero = f"{NODE}.1", f"{NODE}.2"
    nodes = [helper.make_node("DequantizeLinear", [image.name, scale, zero], [FLOATS], name=NODE), *graph.node]
    weights = [
        numpy_helper.from_array(np.array(SCALE), scale),
        numpy_helper.from_array(np.array(0, np.uint8), zero),
        *graph.initializer,
    ]
    shape = spec.inputs[0].shape
    finished = helper.make_graph(
        nodes,
        spec.file.removesuffix(".onnx"),
        [helper.make_tensor_value_info(image.name, TensorProto.UINT8, shape)],
        list(graph.output),
        weights,
    )
    model.graph.CopyFrom(finished)
    onnx.checker.check_model(model, full_check=True)
    rewritten = bytes(model.SerializeToString(deterministic=True))
    contract.read(rewritten, spec.file)
    return rewritten
