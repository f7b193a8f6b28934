"""A SavedModel is judged before TensorFlow sees it: operations of a short list, and none that touches a file."""

import pytest
from tensorflow.core.framework.types_pb2 import DT_STRING
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from tests.export.conftest import PACKAGED
from vae_serve.errors import BundleError
from vae_serve.model import saved_model
from vae_serve.model.verify import verify

FILE = "saved_model/encoder/1/saved_model.pb"


def packaged() -> SavedModel:
    model = SavedModel()
    model.ParseFromString((PACKAGED / FILE).read_bytes())
    return model


def function_of(model: SavedModel, kind: str):
    """The network's function, the saver's or the restorer's."""
    return next(one for one in model.meta_graphs[0].graph_def.library.function if kind in one.signature.name)


def refusal(contents: bytes) -> str:
    with pytest.raises(BundleError) as caught:
        saved_model.judge(contents, "saved_model.pb")
    return str(caught.value)


@pytest.mark.parametrize("role", ["encoder", "decoder"])
def test_what_export_writes_is_accepted(role):
    saved_model.judge((PACKAGED / f"saved_model/{role}/1/saved_model.pb").read_bytes(), "")


OPERATIONS = [
    "WriteFile",
    "ReadFile",
    "PyFunc",
    "EagerPyFunc",
    "SaveV2",
    "RestoreV2",
    "Print",
    "MergeV2Checkpoints",
    "LoadLibrary",
    "VarHandleOp",
    "While",
]


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("place", ["serving_default", "signature_wrapper", "the graph"])
def test_an_operation_that_exports_are_not_made_of(operation, place):
    model = packaged()
    graph = model.meta_graphs[0].graph_def
    nodes = graph.node if place == "the graph" else function_of(model, place).node_def
    nodes.add(name="extra", op=operation)
    assert operation in refusal(model.SerializeToString())


def _write_in_saver(model):
    function_of(model, "traced_restore").node_def.add(name="w", op="SaveV2")


def _name_a_file(model):
    values = [node.attr["value"].tensor for node in function_of(model, "traced_save").node_def if node.op == "Const"]
    next(tensor for tensor in values if tensor.dtype == DT_STRING).string_val[0] = b"/tmp/file"


def _call_the_saver(model):
    node = next(node for node in function_of(model, "signature_wrapper").node_def if node.op == "PartitionedCall")
    node.attr["f"].func.name = function_of(model, "traced_save").signature.name


def _offer_the_saver(model):
    objects = model.meta_graphs[0].object_graph_def.nodes
    bare = next(node for node in objects if node.HasField("bare_concrete_function"))
    bare.bare_concrete_function.concrete_function_name = function_of(model, "traced_save").signature.name


def _give_out_the_saver(model):
    meta = model.meta_graphs[0]
    meta.signature_def["serving_default"].outputs["z_mean"].name = meta.saver_def.save_tensor_name


def _wait_for_the_saver(model):
    meta = model.meta_graphs[0]
    call = next(node for node in meta.graph_def.node if node.op == "PartitionedCall")
    call.input.append("^StatefulPartitionedCall")


def _file_name_from_the_model(model):
    graph = model.meta_graphs[0].graph_def
    node = next(node for node in graph.node if node.name == "saver_filename")
    node.op = "Const"


def _call_itself(model):
    function = function_of(model, "inference_serving_default")
    call = function.node_def.add(name="again", op="PartitionedCall")
    call.attr["f"].func.name = function.signature.name


def _call_twice(model):
    wrapper = function_of(model, "signature_wrapper")
    call = next(node for node in wrapper.node_def if node.op == "PartitionedCall")
    wrapper.node_def.add().CopyFrom(call)


def _huge_constant(model):
    node = next(node for node in function_of(model, "inference_serving_default").node_def if node.op == "Const")
    tensor = node.attr["value"].tensor
    tensor.ClearField("tensor_content")
    del tensor.tensor_shape.dim[:]
    tensor.tensor_shape.dim.add(size=1 << 30)
    tensor.float_val.append(0)


@pytest.mark.parametrize(
    "change",
    [
        _write_in_saver, _name_a_file, _call_the_saver, _offer_the_saver, _give_out_the_saver, _wait_for_the_saver,
        _file_name_from_the_model, _call_itself, _call_twice, _huge_constant,
        lambda model: model.meta_graphs.add(),
        lambda model: model.meta_graphs[0].asset_file_def.add(filename="words.txt"),
        lambda model: model.meta_graphs[0].signature_def["other"].CopyFrom(
            model.meta_graphs[0].signature_def["serving_default"]
        ),
        lambda model: model.meta_graphs[0].collection_def["legacy_init_op"].node_list.value.append("Const"),
        lambda model: model.meta_graphs[0].graph_def.library.gradient.add(function_name="f", gradient_func="g"),
        lambda model: model.meta_graphs[0].graph_def.library.registered_gradients.add(),
        lambda model: model.meta_graphs[0].object_graph_def.nodes.add().variable.SetInParent(),
        lambda model: model.meta_graphs[0].object_graph_def.nodes.add().asset.SetInParent(),
        lambda model: model.meta_graphs[0].object_graph_def.nodes.add().resource.SetInParent(),
        lambda model: setattr(model.meta_graphs[0].object_graph_def.nodes[0].user_object, "identifier", "optimizer"),
        lambda model: setattr(model.meta_graphs[0].object_graph_def.nodes[0], "registered_name", "mine"),
        lambda model: setattr(model.meta_graphs[0].graph_def.node[1], "device", "/job:ps/task:0"),
        lambda model: function_of(model, "inference_serving_default").attr["_XlaMustCompile"].CopyFrom(
            model.meta_graphs[0].graph_def.node[0].attr["dtype"]
        ),
    ],
)  # fmt: skip
def test_a_way_around_the_list(change):
    model = packaged()
    change(model)
    assert "saved_model.pb is refused" in refusal(model.SerializeToString())


def test_an_encoding_that_two_readers_could_take_differently():
    contents = (PACKAGED / FILE).read_bytes()
    meta = packaged().meta_graphs[0]
    other = SavedModel()
    other.meta_graphs.add().graph_def.node.add(name="w", op="WriteFile")
    assert "2 graphs" in refusal(contents + other.SerializeToString())
    twice = meta.SerializeToString() + b"\x12\x00"  # a second graph_def, empty
    assert "twice" in refusal(b"\x08\x01\x12" + _varint(len(twice)) + twice)


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


@pytest.mark.parametrize("contents", [b"", b"\x00", b"\x12", b"\xff" * 50, b"\x12\x02\x12\x00", b"\x0a\x00"])
def test_what_is_no_saved_model(contents):
    assert "saved_model.pb is refused" in refusal(contents)


def test_verify_and_the_layout_for_a_server_refuse_it_before_anything_is_run(stranger, signed, vae_serve, tmp_path):
    model = packaged()
    function_of(model, "inference_serving_default").node_def.add(name="w", op="WriteFile")
    (stranger / FILE).write_bytes(model.SerializeToString())
    signed(stranger)
    with pytest.raises(BundleError, match="WriteFile"):
        verify(stranger)
    done = vae_serve("verify", stranger, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
    assert "WriteFile" in done.stderr
