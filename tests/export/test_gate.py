"""The gate and `verify` are themselves checked: every way to be wrong that is known from other exporters is caught."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from vae_serve.errors import BundleError, ParityError
from vae_serve.export import gate
from vae_serve.export.build import deployed
from vae_serve.export.convert import bytes_input
from vae_serve.export.convert.onnx import OPSET, to_onnx
from vae_serve.export.gate import Side
from vae_serve.images import pixels
from vae_serve.model import bundle, onnx_file
from vae_serve.model.manifest import graph_spec
from vae_serve.model.verify import verify

SHAPE, LATENT_DIM = (28, 28, 1), 2


@pytest.fixture(scope="module")
def encoder(small) -> tuple[Side, bytes]:
    side = gate.encoder_side(small.encoder, graph_spec("encoder", "float32", SHAPE, LATENT_DIM), small.images)
    return side, to_onnx(deployed(small.encoder, "blocks"), side.spec, OPSET, {})


@pytest.fixture(scope="module")
def decoder(small) -> tuple[Side, bytes]:
    spec = graph_spec("decoder", "float32", SHAPE, LATENT_DIM)
    outputs = gate.in_chunks(gate.run_keras(small.decoder), small.codes)
    return Side("decoder", spec, small.codes, tuple(outputs)), to_onnx(
        deployed(small.decoder, "blocks"), spec, OPSET, {}
    )


def mutated(contents: bytes, change) -> bytes:
    model = onnx.load_from_string(contents)
    change(model)
    return model.SerializeToString()


def replaced(model, number: int, values: np.ndarray) -> None:
    name = model.graph.initializer[number].name
    model.graph.initializer[number].CopyFrom(numpy_helper.from_array(values, name))


def caught(side: Side, contents: bytes) -> str:
    with pytest.raises(ParityError) as error:
        gate.check_onnx(side, contents)
    return str(error.value)


def test_the_exports_pass(encoder, decoder):
    for side, contents in (encoder, decoder):
        reports = gate.check_onnx(side, contents)
        assert {report.copy for report in reports} == {f"ONNX, {level}" for level in gate.LEVELS}
        assert max(report["largest"] for report in reports) <= 1e-5


def test_swapped_outputs(encoder):
    side, contents = encoder

    def swap(model):
        split = model.graph.node[-1]
        split.output[:] = split.output[::-1]

    message = caught(side, mutated(contents, swap))
    assert message.startswith("encoder, ONNX")
    assert "z_mean[" in message


@pytest.mark.parametrize("network", ["encoder", "decoder"])
def test_every_tensor_of_weights_counts(network, request):
    """Of each tensor one weight, the first of a random order that reaches a living unit, moved by a thousandth."""
    side, contents = request.getfixturevalue(network)
    for number, tensor in enumerate(onnx.load_from_string(contents).graph.initializer):
        weights = numpy_helper.to_array(tensor).copy()
        if weights.dtype != np.float32:
            continue
        found = []
        for place in np.random.default_rng(0).permutation(weights.size)[:100]:
            moved = weights.copy()
            moved.ravel()[place] += 1e-3
            changed = mutated(contents, lambda model, n=number, values=moved: replaced(model, n, values))
            run = gate.run_onnx(changed, side.spec, "full optimisation")
            try:
                gate.check(side, "moved", run)
            except ParityError as error:
                found.append(str(error))
                break
        assert found, f"{tensor.name} moved by 1e-3 is not noticed"


def test_the_wrong_pixel_scale(encoder):
    side, contents = encoder

    def scale(model):
        first = model.graph.node[0]
        model.graph.initializer.append(numpy_helper.from_array(np.float32(255 / 256), "scale"))
        model.graph.node.insert(0, helper.make_node("Mul", [first.input[0], "scale"], ["scaled"]))
        model.graph.node[1].input[0] = "scaled"

    assert "z_mean[" in caught(side, mutated(contents, scale))


def test_nhwc_read_as_nchw():
    from tests.export.conftest import make

    model = make("conv", (6, 6, 3), 2, rows=20)
    side = gate.encoder_side(model.encoder, graph_spec("encoder", "float32", (6, 6, 3), 2), model.images)
    contents = to_onnx(deployed(model.encoder, "layers"), side.spec, OPSET, {})

    def misread(graph):
        first = graph.graph.node[0]
        assert first.op_type == "Transpose"
        graph.graph.initializer.append(numpy_helper.from_array(np.array([-1, 3, 6, 6]), "misread"))
        graph.graph.node[0].CopyFrom(helper.make_node("Reshape", [first.input[0], "misread"], list(first.output)))

    assert "z_mean[" in caught(side, mutated(contents, misread))


def test_a_batch_baked_in(decoder):
    def bake(model):
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1

    with pytest.raises(BundleError, match=r"input z has shape \(1, 2\)"):
        onnx_file.read(mutated(decoder[1], bake), "decoder.onnx")


def test_a_random_operator(decoder):
    """Such a graph converts without a word, and cannot be compared."""

    def randomise(model):
        last = model.graph.node[-1]
        last.output[0] = "exact"
        model.graph.node.append(helper.make_node("RandomNormalLike", ["exact"], ["image"]))

    with pytest.raises(BundleError, match="RandomNormalLike"):
        onnx_file.read(mutated(decoder[1], randomise), "decoder.onnx")


@pytest.mark.parametrize("part", [0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file(decoder, part):
    with pytest.raises(BundleError, match=r"decoder\.onnx"):
        onnx_file.read(decoder[1][: int(len(decoder[1]) * part)], "decoder.onnx")


def test_a_decoder_from_another_run(stranger, signed, decoder):
    """It has the right names, shapes, operators and hash; the conformance vectors know better."""
    (stranger / "decoder.onnx").write_bytes(decoder[1])
    with pytest.raises(ParityError, match=r"decoder\.onnx on its conformance vectors: image\["):
        verify(signed(stranger))


def test_not_a_number(decoder):
    side, contents = decoder

    def spoil(model):
        for number, tensor in enumerate(model.graph.initializer):
            if tensor.data_type == onnx.TensorProto.FLOAT:
                replaced(model, number, np.full_like(numpy_helper.to_array(tensor), np.nan))

    assert "inf exceeds" in caught(side, mutated(contents, spoil))


def test_a_byte_may_be_off_only_at_a_half():
    from vae_serve.model.parity import TOLERANCE, difference, nearest_in_bytes

    at_a_half, between = np.array([[10.5 / 255]]), np.array([[10.4 / 255]])
    for byte in (10, 11):
        assert difference(at_a_half, nearest_in_bytes(at_a_half, np.array([[byte]], np.uint8))).max() <= TOLERANCE
    assert difference(between, nearest_in_bytes(between, np.array([[10]], np.uint8))).max() == 0
    assert difference(between, nearest_in_bytes(between, np.array([[11]], np.uint8))).max() > TOLERANCE


@pytest.mark.parametrize("form", ["blocks", "layers"])
def test_raw_pixels_go_in_and_come_out(small, form):
    """The uint8 graphs pass the gate, and a truncating one does not."""
    given = gate.encoder_side(small.encoder, graph_spec("encoder", "uint8", SHAPE, LATENT_DIM), small.images[:64])
    assert given.inputs.dtype == np.uint8
    gate.check_onnx(given, to_onnx(deployed(small.encoder, form), given.spec, OPSET, {}))

    spec = graph_spec("decoder", "uint8", SHAPE, LATENT_DIM)
    floats = gate.in_chunks(gate.run_keras(small.decoder), small.codes[:64])
    side = Side("decoder", spec, small.codes[:64], tuple(floats))
    contents = to_onnx(deployed(small.decoder, form), spec, OPSET, {})
    gate.check_onnx(side, contents)
    (found,) = gate.run_onnx(contents, spec, "full optimisation")(small.codes[:64])
    assert found.dtype == np.uint8
    assert np.mean(found != pixels.to_bytes(floats[0])) < 1e-4

    def truncate(model):
        (rounding,) = [node for node in model.graph.node if node.op_type == "Round"]
        rounding.op_type = "Identity"

    assert "image[" in caught(side, mutated(contents, truncate))


def test_nothing_is_written_when_the_gate_closes(tmp_path: Path, monkeypatch, small):
    from dataclasses import replace

    from vae_serve.export import build
    from vae_serve.export.passes import fold
    from vae_serve.train.runs import Run

    def moved(model, form):
        network = fold.folded(model)
        *steps, last = network.steps
        return replace(network, steps=(*steps, replace(last, bias=last.bias + 1e-3)))

    monkeypatch.setattr(build, "deployed", moved)
    monkeypatch.setattr(Run, "encoder", lambda self: small.encoder)
    monkeypatch.setattr(Run, "decoder", lambda self: small.decoder)
    config = {"arch": "conv", "latent_dim": 2, "image_shape": [28, 28, 1], "data": "mnist"}
    data = {"name": "mnist", "licence": "CC BY-SA 3.0"}
    record = {"name": "moved", "config": config, "data": data, "pixels": {}, "parameters": {}, "versions": {}}
    run = Run(tmp_path, {**record, "command": "", "metrics": {"test": {}}, "status": "finished"})
    monkeypatch.setattr(gate, "BUDGET", 1)
    with pytest.raises(ParityError, match=r"encoder, Keras, folded: z_mean\[.*trained model gives"):
        build.export(build.Export(run, tmp_path / "exports" / "moved"))
    assert list((tmp_path / "exports").iterdir()) == []


def test_the_manifest_of_the_packaged_model_tells_what_was_compared():
    from tests.export.conftest import PACKAGED

    reports = bundle.read_manifest(PACKAGED / bundle.MANIFEST).reports
    assert {report.copy for report in reports} >= {"Keras, folded", "SavedModel", "ONNX, full optimisation"}
    assert {report.rows for report in reports if report.network == "encoder"} == {10_000}
    assert max(report.largest for report in reports) <= 1e-5


@pytest.mark.parametrize(
    ("weight", "value"), [("dequantizelinear.1", np.float32(1 / 256)), ("dequantizelinear.2", np.uint8(1))]
)
def test_an_encoder_of_bytes_with_another_scale_or_zero(small, weight, value):
    """The variant of bytes gives the bits of that of floats at every level; one that scales otherwise does not."""
    of_floats, of_bytes = (graph_spec("encoder", variant, SHAPE, LATENT_DIM) for variant in ("float32", "uint8"))
    floats = to_onnx(deployed(small.encoder, "blocks"), of_floats, OPSET, {})
    contents = bytes_input.of_bytes(floats, of_bytes)
    images = np.concatenate([gate.levels(SHAPE), small.images[:64]])
    gate.require_same_bits(images, contents, of_bytes, floats)
    gate.check_levels(gate.encoder_side(small.encoder, of_bytes, gate.levels(SHAPE)), contents)

    def change(model):
        (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == weight)
        tensor.CopyFrom(numpy_helper.from_array(np.array(value), weight))

    wrong = mutated(contents, change)
    with pytest.raises(ParityError, match=r"encoder\.uint8"):
        gate.require_same_bits(images, wrong, of_bytes, floats)
    with pytest.raises(ParityError, match="level"):
        gate.check_levels(gate.encoder_side(small.encoder, of_bytes, gate.levels(SHAPE)), wrong)
