"""SavedModels, checked before TensorFlow loads them: only operations of a short list, and no access to files. Pure.

A SavedModel is a program: TensorFlow runs whatever operations it names, and among them are some that read and write
files or run Python. The exports' networks need two dozen that compute (`COMPUTE`). The functions that every SavedModel
has to save and restore its variables do touch files; they are allowed for the one node each that the saver names, must
be out of every signature's reach, and take their file's name from the program that loads the model.

The messages below are those parts of TensorFlow's that these exports use (tensorflow/core/protobuf/saved_model.proto,
meta_graph.proto, saved_object_graph.proto, struct.proto; tensorflow/core/framework/graph.proto, function.proto,
attr_value.proto, tensor.proto). A file with any other part is refused, and so is one that two readers could take
differently: a singular field that occurs twice, two members of a oneof, a key twice in a map.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from vae_serve.errors import BundleError
from vae_serve.model import protobuf, saved_model_shapes
from vae_serve.model.bundle import Bundle
from vae_serve.model.manifest import ROLES, Role, graph_spec

COMPUTE = frozenset(
    [
        "AddV2",
        "Cast",
        "Const",
        "Conv2D",
        "Conv2DBackpropInput",
        "Identity",
        "MatMul",
        "Maximum",
        "Mul",
        "Pack",
        "PartitionedCall",
        "Relu",
        "Reshape",
        "Round",
        "Shape",
        "Sigmoid",
        "SplitV",
        "StatefulPartitionedCall",
        "StridedSlice",
        "Transpose",
    ]
)
SAVE = frozenset(
    [
        "Const",
        "Identity",
        "MergeV2Checkpoints",
        "NoOp",
        "Pack",
        "SaveV2",
        "Select",
        "ShardedFilename",
        "StaticRegexFullMatch",
        "StringJoin",
    ]
)
RESTORE = frozenset(["Const", "Identity", "NoOp", "RestoreV2"])
CALLS = frozenset(("PartitionedCall", "StatefulPartitionedCall"))
OUTSIDE = CALLS | {"Const", "NoOp", "Placeholder"}  # operations of the graph around the functions
ATTRIBUTES = frozenset(
    [
        "DstT",
        "Index",
        "N",
        "SrcT",
        "T",
        "Tin",
        "Tlen",
        "Tout",
        "Tshape",
        "Tidx",
        "Tperm",
        "begin_mask",
        "end_mask",
        "shrink_axis_mask",
        "config_proto",
        "data_format",
        "dilations",
        "dtype",
        "dtypes",
        "explicit_paddings",
        "f",
        "num_split",
        "padding",
        "pattern",
        "shape",
        "strides",
        "transpose_a",
        "transpose_b",
        "use_cudnn_on_gpu",
        "value",
        "_collective_manager_ids",
        "_has_manual_control_dependencies",
        "_output_shapes",
        "_read_only_resource_inputs",
    ]
)
SAVER_TEXTS = frozenset((b"", b".part", b"_temp/part", b"_CHECKPOINTABLE_OBJECT_GRAPH"))  # constants of its functions
FUNCTION_ATTRIBUTES = frozenset(("_construction_context", "_input_shapes"))
SIGNATURE, INITIALISER = "serving_default", "__saved_model_init_op"
COLLECTION = "saved_model_main_op"

NODE_LIMIT = 5_000
CONSTANT_LIMIT = 1 << 24  # numbers in all constants that are not stored one by one
CONFIG_LIMIT = 128  # bytes of a call's `config_proto`; TensorFlow writes 33
STRING = 7  # tensorflow.DataType

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
_USER_OBJECTS = frozenset(("_generic_user_object", "signature_map"))

Message = dict[str, Any]


@dataclass(frozen=True)
class SavedModel:
    """What is known of a SavedModel that has been judged."""

    inputs: dict[str, tuple[int, ...]]
    """The shape of each input of `serving_default`; -1 is the batch."""
    row_bytes: int
    """That each row of a call takes: all tensors together, none of them freed."""


def check(bundle: Bundle) -> dict[Role, SavedModel]:
    """Judges every SavedModel of a bundle.

    Raises:
        BundleError: names the file and what in it is refused.
    """
    manifest, judged = bundle.manifest, {}
    for role in ROLES:
        path = f"saved_model/{role}/1/saved_model.pb"
        if path in bundle.paths:
            judged[role] = judge(bundle.read(path), str(bundle.path / path))
            spec = graph_spec(role, manifest.signature_pixels, manifest.image_shape, manifest.latent_dim)
            wanted = {tensor.name: (-1, *tensor.shape[1:]) for tensor in spec.inputs}
            if judged[role].inputs != wanted:
                raise BundleError(
                    f"{bundle.path / path} takes {judged[role].inputs!r:.200}; the manifest says {wanted}"
                )
    return judged


def judge(contents: bytes, name: str) -> SavedModel:
    """Judges the contents of a saved_model.pb; `name` stands for the file in messages.

    Raises:
        BundleError: says what is refused.
    """
    try:
        model = _decode("SavedModel", memoryview(contents))
        if len(model["meta_graphs"]) != 1:
            raise ValueError(f"it has {len(model['meta_graphs'])} graphs")
        return _judge_graph(model["meta_graphs"][0])
    except (ValueError, IndexError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(f"{name} is refused: {error!s:.300}") from None


def _judge_graph(meta: Message) -> SavedModel:
    graph, saver = meta["graph_def"] or {}, meta["saver_def"] or {}
    nodes = _by(graph["node"], lambda node: node["name"])
    functions = _by((graph["library"] or {"function": []})["function"], lambda function: function["signature"]["name"])
    if len(nodes) + sum(len(function["node_def"]) for function in functions.values()) > NODE_LIMIT:
        raise ValueError(f"it has more than {NODE_LIMIT:,} nodes")
    names = _by(meta["signature_def"], lambda entry: entry["key"]).keys()
    if SIGNATURE not in names or names - {SIGNATURE, INITIALISER}:
        raise ValueError(f"its signatures are {[entry['key'] for entry in meta['signature_def']]!r:.100}")

    saver_functions = _judge_saver(saver, nodes, functions)
    for function in functions:
        allowed = saver_functions.get(function, COMPUTE)
        for node in functions[function]["node_def"]:
            _judge_node(node, allowed, functions.keys() - saver_functions.keys())
            if allowed is not COMPUTE:
                _judge_saver_node(node)
    saver_nodes = {_node_of(saver.get(name, "")) for name in ("save_tensor_name", "restore_op_name")}
    for name, node in nodes.items():
        inside = saver_functions.keys() if name in saver_nodes else functions.keys() - saver_functions.keys()
        _judge_node(node, OUTSIDE, inside)
        if any(_node_of(source) in saver_nodes for source in node["input"]):
            raise ValueError(f"node {name} waits for the saver")
    _judge_calls(functions)
    _judge_constants([*nodes.values(), *(node for function in functions.values() for node in function["node_def"])])
    _judge_signatures(meta, nodes, saver_nodes)
    _judge_objects(meta["object_graph_def"], functions.keys() - saver_functions.keys())
    return _judge_shapes(meta, {name: one for name, one in functions.items() if name not in saver_functions})


def _judge_shapes(meta: Message, networks: dict[str, Message]) -> SavedModel:
    signature = next(entry["value"] for entry in meta["signature_def"] if entry["key"] == SIGNATURE)
    inputs = {
        entry["key"]: tuple(dim["size"] for dim in (entry["value"]["tensor_shape"] or {"dim": []})["dim"])
        for entry in signature["inputs"]
    }
    if len(inputs) != 1:
        raise ValueError(f"it has {len(inputs)} inputs; a bundle's networks have one")
    (shape,) = inputs.values()
    if shape[:1] != (-1,) or min(shape[1:], default=0) < 1:
        raise ValueError(f"its input has the shape {shape!r:.100}")
    return SavedModel(inputs, saved_model_shapes.row_bytes(networks, shape[1:]))


def _judge_saver(saver: Message, nodes: dict[str, Message], functions: dict[str, Message]) -> dict[str, frozenset[str]]:
    """The functions that save and restore, with the operations allowed in each; one node outside calls each."""
    operations: dict[str, frozenset[str]] = {}
    for field, pattern, allowed in (
        ("save_tensor_name", r"__inference__traced_save_\d+", SAVE),
        ("restore_op_name", r"__inference__traced_restore_\d+", RESTORE),
    ):
        if not saver.get(field):
            continue
        node = nodes[_node_of(saver[field])]
        function = _called(node)
        if function is None or not re.fullmatch(pattern, function) or function not in functions:
            raise ValueError(f"its saver calls {function!r:.60}")
        file_name = nodes[_node_of(saver["filename_tensor_name"])]
        if file_name["op"] != "Placeholder" or node["input"][:1] != [file_name["name"]]:
            raise ValueError("its saver takes the name of its file from the model")
        operations[function] = allowed
    return operations


def _judge_node(node: Message, allowed: frozenset[str], callable_functions: Iterable[str]) -> None:
    where = f"{node['op']} {node['name']}"[:100]
    if node["op"] not in allowed:
        raise ValueError(f"the operation {where!r} is none that exports are made of")
    if node["device"] not in ("", "/device:CPU:0", "/device:CPU:*"):
        raise ValueError(f"{where!r} is for the device {node['device']!r:.60}")
    function = _called(node)
    if (node["op"] in CALLS) != (function is not None) or (function is not None and function not in callable_functions):
        raise ValueError(f"{where!r} calls {function!r:.60}")
    for entry in node["attr"]:
        value = entry["value"] or {}
        if entry["key"] not in ATTRIBUTES or (value.get("func") is not None) != (entry["key"] == "f"):
            raise ValueError(f"{where!r} has the attribute {entry['key']!r:.60}")
        if entry["key"] == "config_proto" and len(value.get("s") or b"") > CONFIG_LIMIT:
            raise ValueError(f"{where!r} has a configuration of its own")


def _judge_calls(functions: dict[str, Message]) -> None:
    """Each function has one caller at most, and none calls itself, directly or through others."""
    callers: dict[str, str] = {}
    for name, function in functions.items():
        if {entry["key"] for entry in function["attr"]} - FUNCTION_ATTRIBUTES:
            raise ValueError(f"the function {name!r:.60} has attributes of its own")
        for called in filter(None, map(_called, function["node_def"])):
            if called in callers:
                raise ValueError(f"the function {called!r:.60} is called from several places")
            callers[called] = name
    for name in functions:
        caller, steps = callers.get(name), 0
        while caller is not None and steps <= len(functions):
            caller, steps = callers.get(caller), steps + 1
        if caller is not None:
            raise ValueError(f"the function {name!r:.60} calls itself")


def _judge_saver_node(node: Message) -> None:
    """A function of the saver makes no file name but those that TensorFlow makes from the one it is given."""
    for entry in node["attr"]:
        tensor = (entry["value"] or {}).get("tensor")
        texts = {*tensor["string_val"], tensor["tensor_content"]} if tensor and tensor["dtype"] == STRING else set()
        if texts - SAVER_TEXTS:
            raise ValueError("its saver names a file of its own")


def _judge_constants(nodes: list[Message]) -> None:
    """A constant may be stored as one number for all its elements: what counts is the memory that it will take."""
    total = 0
    for node in nodes:
        for entry in node["attr"]:
            tensor = (entry["value"] or {}).get("tensor")
            if tensor is not None:
                sizes = [dim["size"] or 0 for dim in (tensor["tensor_shape"] or {"dim": []})["dim"]]
                if any(not 0 <= size < 1 << 31 for size in sizes):
                    raise ValueError(f"{node['name']!r:.100} has the shape {sizes!r:.100}")
                if not tensor["tensor_content"]:
                    total += math.prod(sizes)
    if total > CONSTANT_LIMIT:
        raise ValueError(f"its constants have {total:,} numbers that are not stored; {CONSTANT_LIMIT:,} is the most")


def _judge_signatures(meta: Message, nodes: dict[str, Message], saver_nodes: set[str]) -> None:
    """A signature reads placeholders and gives what calls of the networks give; the initialiser does nothing."""
    for entry in meta["signature_def"]:
        signature = entry["value"]
        for side, operations in (("inputs", frozenset(("Placeholder",))), ("outputs", CALLS)):
            for name, tensor in _by(signature[side], lambda entry: entry["key"]).items():
                node = nodes[_node_of(tensor["value"]["name"])]
                wanted = frozenset(("NoOp",)) if entry["key"] == INITIALISER else operations
                if node["op"] not in wanted or node["name"] in saver_nodes:
                    raise ValueError(f"{entry['key']!r:.60} has {name!r:.60} from {node['op']} {node['name']!r:.60}")
    for entry in _by(meta["collection_def"], lambda entry: entry["key"]).values():
        names = ((entry["value"] or {}).get("node_list") or {"value": []})["value"]
        if entry["key"] != COLLECTION or any(nodes[name]["op"] != "NoOp" for name in names):
            raise ValueError(f"it has the collection {entry['key']!r:.60}")


def _judge_objects(objects: Message | None, functions: Iterable[str]) -> None:
    """What Python sees of the model: functions, no files, no variables, no classes of others."""
    for node in (objects or {"nodes": []})["nodes"]:
        function, bare, user = node["function"], node["bare_concrete_function"], node["user_object"]
        names = [*(function or {"concrete_functions": []})["concrete_functions"]]
        names += [bare["concrete_function_name"]] if bare else []
        if any(name not in functions for name in names):
            raise ValueError(f"it offers the function {names!r:.100}")
        if user and user["identifier"] not in _USER_OBJECTS:
            raise ValueError(f"it holds an object {user['identifier']!r:.60}")


def _called(node: Message) -> str | None:
    for entry in node["attr"]:
        if entry["value"] and entry["value"]["func"] is not None:
            return str(entry["value"]["func"]["name"])
    return None


def _node_of(tensor: str) -> str:
    """The node of a tensor or of a control input: "Conv2D:0" and "^Conv2D" are of Conv2D."""
    return tensor.removeprefix("^").split(":")[0]


def _by(entries: list[Message], key: Any) -> dict[str, Message]:
    """The entries by a name of theirs, which no two share."""
    named = {key(entry): entry for entry in entries}
    if len(named) != len(entries):
        raise ValueError("a name occurs twice in it")
    return named


def _decode(message: str, view: memoryview) -> Message:
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
        _by(decoded["attr"], lambda entry: entry["key"])
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
    return bytes(value) if kind == "bytes" else _decode(kind, value)
