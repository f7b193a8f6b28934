"""The messages of saved_model.pb: which fields each may have, and a strict decoding by that table. Pure.

They are those parts of TensorFlow's that these exports use (tensorflow/core/protobuf/saved_model.proto,
meta_graph.proto, saved_object_graph.proto, struct.proto; tensorflow/core/framework/graph.proto, function.proto,
attr_value.proto, tensor.proto). A file with any other part is refused, and so is one that two readers could take
differently: a singular field that occurs twice, two members of a oneof, a key twice in a map.
"""

from typing import Any

from vae_serve.model import protobuf

Message = dict[str, Any]

# message: field: number, [*]type; * is repeated, "map" a repeated key with a value, "any" what is not looked into
_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "SavedModel": {"saved_model_schema_version": (1, "int"), "meta_graphs": (2, "*MetaGraph")},
    "MetaGraph": {
        "meta_info_def": (1, "MetaInfo"), "graph_def": (2, "Graph"), "saver_def": (3, "Saver"),
        "collection_def": (4, "*CollectionEntry"), "signature_def": (5, "*SignatureEntry"),
        "object_graph_def": (7, "ObjectGraph"),
    },
    "MetaInfo": {
        "stripped_op_list": (2, "any"), "tags": (4, "*string"), "tensorflow_version": (5, "string"),
        "tensorflow_git_version": (6, "string"), "stripped_default_attrs": (7, "int"),
    },
    "Saver": {
        "filename_tensor_name": (1, "string"), "save_tensor_name": (2, "string"), "restore_op_name": (3, "string"),
        "version": (7, "int"),
    },
    "CollectionEntry": {"key": (1, "string"), "value": (2, "Collection")},
    "Collection": {"node_list": (1, "NodeList")},
    "NodeList": {"value": (1, "*string")},
    "SignatureEntry": {"key": (1, "string"), "value": (2, "Signature")},
    "Signature": {"inputs": (1, "*TensorInfoEntry"), "outputs": (2, "*TensorInfoEntry"), "method_name": (3, "string")},
    "TensorInfoEntry": {"key": (1, "string"), "value": (2, "TensorInfo")},
    "TensorInfo": {"name": (1, "string"), "dtype": (2, "int"), "tensor_shape": (3, "Shape")},
    "Graph": {"node": (1, "*Node"), "library": (2, "Library"), "versions": (4, "any")},
    "Library": {"function": (1, "*Function")},
    "Function": {
        "signature": (1, "OpDef"), "node_def": (3, "*Node"), "ret": (4, "*TextEntry"), "attr": (5, "*AttrEntry"),
        "control_ret": (6, "*TextEntry"), "arg_attr": (7, "any"),
    },
    "OpDef": {
        "name": (1, "string"), "input_arg": (2, "*Argument"), "output_arg": (3, "*Argument"),
        "is_stateful": (17, "int"), "control_output": (20, "any"),
    },
    "Argument": {
        "name": (1, "string"), "description": (2, "any"), "type": (3, "any"), "handle_data": (7, "any"),
        "is_ref": (16, "any"), "experimental_full_type": (17, "any"),
    },
    "TextEntry": {"key": (1, "string"), "value": (2, "string")},
    "Node": {
        "name": (1, "string"), "op": (2, "string"), "input": (3, "*string"), "device": (4, "string"),
        "attr": (5, "*AttrEntry"), "experimental_debug_info": (6, "any"), "experimental_type": (7, "any"),
    },
    "AttrEntry": {"key": (1, "string"), "value": (2, "Attr")},
    "Attr": {
        "list": (1, "List"), "s": (2, "bytes"), "i": (3, "int"), "f": (4, "any"), "b": (5, "int"), "type": (6, "int"),
        "shape": (7, "any"), "tensor": (8, "Tensor"), "func": (10, "Call"),
    },
    "List": {
        "s": (2, "any"), "i": (3, "bytes"), "f": (4, "any"), "b": (5, "any"), "type": (6, "any"), "shape": (7, "any"),
    },
    "Call": {"name": (1, "string")},
    "Tensor": {
        "dtype": (1, "int"), "tensor_shape": (2, "Shape"), "tensor_content": (4, "bytes"), "float_val": (5, "any"),
        "int_val": (7, "bytes"), "string_val": (8, "*bytes"),
    },
    "Shape": {"dim": (2, "*Dim"), "unknown_rank": (3, "int")},
    "Dim": {"size": (1, "int")},
    "ObjectGraph": {"nodes": (1, "*Object"), "concrete_functions": (2, "*ConcreteEntry")},
    "ConcreteEntry": {"key": (1, "string"), "value": (2, "Concrete")},
    "Concrete": {"canonicalized_input_signature": (3, "Structure"), "output_signature": (4, "Structure")},
    "Object": {
        "children": (1, "*Reference"), "user_object": (4, "UserObject"), "function": (6, "SavedFunction"),
        "bare_concrete_function": (8, "BareFunction"), "dependencies": (15, "*Reference"),
    },
    "Reference": {"node_id": (1, "int"), "local_name": (2, "string")},
    "UserObject": {"identifier": (1, "string"), "version": (2, "any")},
    "SavedFunction": {"concrete_functions": (1, "*string"), "function_spec": (2, "FunctionSpec")},
    "BareFunction": {
        "concrete_function_name": (1, "string"), "argument_keywords": (2, "*string"),
        "allowed_positional_arguments": (3, "int"), "function_spec": (4, "FunctionSpec"),
    },
    "FunctionSpec": {"fullargspec": (1, "Structure"), "input_signature": (5, "Structure"), "jit_compile": (6, "int")},
    "Structure": {
        "none_value": (1, "any"), "string_value": (13, "string"), "tensor_spec_value": (33, "any"),
        "list_value": (51, "StructureList"), "tuple_value": (52, "StructureList"), "dict_value": (53, "StructureDict"),
        "named_tuple_value": (54, "NamedTuple"),
    },
    "StructureList": {"values": (1, "*Structure")},
    "StructureDict": {"fields": (1, "*StructureEntry")},
    "StructureEntry": {"key": (1, "string"), "value": (2, "Structure")},
    "NamedTuple": {"name": (1, "string"), "values": (2, "*StructureEntry")},
}  # fmt: skip
_ONEOFS = {  # messages of which at most one of these fields stands
    "Attr": frozenset(_MESSAGES["Attr"]),
    "Structure": frozenset(_MESSAGES["Structure"]),
    "Object": frozenset(("user_object", "function", "bare_concrete_function")),
}


