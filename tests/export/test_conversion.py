"""One conversion path for every architecture, shape, form and opset: names, order, a free batch axis, exact folding."""

import numpy as np
import onnx
import onnx.reference
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.export.conftest import make
from tests.model.agreement import agrees, with_all_outputs
from vae_serve.errors import UsageError
from vae_serve.exporting import gate
from vae_serve.exporting.build import deployed
from vae_serve.exporting.convert.onnx import NEWEST_OPSET, OPSET, convert, to_onnx
from vae_serve.exporting.convert.savedmodel import write_savedmodel
from vae_serve.exporting.network import Layer, Scale
from vae_serve.exporting.passes.fold import folded
from vae_serve.exporting.passes.space_to_depth import blocked
from vae_serve.images import pixels
from vae_serve.model import onnx as contract
from vae_serve.model import parity, saved_model
from vae_serve.model.manifest import graph_spec

FULL = "full optimisation"

SIZES = [
    ("conv", (28, 28, 1), 2),
    ("conv", (20, 33, 3), 1),  # colour, not square, an odd side that is cropped
    ("conv", (5, 3, 2), 16),
    ("mlp", (6, 9, 3), 64),
    ("narrow-wide", (12, 8, 3), 2),
    ("narrow-dcgan", (28, 28, 1), 2),
]
CASES = [(*size, form) for size in SIZES for form in ("layers", "blocks")]


@pytest.mark.parametrize(("arch", "shape", "latent_dim", "form"), CASES)
def test_both_networks_match_the_trained_ones(arch, shape, latent_dim, form):
    model = make(arch, shape, latent_dim, rows=12)
    given_ = (
        (model.encoder, graph_spec("encoder", "float32", shape, latent_dim), pixels.to_model(model.images)),
        (model.decoder, graph_spec("decoder", "float32", shape, latent_dim), model.codes),
    )
    for trained, spec, rows in given_:
        network = deployed(trained, form)
        assert not any(isinstance(step, Layer) for step in network.steps)  # all of it was understood
        contents = to_onnx(network, spec, OPSET, {"key": "value"})
        outputs = gate.run_onnx(contents, spec, FULL)(rows)
        for expected, found in zip(gate.run_keras(trained)(rows), outputs, strict=True):
            assert parity.difference(expected, found).max() <= 1e-5
        file = contract.read(contents, spec.file)
        assert [(v.name, v.dtype, v.shape) for v in file.inputs] == [(t.name, t.dtype, t.shape) for t in spec.inputs]
        assert [(v.name, v.dtype, v.shape) for v in file.outputs] == [(t.name, t.dtype, t.shape) for t in spec.outputs]
        assert (file.opset, file.ir_version, file.metadata) == (13, 7, {"key": "value"})


@pytest.mark.parametrize(("arch", "shape", "latent_dim"), SIZES)
@pytest.mark.parametrize("pixels_dtype", ["float32", "uint8"])
@pytest.mark.parametrize("form", ["layers", "blocks"])
def test_every_tensor_of_an_export_has_the_shape_that_the_reader_infers(arch, shape, latent_dim, pixels_dtype, form):
    model = make(arch, shape, latent_dim, rows=1)
    for trained, spec in (
        (model.encoder, graph_spec("encoder", pixels_dtype, shape, latent_dim)),
        (model.decoder, graph_spec("decoder", pixels_dtype, shape, latent_dim)),
    ):
        converted = with_all_outputs(convert(deployed(trained, form), spec, OPSET, {}))
        agrees(converted, contract.read(converted.SerializeToString(), spec.file))


def test_no_batchnorm_is_left_but_what_cannot_fold(small):
    """The decoder's first one has a scale for each of 784 places: what stays of it are signs and a shift."""
    for form in ("layers", "blocks"):
        for network in (deployed(small.encoder, form), deployed(small.decoder, form)):
            scales = [step for step in network.steps if isinstance(step, Scale)]
            assert {float(value) for step in scales for value in np.abs(step.scale)} <= {1.0}


@pytest.mark.parametrize("optimisation", ["no optimisation", FULL])
def test_a_bias_of_each_place_comes_after_the_flattening_and_changes_no_bit(small, optimisation):
    spec = graph_spec("encoder", "float32", (28, 28, 1), 2)
    before = blocked(folded(small.encoder, extra_channel=False))
    after = deployed(small.encoder, "blocks")
    contents = [to_onnx(network, spec, OPSET, {}) for network in (before, after)]
    kinds = [[node.op_type for node in onnx.load_from_string(each).graph.node] for each in contents]
    assert [kind[3:8] for kind in kinds] == [
        ["Conv", "Add", "Relu", "Transpose", "Reshape"],
        ["Conv", "Transpose", "Reshape", "Add", "Relu"],
    ]
    rows = pixels.to_model(small.images)
    outputs = [gate.run_onnx(each, spec, optimisation)(rows) for each in contents]
    for earlier, later in zip(*outputs, strict=True):
        assert np.array_equal(earlier, later)


