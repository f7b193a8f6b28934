"""The gate and `verify` are themselves checked: every way to be wrong that is known from other exporters is caught."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from vae_serve.errors import BundleError, ParityError
from vae_serve.exporting import gate
from vae_serve.exporting.build import deployed
from vae_serve.exporting.convert import bytes_input
from vae_serve.exporting.convert.onnx import OPSET, to_onnx
from vae_serve.exporting.gate import Reference
from vae_serve.images import pixels
from vae_serve.model import bundle
from vae_serve.model import onnx as contract
from vae_serve.model.manifest import graph_spec
from vae_serve.model.sessions import LEVELS
from vae_serve.model.verify import verify

SHAPE, LATENT_DIM = (28, 28, 1), 2


@pytest.fixture(scope="module")
def encoder(small) -> tuple[Reference, bytes]:
    side = gate.encoder_reference(small.encoder, graph_spec("encoder", "float32", SHAPE, LATENT_DIM), small.images)
    return side, to_onnx(deployed(small.encoder, "blocks"), side.spec, OPSET, {})


@pytest.fixture(scope="module")
def decoder(small) -> tuple[Reference, bytes]:
    spec = graph_spec("decoder", "float32", SHAPE, LATENT_DIM)
    side = gate.reference_of("decoder", small.decoder, spec, small.codes)
    return side, to_onnx(deployed(small.decoder, "blocks"), spec, OPSET, {})


def mutated(contents: bytes, change) -> bytes:
    model = onnx.load_from_string(contents)
    change(model)
    return model.SerializeToString()


def replaced(model, number: int, values: np.ndarray) -> None:
    name = model.graph.initializer[number].name
    model.graph.initializer[number].CopyFrom(numpy_helper.from_array(values, name))


def caught(side: Reference, contents: bytes) -> str:
    with pytest.raises(ParityError) as error:
        gate.check_onnx(side, contents)
    return str(error.value)


def test_the_exports_pass(encoder, decoder):
    for side, contents in (encoder, decoder):
        reports = gate.check_onnx(side, contents)
        assert {report["copy"] for report in reports} == {f"ONNX, {level}" for level in LEVELS}
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
    side = gate.encoder_reference(model.encoder, graph_spec("encoder", "float32", (6, 6, 3), 2), model.images)
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

    with pytest.raises(BundleError, match=r"z has the shape \[1, 2\], not \(batch"):
        contract.read(mutated(decoder[1], bake), "decoder.onnx")


def test_a_random_operator(decoder):
    """Such a graph converts without a word, and cannot be compared."""

    def randomise(model):
        last = model.graph.node[-1]
        last.output[0] = "exact"
        model.graph.node.append(helper.make_node("RandomNormalLike", ["exact"], ["image"]))

    with pytest.raises(BundleError, match="RandomNormalLike"):
        contract.read(mutated(decoder[1], randomise), "decoder.onnx")


@pytest.mark.parametrize("part", [0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file(decoder, part):
    with pytest.raises(BundleError, match=r"decoder\.onnx"):
        contract.read(decoder[1][: int(len(decoder[1]) * part)], "decoder.onnx")


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
    given = gate.encoder_reference(small.encoder, graph_spec("encoder", "uint8", SHAPE, LATENT_DIM), small.images[:64])
    assert given.inputs.dtype == np.uint8
    gate.check_onnx(given, to_onnx(deployed(small.encoder, form), given.spec, OPSET, {}))

    spec = graph_spec("decoder", "uint8", SHAPE, LATENT_DIM)
    side = gate.reference_of("decoder", small.decoder, spec, small.codes[:64])
    contents = to_onnx(deployed(small.decoder, form), spec, OPSET, {})
    gate.check_onnx(side, contents)
    (found,) = gate.run_onnx(contents, spec, "full optimisation")(small.codes[:64])
    assert found.dtype == np.uint8
    assert np.mean(found != pixels.to_bytes(side.expected[0])) < 1e-4

    def truncate(model):
        (rounding,) = [node for node in model.graph.node if node.op_type == "Round"]
        rounding.op_type = "Identity"

    assert "image[" in caught(side, mutated(contents, truncate))


def scaled(encoder, factor: float, centre: np.ndarray | None = None):
    """The encoder with a z_mean of so many times the size, which is 0 where it was `centre`: large terms cancel."""
    import keras

    clone = keras.models.clone_model(encoder)
    clone.set_weights(encoder.get_weights())
    head = clone.get_layer("z_mean")
    kernel, bias = head.get_weights()
    head.set_weights([kernel * factor, (bias if centre is None else bias - centre) * factor])
    return clone


def test_a_model_whose_own_float32_is_far_off_passes_and_a_wrong_copy_of_it_does_not(small):
    centre = gate.run_keras(small.encoder)(pixels.to_model(small.images[:1]))[0][0]
    far = scaled(small.encoder, 100, centre)
    side = gate.encoder_reference(far, graph_spec("encoder", "float32", SHAPE, LATENT_DIM), small.images)
    assert np.abs(side.expected[0]).max() > 15
    assert side.expected[0].dtype == np.float64
    assert side.trained_float32[0] > 5e-6
    reports = gate.check_onnx(side, to_onnx(deployed(far, "blocks"), side.spec, OPSET, {}))
    for report in reports:
        own, allowed = report["trained_float32"], report["tolerance"]
        assert report["largest"] <= allowed == pytest.approx(max(1e-5, 2 * own), rel=0.01)
    wrong = scaled(far, 1 + 4 * side.tolerances[0])
    assert "z_mean[" in caught(side, to_onnx(deployed(wrong, "blocks"), side.spec, OPSET, {}))


def test_the_reference_is_the_trained_graph_in_float64(small):
    """Held against its layers, written out in NumPy's float64."""
    z = small.codes[:5].astype(np.float64)
    model = gate.in_float64(small.decoder)
    dense = small.decoder.layers[1]
    kernel, bias = (weights.astype(np.float64) for weights in dense.get_weights())
    import keras

    first = keras.Model(model.inputs[0], model.layers[1].output)(z).numpy()
    assert first.dtype == np.float64
    np.testing.assert_allclose(first, np.maximum(z @ kernel + bias, 0), rtol=1e-13)
    assert {layer.compute_dtype for layer in model.layers[1:]} == {"float64"}
    assert [layer.name for layer in model.layers] == [layer.name for layer in small.decoder.layers]