def by(entries: list[Message], key: Any) -> dict[str, Message]:
    """The entries by a name of theirs, which no two share."""
    named = {key(entry): entry for entry in entries}
    if len(named) != len(entries):
        raise ValueError("a name occurs twice in it")
    return named


def decode(message: str, view: memoryview) -> Message:
    """A message as a dict of its fields: lists where repeated, None for messages that are not there."""
    kinds = _MESSAGES[message]
    decoded: Message = {name: [] if kind.startswith("*") else _EMPTY.get(kind) for name, (_, kind) in kinds.items()}
    seen: set[str] = set()
    for name, wire, value, _ in protobuf.fields(_MESSAGES, message, view):
        kind = kinds[name][1]
        if kind == "any":
            seen.add(name)
            continue
        if kind.startswith("*"):
            decoded[name].append(_value(kind[1:], wire, value))
        elif name in seen:
            raise ValueError(f"{name} occurs twice in a {message} message")
        else:
            decoded[name] = _value(kind, wire, value)
        seen.add(name)
    if len(seen & _ONEOFS.get(message, frozenset())) > 1:
        raise ValueError(f"a {message} message has {' and '.join(sorted(seen))}")
    if "attr" in decoded:
        by(decoded["attr"], lambda entry: entry["key"])
    return decoded


_EMPTY: Message = {"string": "", "bytes": b"", "int": 0}


def _value(kind: str, wire: int, value: Any) -> Any:
    if kind == "int":
        if wire != 0 or value >= 1 << 64:
            raise ValueError("a number is not written as one")
        return value - (1 << 64) if value >= 1 << 63 else value
    if wire != 2:
        raise ValueError(f"wire type {wire} for a {kind}")
    if kind == "string":
        return bytes(value).decode()
    return bytes(value) if kind == "bytes" else decode(kind, value)