def test_what_is_no_chain_of_known_layers_is_converted_as_it_is():
    import keras

    z = keras.Input((3,), name="z")
    x = keras.layers.Dense(12, activation="tanh")(z)
    x = keras.layers.Add()([x, keras.layers.Dense(12, activation="elu")(z)])
    x = keras.layers.Reshape((2, 2, 3), name="image")(keras.layers.Activation("sigmoid")(x))
    model = keras.Model(z, x)
    spec = graph_spec("decoder", "float32", (2, 2, 3), 3)
    rows = np.random.default_rng(0).standard_normal((9, 3), np.float32)
    (found,) = gate.run_onnx(_without_rules(deployed(model, "blocks"), spec), spec, FULL)(rows)
    assert parity.difference(model(rows).numpy(), found).max() <= 1e-5


def _without_rules(network, spec) -> bytes:
    return convert(network, spec, OPSET, {}).SerializeToString()


@pytest.mark.parametrize("opset", [13, 14, 17, 18, 21, NEWEST_OPSET])
def test_every_opset_gives_the_same_numbers(small, opset):
    spec = graph_spec("decoder", "float32", (28, 28, 1), 2)
    contents = to_onnx(deployed(small.decoder, "blocks"), spec, opset, {})
    model = onnx.load_from_string(contents)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset)]
    (expected,) = gate.run_keras(small.decoder)(small.codes[:7])
    outputs = onnx.reference.ReferenceEvaluator(model).run(["image"], {"z": small.codes[:7]})
    assert parity.difference(expected, outputs[0]).max() <= 1e-5


@pytest.mark.parametrize("opset", [0, 12, NEWEST_OPSET + 1])
def test_an_opset_that_cannot_be_had_is_refused(small, opset):
    with pytest.raises(UsageError, match=f"--opset {opset}"):
        to_onnx(deployed(small.decoder, "layers"), graph_spec("decoder", "float32", (28, 28, 1), 2), opset, {})


@pytest.fixture(scope="module")
def runs(small) -> dict:
    """For each network: the trained model and its export, as functions."""
    specs = {
        "encoder": graph_spec("encoder", "float32", (28, 28, 1), 2),
        "decoder": graph_spec("decoder", "float32", (28, 28, 1), 2),
    }
    models = {"encoder": small.encoder, "decoder": small.decoder}
    return {
        name: (
            gate.run_keras(models[name]),
            gate.run_onnx(to_onnx(deployed(models[name], "blocks"), spec, OPSET, {}), spec, FULL),
        )
        for name, spec in specs.items()
    }


def rows_of(network: str, count: int, seed: int, low: float, high: float) -> np.ndarray:
    stream = np.random.default_rng(seed)
    if network == "decoder":
        return stream.uniform(-10, 10, (count, 2)).astype(np.float32)
    return stream.uniform(min(low, high), max(low, high), (count, 28, 28, 1)).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(
    network=st.sampled_from(["encoder", "decoder"]),
    count=st.integers(1, 40),
    seed=st.integers(0, 2**32 - 1),
    low=st.floats(0, 1, width=32),
    high=st.floats(0, 1, width=32),
    cut=st.integers(0, 40),
)
def test_any_pixels_in_any_batch(runs, network, count, seed, low, high, cut):
    """As the trained model; a row's result is its own, whatever stands beside it and in which order."""
    trained, exported = runs[network]
    rows = rows_of(network, count, seed, low, high)
    whole = exported(rows)
    for expected, found in zip(trained(rows), whole, strict=True):
        assert parity.difference(expected, found).max() <= 1e-5
    order = np.random.default_rng(seed).permutation(count)
    for expected, found in zip(whole, exported(rows[order]), strict=True):
        assert parity.difference(expected[order], found).max() <= 1e-6  # the runtime may sum a smaller rest otherwise
    if 0 < cut < count:
        parts = zip(exported(rows[:cut]), exported(rows[cut:]), strict=True)
        for expected, found in zip(whole, map(np.concatenate, parts), strict=True):
            assert parity.difference(expected, found).max() <= 1e-6


@pytest.mark.parametrize(("arch", "shape", "latent_dim"), SIZES)
@pytest.mark.parametrize("pixels_dtype", ["float32", "uint8"])
@pytest.mark.parametrize("form", ["layers", "blocks"])
def test_every_saved_model_of_an_export_is_judged_to_be_one(arch, shape, latent_dim, pixels_dtype, form, tmp_path):
    model = make(arch, shape, latent_dim, rows=1)
    for trained, role in ((model.encoder, "encoder"), (model.decoder, "decoder")):
        spec = graph_spec(role, pixels_dtype, shape, latent_dim)
        write_savedmodel(deployed(trained, form), spec, tmp_path / role)
        judged = saved_model.judge((tmp_path / role / "1" / "saved_model.pb").read_bytes(), role)
        assert judged.inputs == {spec.inputs[0].name: (-1, *spec.inputs[0].shape[1:])}
        assert judged.row_bytes >= 4 * (np.prod(shape) + latent_dim)
