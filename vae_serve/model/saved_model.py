"""SavedModels, checked before TensorFlow loads them: only operations of a short list, and no access to files. Pure.

A SavedModel is a program: TensorFlow runs whatever operations it names, and among them are some that read and write
files or run Python. The exports' networks need two dozen that compute (`COMPUTE`). The functions that every SavedModel
has to save and restore its variables do touch files; they are allowed for the one node each that the saver names, must
be out of every signature's reach, and take their file's name from the program that loads the model.

How the file is read, and what of TensorFlow's messages it may hold, is in `saved_model_messages`.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from vae_serve.errors import BundleError
from vae_serve.model import saved_model_shapes
from vae_serve.model.bundle import Bundle
from vae_serve.model.manifest import ROLES, Role, graph_spec
from vae_serve.model.saved_model_messages import Message, by, decode

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

_USER_OBJECTS = frozenset(("_generic_user_object", "signature_map"))


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
        model = decode("SavedModel", memoryview(contents))
        if len(model["meta_graphs"]) != 1:
            raise ValueError(f"it has {len(model['meta_graphs'])} graphs")
        return _judge_graph(model["meta_graphs"][0])
    except (ValueError, IndexError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(f"{name} is refused: {error!s:.300}") from None


def _judge_graph(meta: Message) -> SavedModel:
    graph, saver = meta["graph_def"] or {}, meta["saver_def"] or {}
    nodes = by(graph["node"], lambda node: node["name"])
    functions = by((graph["library"] or {"function": []})["function"], lambda function: function["signature"]["name"])
    if len(nodes) + sum(len(function["node_def"]) for function in functions.values()) > NODE_LIMIT:
        raise ValueError(f"it has more than {NODE_LIMIT:,} nodes")
    names = by(meta["signature_def"], lambda entry: entry["key"]).keys()
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
            for name, tensor in by(signature[side], lambda entry: entry["key"]).items():
                node = nodes[_node_of(tensor["value"]["name"])]
                wanted = frozenset(("NoOp",)) if entry["key"] == INITIALISER else operations
                if node["op"] not in wanted or node["name"] in saver_nodes:
                    raise ValueError(f"{entry['key']!r:.60} has {name!r:.60} from {node['op']} {node['name']!r:.60}")
    for entry in by(meta["collection_def"], lambda entry: entry["key"]).values():
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
