"""export, verify and inspect as a person types them, each in a fresh process."""

import json
import shutil
from pathlib import Path

import onnx
import pytest

from vae_serve.exporting import build
from vae_serve.model import bundle


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_two_exports_of_one_run_are_the_same_bytes(vae_serve, trained, exported, tmp_path):
    """In another process, under another hash seed, in another folder: ONNX files, manifest, SavedModels, card, all."""
    seed = {"PYTHONHASHSEED": "4711"}
    again = vae_serve("export", trained, "--out", tmp_path / "again", cwd=tmp_path, env=seed)
    assert again.returncode == 0, again.stderr
    assert files_of(tmp_path / "again") == files_of(exported)
    assert build.formats_of(bundle.read_manifest(exported / "manifest.json")) == build.DEFAULT_FORMATS

    same = vae_serve("export", trained, "--out", exported, "--check", "--json", cwd=tmp_path)
    assert (same.returncode, json.loads(same.stdout)["same"]) == (0, True), same.stderr
    other = vae_serve("export", trained, "--out", exported, "--check", "--form", "layers", cwd=tmp_path)
    assert other.returncode == 1
    assert "manifest.json: form" in other.stderr
    assert "encoder.onnx" in other.stderr


@pytest.mark.slow
def test_verify_against_the_run_repeats_the_gate(vae_serve, trained, exported, tmp_path, digits):
    done = vae_serve("verify", exported, "--against", trained, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert 0 < json.loads(done.stdout)["largest_difference"] <= 1e-5

    shutil.copytree(bundle.find(None, exports=tmp_path), tmp_path / "other")
    wrong = vae_serve("verify", tmp_path / "other", "--against", trained, cwd=tmp_path)
    assert wrong.returncode == 1
    assert "was exported from other weights" in wrong.stderr


@pytest.mark.slow
def test_the_graphs_of_a_bundle(exported):
    for name, inputs, outputs in (
        ("encoder", {"image": (28, 28, 1)}, {"z_mean": (2,), "z_log_var": (2,)}),
        ("decoder", {"z": (2,)}, {"image": (28, 28, 1)}),
    ):
        model = onnx.load(exported / f"{name}.onnx")
        onnx.checker.check_model(model, full_check=True)

        def described(values):
            return {
                value.name: tuple(dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim)
                for value in values
            }

        assert described(model.graph.input) == {key: ("batch", *shape) for key, shape in inputs.items()}
        assert list(described(model.graph.output).items()) == [(k, ("batch", *s)) for k, s in outputs.items()]
        assert (model.ir_version, [(o.domain, o.version) for o in model.opset_import]) == (7, [("", 13)])
        facts = {entry.key: entry.value for entry in model.metadata_props}
        assert facts["vae_serve.licence"] == "unspecified"
        assert facts["vae_serve.weights_sha256"] == bundle.read_manifest(exported / "manifest.json").weights_sha256


@pytest.mark.slow
def test_raw_pixels_by_the_command(vae_serve, trained, tmp_path):
    out = tmp_path / "raw"
    words = ("--format", "onnx", "--pixels", "uint8", "--licence", "CC-BY-4.0")
    done = vae_serve("export", trained, *words, "--out", out, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    manifest = bundle.read_manifest(out / "manifest.json")
    assert manifest.licence == "CC-BY-4.0"
    assert "The weights: CC-BY-4.0." in (out / "README.md").read_text()
    assert build.formats_of(manifest) == ("onnx",)
    graphs = [graph.file for graph in manifest.graphs]
    assert graphs == ["encoder.onnx", "encoder.uint8.onnx", "decoder.onnx", "decoder.uint8.onnx"]
    done = vae_serve("verify", out, "--against", trained, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras 3.15 saves so under NumPy 2.4
@pytest.mark.filterwarnings("ignore:.*HDF5 file:UserWarning")  # Keras would rather not write .h5 either
@pytest.mark.parametrize("kind", ["lambda", "foreign class", "h5"])
def test_a_run_whose_network_is_not_plain_is_refused(vae_serve, trained, tmp_path, kind):
    import keras

    run = Path(shutil.copytree(trained, tmp_path / "run"))
    image = keras.Input((28, 28, 1))

    @keras.saving.register_keras_serializable("stranger")
    class Foreign(keras.layers.Layer):
        def call(self, x):
            return x

    exploded = str(tmp_path / "exploded")
    layer = keras.layers.Lambda(lambda x: Path(exploded).touch() or x) if kind == "lambda" else Foreign()
    x = keras.layers.Flatten()(image if kind == "h5" else layer(image))
    Path(exploded).unlink(missing_ok=True)  # building the model ran it here
    model = keras.Model(image, [keras.layers.Dense(2)(x), keras.layers.Dense(2)(x)])
    saved = tmp_path / ("model.h5" if kind == "h5" else "model.keras")
    model.save(saved)
    saved.replace(run / "encoder.keras")
    done = vae_serve("export", run, "--out", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 1
    assert "encoder.keras cannot be loaded" in done.stderr
    assert not Path(exploded).exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_an_export_is_not_overwritten_unasked(vae_serve, trained, exported, tmp_path):
    before = files_of(exported)
    done = vae_serve("export", trained, "--out", exported, cwd=tmp_path)
    assert (done.returncode, files_of(exported)) == (1, before)
    assert "exists" in done.stderr
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    done = vae_serve("export", trained, "--out", tmp_path / "mine", "--overwrite", cwd=tmp_path)
    assert done.returncode == 1
    assert "is not a bundle" in done.stderr
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"


def test_inspect_tells_of_a_bundle_and_of_a_lone_file(vae_serve, stranger, tmp_path):
    whole = vae_serve("inspect", stranger, "--json", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    facts = json.loads(whole.stdout)
    assert (facts["arch"], facts["opset"], facts["encoder"]["inputs"]) == (
        "conv",
        13,
        {"image": "float32 batch x 28 x 28 x 1"},
    )
    assert facts["largest_difference"]["largest"] <= 1e-5

    lone = vae_serve("inspect", shutil.copy(stranger / "decoder.onnx", tmp_path / "lone.onnx"), cwd=tmp_path)
    assert lone.returncode == 0, lone.stderr
    assert facts["weights_sha256"] in lone.stdout
    assert "float32 batch x 28 x 28 x 1" in lone.stdout
