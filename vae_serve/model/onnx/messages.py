"""The messages of an ONNX file: those parts of onnx.proto that this project's exports use, and nothing else.

Field numbers, types and oneofs as in onnx/onnx.proto. Anything else is refused: functions,
subgraphs, sparse tensors, strings, stated shapes of inner tensors, training information.
"""

from typing import Any

from vae_serve.model import protobuf

FIELD_LIMIT = 1 << 16  # the largest network here has 2,000 fields
TEXT_LIMIT = 1 << 20  # bytes of names and metadata; an export has some ten thousand

MESSAGES: protobuf.Messages = {
    "Model": {
        "ir_version": (1, "int"), "producer_name": (2, "string"), "producer_version": (3, "string"),
        "domain": (4, "string"), "model_version": (5, "int"), "doc_string": (6, "string"), "graph": (7, "Graph"),
        "opset_import": (8, "*Opset"), "metadata_props": (14, "*Entry"),
    },
    "Opset": {"domain": (1, "string"), "version": (2, "int")},
    "Entry": {"key": (1, "string"), "value": (2, "string")},
    "Graph": {
        "node": (1, "*Node"), "name": (2, "string"), "initializer": (5, "*Tensor"), "doc_string": (10, "string"),
        "input": (11, "*ValueInfo"), "output": (12, "*ValueInfo"),
    },
    "Node": {
        "input": (1, "*string"), "output": (2, "*string"), "name": (3, "string"), "op_type": (4, "string"),
        "attribute": (5, "*Attribute"), "doc_string": (6, "string"), "domain": (7, "string"),
    },
    "Attribute": {
        "name": (1, "string"), "f": (2, "float"), "i": (3, "int"), "s": (4, "bytes"), "floats": (7, "*float"),
        "ints": (8, "*int"), "type": (20, "enum 14"),
    },
    "Tensor": {
        "dims": (1, "*int"), "data_type": (2, "int32"), "name": (8, "string"), "raw_data": (9, "bytes"),
        "external_data": (13, "*Entry"), "data_location": (14, "enum 1"),
    },
    "ValueInfo": {"name": (1, "string"), "type": (2, "Type")},
    "Type": {"tensor_type": (1, "TensorType", "value")},
    "TensorType": {"elem_type": (1, "int32"), "shape": (2, "TensorShape")},
    "TensorShape": {"dim": (1, "*Dimension")},
    "Dimension": {"dim_value": (1, "int", "value"), "dim_param": (2, "string", "value")},
}  # fmt: skip


def decode(message: str, contents: bytes | memoryview) -> Any:
    """A message as an object with its fields, weights as views of `contents`; raises ValueError."""
    return protobuf.decode(MESSAGES, message, memoryview(contents), protobuf.Limits(FIELD_LIMIT, TEXT_LIMIT))


def encode(message: str, **fields: Any) -> bytes:
    """A message of numbers from 0, texts, bytes and encoded messages."""
    return protobuf.encode(MESSAGES, message, **fields)
