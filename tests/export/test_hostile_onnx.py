"""Untrusted ONNX files through the front door: each command refuses in one sentence, in little time and memory."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from vae_serve.errors import BundleError
from vae_serve.model import onnx as onnx_reader
from vae_serve.model.model import Model
from vae_serve.model.onnx.reading import ROW_LIMIT

ROOT = Path(__file__).parents[2]
MIB = 1 << 20
MEMORY_LIMIT = 500 * MIB
# The command's only parent measures it alone: it leaves no time for anything to run after it
MEASURED = """
import json, resource, subprocess, sys
done = subprocess.run([sys.executable, "-m", "vae_serve", *sys.argv[1:]], capture_output=True, text=True, timeout=300)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
print(json.dumps([done.returncode, done.stderr, peak]))
"""
Node = tuple[str, list[str], str, dict[str, Any]]  # operator, inputs, output, attributes


def measured(*words: object, cwd: Path) -> tuple[int, str, int]:
    """Exit code, standard error and peak of memory in bytes of a command."""
    command = [sys.executable, "-c", MEASURED, *map(str, words)]
    done = subprocess.run(command, cwd=cwd, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True)
    code, said, peak = json.loads(done.stdout)
    return code, said, peak


def decoder(*nodes: Node, **stored: np.ndarray) -> ModelProto:
    """z (batch, 2) to an image (batch, 28, 28, 1); its first number, `first`, is added where `nodes` make one."""
    weights = {"w": np.zeros((2, 784), np.float32), "to": ints(-1, 28, 28, 1), **stored}
    made = [
        *nodes,
        ("MatMul", ["z", "w"], "flat", {}),
        ("Reshape", ["flat", "to"], "flat_image", {}),
        ("Add", ["flat_image", "first"], "image", {}),
    ]
    if not any(output == "first" for _, _, output, _ in nodes):
        weights["first"] = zeros(1)
    graph = helper.make_graph(
        [helper.make_node(operator, inputs, [output], **attributes) for operator, inputs, output, attributes in made],
        "decoder",
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ("batch", 2))],
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ("batch", 28, 28, 1))],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 7
    return model


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def two_graphs(*nodes: Node, **stored: np.ndarray) -> bytes:
    """A graph that nobody judges in front of the one that is: protobuf merges the two."""
    first = helper.make_graph(
        [helper.make_node(operator, inputs, [output], **attributes) for operator, inputs, output, attributes in nodes],
        "first",
        [],
        [helper.make_tensor_value_info("e", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    return onnx.ModelProto(graph=first).SerializeToString() + decoder().SerializeToString()


def external() -> bytes:
    """A tensor that stands in a file outside, in front of the true graph."""
    tensor = onnx.TensorProto(name="e", data_type=TensorProto.UINT8, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../secret.bin")
    first = onnx.ModelProto(graph=onnx.GraphProto(initializer=[tensor]))
    return first.SerializeToString() + decoder().SerializeToString()


def batch_power(count: int) -> ModelProto:
    """Of (batch,) and (batch, 1) and (batch, 1, 1): batch ** count numbers."""
    nodes: list[Node] = [("MatMul", ["z", "h"], "c", {})]
    nodes += [("Reshape", ["c", f"r{i}"], f"v{i}", {}) for i in range(count)]
    nodes += [("Add", [f"s{i - 1}" if i > 1 else "v0", f"v{i}"], f"s{i}", {}) for i in range(1, count)]
    return decoder(*nodes, h=zeros(2, 1), **{f"r{i}": ints(-1, *[1] * i) for i in range(count)})


def sums(count: int, side: int) -> ModelProto:
    """Each of a sum of a column and a row: nothing much in the file."""
    nodes: list[Node] = [("Add", ["column", "row"], f"o{i}", {}) for i in range(count)]
    return decoder(*nodes, column=zeros(side, 1), row=zeros(1, side))


def reversed_slice() -> ModelProto:
    """z[:, :-2**31:-1], of 0 numbers where steps are taken for positive ones."""
    nodes: list[Node] = [
        ("Slice", ["z", "start", "end", "axis", "step"], "none", {}),
        ("Add", ["none", "a"], "n1", {}),
        ("Add", ["n1", "b"], "n2", {}),
    ]
    places = {"start": ints(-1), "end": ints(-(1 << 31)), "axis": ints(1), "step": ints(-1)}
    return decoder(*nodes, **places, a=zeros(1 << 14, 1, 1), b=zeros(1 << 14, 1, 1, 1))


def constant_convolution() -> ModelProto:
    nodes: list[Node] = [("Add", ["column", "row"], "map", {}), ("Conv", ["map", "kernel"], "vast", {})]
    return decoder(*nodes, column=zeros(1, 1, 1024, 1), row=zeros(1, 1, 1, 1024), kernel=zeros(512, 1, 1, 1))


def auto_pad() -> ModelProto:
    nodes: list[Node] = [
        ("Reshape", ["z", "r"], "p", {}),
        ("Conv", ["p", "mix"], "one", {}),
        ("Add", ["one", "row"], "big", {}),
        ("Conv", ["big", "kernel"], "vast", {"auto_pad": "SAME_UPPER"}),
    ]
    stored = {
        "r": ints(-1, 2, 1, 1),
        "mix": zeros(1, 2, 1, 1),
        "row": zeros(1, 1, 512, 512),
        "kernel": zeros(64, 1, 1, 512),
    }
    return decoder(*nodes, **stored)


def negative_size() -> ModelProto:
    """ConvTranspose to a width of -2, which ended the process once it was cut."""
    nodes: list[Node] = [
        ("Reshape", ["z", "r"], "p", {}),
        ("ConvTranspose", ["p", "kernel"], "c", {"pads": [0, 1, 0, 2]}),
        ("Slice", ["c", "start", "end", "axis"], "cut", {}),
    ]
    stored = {"r": ints(-1, 2, 1, 1), "kernel": zeros(2, 1, 1, 1), "start": ints(0), "end": ints(-1), "axis": ints(3)}
    return decoder(*nodes, **stored)


def wide_rows(side: int, count: int) -> ModelProto:
    """Twice `count` maps of 16 x side x side a row, all of which are there at once."""
    nodes: list[Node] = [
        ("MatMul", ["z", "h"], "c", {}),
        ("Reshape", ["c", "r"], "c4", {}),
        ("Add", ["c4", "column"], "v", {}),
        ("Add", ["v", "row"], "t0", {}),
    ]
    nodes += [("Sigmoid", [f"t{i}"], f"t{i + 1}", {}) for i in range(count)]
    nodes += [("Add", [f"a{i - 1}" if i else "t0", f"t{count - i}"], f"a{i}", {}) for i in range(count)]
    nodes += [("Slice", [f"a{count - 1}", "start", "end", "axes"], "first", {})]
    maps = {"h": zeros(2, 1), "r": ints(-1, 1, 1, 1), "column": zeros(16, side, 1), "row": zeros(side)}
    return decoder(*nodes, **maps, start=ints(0, 0, 0), end=ints(1, 1, 1), axes=ints(1, 2, 3))


def text() -> ModelProto:
    nodes: list[Node] = [("Add", ["z", "one"], "m", {}), ("Cast", ["m"], "text", {"to": TensorProto.STRING})]
    return decoder(*nodes, one=zeros(1))


CASES = {
    "an operator in a second graph": (two_graphs(("Erf", ["z"], "e", {})), "graph occurs twice"),
    "an operator of ONNX Runtime's own in a second graph": (
        two_graphs(("Gelu", ["z"], "e", {"domain": "com.microsoft"})),
        "graph occurs twice",
    ),
    "60 GB of one number": (
        two_graphs(("Expand", ["one", "size"], "e", {}), one=zeros(1), size=ints(15_000_000_000)),
        "graph occurs twice",
    ),
    "a file outside": (external(), "graph occurs twice"),
    "a convolution of a constant": (constant_convolution(), "computes a constant"),
    "padding as the runtime sees fit": (auto_pad(), "window"),
    "a power of the batch": (batch_power(5), "('batch', 1) to (-1,)"),
    "many sums of two vectors": (sums(40, 4096), "computes a constant"),
    "a step backwards": (reversed_slice(), "Slice"),
    "a negative size": (negative_size(), "1 x -2"),
    "a row of a gigabyte": (wide_rows(1 << 12, 1), "bytes for one row"),
    "a hundred maps of 4 MiB a row": (wide_rows(256, 50), "bytes for one row"),
    "strings": (text(), "to the type 8"),
    "four megabytes of empty metadata": (decoder().SerializeToString() + b"\x72\0" * (1 << 21), "more fields"),
}


def with_decoder(stranger: Path, signed: Any, contents: bytes | ModelProto) -> Path:
    file = stranger / "decoder.onnx"
    file.write_bytes(contents if isinstance(contents, bytes) else contents.SerializeToString())
    return Path(signed(stranger))


@pytest.mark.parametrize("case", CASES)
def test_a_bundle_that_would_do_harm_is_refused_by_every_command(case, stranger, signed, tmp_path):
    contents, words = CASES[case]
    folder = with_decoder(stranger, signed, contents)
    for command in (("inspect",), ("verify",), ("generate", "--count", 64, "--out", "o.npy", "--model")):
        code, said, peak = measured(*command, folder, cwd=tmp_path)
        assert (code, said.count("\n")) == (1, 1), said
        assert "decoder.onnx" in said
        assert words in said
        assert peak < MEMORY_LIMIT
    assert not (tmp_path / "o.npy").exists()


@pytest.mark.parametrize(("side", "count"), [(256, 22), (512, 5)])
def test_rows_at_the_limit_keep_within_the_memory_that_is_promised(side, count, stranger, signed, tmp_path):
    model = wide_rows(side, count)
    file = onnx_reader.read(model.SerializeToString(), "decoder.onnx")
    assert file.memory.largest_batch(ROW_LIMIT) == 1  # a little more would be refused
    folder = with_decoder(stranger, signed, model)
    code, said, peak = measured("generate", "--count", 256, "--out", "o.npy", "-q", "--model", folder, cwd=tmp_path)
    assert (code, said) == (0, ""), said
    assert 100 * MIB < peak < MEMORY_LIMIT
    assert np.load(tmp_path / "o.npy").shape == (256, 28, 28, 1)


LARGEST = float(np.finfo(np.float32).max)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, -np.nan, -1.0, -0.0, LARGEST, -LARGEST])
def test_pixels_that_are_not_finite_are_no_pictures(value, stranger, signed):
    weights = np.zeros((2, 784), np.float32)
    weights[0, -1] = value  # the last pixel, where z is 1
    z = np.zeros((100, 2))
    z[70, 0] = 1
    model = decoder()
    next(tensor for tensor in model.graph.initializer if tensor.name == "w").CopyFrom(
        numpy_helper.from_array(weights, "w")
    )
    loaded = Model.load(with_decoder(stranger, signed, model))
    if np.isfinite(value):
        assert loaded.decode(z, "uint8")[:, -1, -1, 0].tolist() == [
            255 * int(row == 70 and value > 0) for row in range(100)
        ]
    else:
        with pytest.raises(BundleError, match="the decoder gives NaN or infinity for z = "):
            loaded.decode(z, "uint8")


THREADS = r"""
import json, re, sys
from pathlib import Path
import numpy as np
from vae_serve.model.model import Model
model = Model.load(Path(sys.argv[1]), threads=16)
images = model.decode(np.zeros((64, 2), np.float32), "uint8")
# not ru_maxrss, which begins with what the process that started this one had
peak = int(re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[1]) << 10
print(json.dumps([images.shape, peak]))
"""


def test_many_threads_share_the_memory_that_is_promised(stranger, signed):
    folder = with_decoder(stranger, signed, wide_rows(512, 5))
    command = [sys.executable, "-c", THREADS, str(folder)]
    done = subprocess.run(command, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True)
    shape, peak = json.loads(done.stdout)
    assert shape == [64, 28, 28, 1]
    assert peak < MEMORY_LIMIT


def test_a_file_of_the_largest_size_is_in_memory_once(stranger, signed, tmp_path):
    with (stranger / "encoder.onnx").open("wb") as file:
        file.truncate(256 * MIB)  # sparse
    signed(stranger)
    code, said, peak = measured("verify", stranger, cwd=tmp_path)
    assert (code, said.count("\n")) == (1, 1), said
    assert peak < 400 * MIB
