"""What our reader infers of a graph held against ONNX's own inference and against what ONNX Runtime computes."""

import numpy as np
import onnx
import onnxruntime as ort
from onnx import ModelProto, helper

from vae_serve.model.onnx import OnnxFile


def with_all_outputs(model: ModelProto) -> ModelProto:
    """The model with each tensor that a node makes among its outputs, of the shape that ONNX infers."""
    known = {output.name for output in model.graph.output}
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    for info in inferred.graph.value_info:
        if info.name not in known:
            tensor = info.type.tensor_type
            sizes = [dim.dim_value for dim in tensor.shape.dim]
            output = helper.make_tensor_value_info(info.name, tensor.elem_type, ("batch", *sizes[1:]))
            model.graph.output.append(output)
    assert len(model.graph.output) == sum(len(node.output) for node in model.graph.node)
    return model


def agrees(model: ModelProto, file: OnnxFile) -> None:
    """In ONNX Runtime every output has the stated dtype and shape, for several batches, optimised or not."""
    named = {value.name: value for value in file.outputs}
    assert set(named) == {output.name for output in model.graph.output}
    for level in (ort.GraphOptimizationLevel.ORT_DISABLE_ALL, ort.GraphOptimizationLevel.ORT_ENABLE_ALL):
        options = ort.SessionOptions()
        options.graph_optimization_level = level
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        (port,) = session.get_inputs()
        assert (port.name, tuple(port.shape)) == (file.inputs[0].name, file.inputs[0].shape)
        for batch in (1, 2, 3):
            rows = np.ones((batch, *map(int, file.inputs[0].shape[1:])), file.inputs[0].dtype)
            for name, found in zip(named, session.run(list(named), {port.name: rows}), strict=True):
                expected = named[name]
                assert (name, found.dtype, found.shape) == (name, expected.dtype, (batch, *expected.shape[1:]))
