"""A SavedModel is judged before TensorFlow sees it: operations of a short list, and none that touches a file."""

import re

import pytest
from tensorflow.core.framework.types_pb2 import DT_FLOAT, DT_INT32, DT_STRING
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


def _network(model):
    return function_of(model, "inference_serving_default")


def _constant(function, name, shape, *, integers=None):
    """A constant of few bytes: one number for all of a shape, or the integers themselves."""
    node = function.node_def.add(name=name, op="Const")
    tensor = node.attr["value"].tensor
    tensor.dtype = node.attr["dtype"].type = DT_FLOAT if integers is None else DT_INT32
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    if integers is None:
        tensor.float_val.append(1)
    else:
        tensor.int_val.extend(integers)
    return f"{name}:output:0"


def _product_of_constants(model):
    column, row = (
        _constant(_network(model), name, shape) for name, shape in (("c", (1 << 16, 1)), ("r", (1, 1 << 16)))
    )
    _network(model).node_def.add(name="vast", op="Mul", input=[column, row])


def _rows_and_a_large_constant(model):
    column = _constant(_network(model), "c", (1 << 22, 1, 1, 1, 1))
    _network(model).node_def.add(name="vast", op="AddV2", input=["image", column])


def _wide_rows(model):
    first = _constant(_network(model), "a", (1 << 12, 1, 1))
    second = _constant(_network(model), "b", (1 << 12, 1))
    shape = _constant(_network(model), "to", (4,), integers=[-1, 1, 1, 784])
    _network(model).node_def.add(name="flat", op="Reshape", input=["image", shape])
    _network(model).node_def.add(name="tall", op="AddV2", input=["flat:output:0", first])
    _network(model).node_def.add(name="vast", op="AddV2", input=["tall:z:0", second])


def _batch_by_batch(model):
    shape = _constant(_network(model), "to", (2,), integers=[1, -1])
    _network(model).node_def.add(name="vast", op="Reshape", input=["image", shape])


def _large_map(model):
    sizes = _constant(_network(model), "to", (4,), integers=[-1, 1 << 14, 1 << 14, 1])
    node = _network(model).node_def.add(
        name="vast", op="Conv2DBackpropInput", input=[sizes, _constant(_network(model), "k", (1, 1, 1, 1)), "image"]
    )
    node.attr["strides"].list.i.extend([1, 1, 1, 1])
    node.attr["padding"].s = b"SAME"


def _all_of_a_shape(model):
    """The number of values of a batch is the size of a batch."""
    _network(model).node_def.add(name="s", op="Shape", input=["image"])
    node = _network(model).node_def.add(name="vast", op="Reshape", input=["image", "s:output:0"])
    _network(model).node_def.add(name="vaster", op="MatMul", input=[f"{node.name}:output:0", "image"])


def _cast_to_text(model):
    node = _network(model).node_def.add(name="vast", op="Cast", input=["image"])
    node.attr["DstT"].type = DT_STRING


def _strides_backwards(model):
    starts, ends, steps = (
        _constant(_network(model), name, (2,), integers=values)
        for name, values in (("b", [0, 5]), ("e", [0, 0]), ("t", [1, -1]))
    )
    node = _network(model).node_def.add(name="vast", op="StridedSlice", input=["image", starts, ends, steps])
    node.attr["begin_mask"].i = node.attr["end_mask"].i = 1


def _a_long_list(model):
    integers = [1] * (1 << 20)
    shape = _constant(_network(model), "to", (4,), integers=integers)
    _network(model).node_def.add(name="vast", op="Reshape", input=["image", shape])


def _takes_larger_images(model):
    model.meta_graphs[0].signature_def["serving_default"].inputs["image"].tensor_shape.dim[1].size = 1 << 20


@pytest.mark.parametrize(
    "change",
    [
        _product_of_constants, _rows_and_a_large_constant, _wide_rows, _batch_by_batch, _large_map, _all_of_a_shape,
        _cast_to_text, _strides_backwards, _a_long_list, _takes_larger_images,
    ],
)  # fmt: skip
def test_memory_without_bounds(change):
    model = packaged()
    change(model)
    assert re.search("does not fit its inputs|would take .* bytes for one row", refusal(model.SerializeToString()))


def test_an_input_other_than_the_manifest_says(stranger, signed):
    model = packaged()
    (info,) = model.meta_graphs[0].signature_def["serving_default"].inputs.values()
    info.tensor_shape.dim[1].size, info.tensor_shape.dim[2].size = 56, 14
    (stranger / FILE).write_bytes(model.SerializeToString())
    signed(stranger)
    with pytest.raises(BundleError, match=r"saved_model\.pb"):
        verify(stranger)
