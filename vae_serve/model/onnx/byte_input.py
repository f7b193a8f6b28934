"""A graph of floats becomes one that takes the bytes and scales them itself."""

import struct

from vae_serve.model import protobuf
from vae_serve.model.onnx import messages

BYTES = "vae_serve/bytes"  # what `of_bytes` calls the input


def of_bytes(contents: bytes, scale: float) -> bytes:
    """A graph of one float32 input, with `BYTES` (uint8, of the same shape) in its place, which it scales first.

    By DequantizeLinear (ONNX operators, opset 10 on): one float32 multiplication of exact floats, so bit for bit what
    NumPy makes of them, and sooner (`scripts/bench embed --only array`). It has a zero point, though that is 0, because
    ONNX Runtime 1.32 is slower without.
    """
    fields = protobuf.fields(messages.MESSAGES, "Model", memoryview(contents))
    return b"".join(
        messages.encode("Model", graph=_graph(field.value, scale)) if field.name == "graph" else field.whole
        for field in fields
    )


def _graph(graph: memoryview, scale: float) -> bytes:
    fields = list(protobuf.fields(messages.MESSAGES, "Graph", graph))
    (floats,) = (messages.decode("ValueInfo", field.value) for field in fields if field.name == "input")
    dims = [
        messages.encode(
            "Dimension", **({"dim_value": dim.dim_value} if dim.dim_param is None else {"dim_param": dim.dim_param})
        )
        for dim in floats.type.tensor_type.shape.dim
    ]
    uint8 = messages.encode("TensorType", elem_type=2, shape=messages.encode("TensorShape", dim=dims))
    scale_name, zero_name = "vae_serve/scale", "vae_serve/zero"
    added = messages.encode(
        "Graph",
        node=[
            messages.encode(
                "Node", input=[BYTES, scale_name, zero_name], output=[floats.name], op_type="DequantizeLinear"
            )
        ],
        initializer=[
            messages.encode("Tensor", data_type=1, name=scale_name, raw_data=struct.pack("<f", scale)),
            messages.encode("Tensor", data_type=2, name=zero_name, raw_data=b"\0"),
        ],
        input=[messages.encode("ValueInfo", name=BYTES, type=messages.encode("Type", tensor_type=uint8))],
    )
    return added + b"".join(field.whole for field in fields if field.name != "input")