def test_nothing_is_written_when_the_gate_closes(tmp_path: Path, monkeypatch, small):
    from dataclasses import replace

    from vae_serve.exporting import build
    from vae_serve.exporting.passes import fold
    from vae_serve.training import gate_inputs
    from vae_serve.training.runs import Run

    def moved(model, form):
        network = fold.folded(model)
        *steps, last = network.steps
        return replace(network, steps=(*steps, replace(last, bias=last.bias + 1e-3)))

    monkeypatch.setattr(build, "deployed", moved)
    monkeypatch.setattr(Run, "encoder", lambda self: small.encoder)
    monkeypatch.setattr(Run, "decoder", lambda self: small.decoder)
    config = {"arch": "conv", "latent_dim": 2, "image_shape": [28, 28, 1], "data": "mnist"}
    data = {"name": "mnist", "licence": "CC BY-SA 3.0"}
    contents, note = gate_inputs.packed(small.images)
    (tmp_path / gate_inputs.FILE).write_bytes(contents)
    record = {
        "name": "moved",
        "gate": note,
        "config": config,
        "data": data,
        "pixels": {},
        "parameters": {},
        "versions": {},
    }
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

    def change(model):
        (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == weight)
        tensor.CopyFrom(numpy_helper.from_array(np.array(value), weight))

    wrong = mutated(contents, change)
    with pytest.raises(ParityError, match=r"encoder\.uint8"):
        gate.require_same_bits(images, wrong, of_bytes, floats)
