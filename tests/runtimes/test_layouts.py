"""What a layout holds is read by the consumers' own message definitions and parsers."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from google.protobuf import text_format

from vae_serve.images import pixels
from vae_serve.model import bundle

SERVERS = ("triton", "tf-serving", "huggingface")


@pytest.fixture(scope="module")
def laid_out(exported, vae_serve, tmp_path_factory) -> Path:
    """A folder with one layout of `exported` for each server or hub."""
    folder = tmp_path_factory.mktemp("layouts")
    for layout in SERVERS:
        done = vae_serve("export", exported, "--layout", layout, "--out", folder / layout, cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder


def test_triton_reads_its_configuration_and_finds_the_tensors_of_the_graph(laid_out):
    from tritonclient.grpc import model_config_pb2

    models = sorted((laid_out / "triton" / "models").iterdir())
    assert [model.name for model in models] == ["small_decoder", "small_encoder"]
    for model in models:
        config = text_format.Parse((model / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
        session = ort.InferenceSession(model / "1" / "model.onnx")
        assert config.name == model.name
        assert config.backend == "onnxruntime"
        assert config.max_batch_size == 256
        assert list(config.dynamic_batching.preferred_batch_size) == [64, 128]
        for described, real in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
            assert [(tensor.name, list(tensor.dims)) for tensor in described] == [
                (tensor.name, tensor.shape[1:]) for tensor in real
            ]
            assert {tensor.data_type for tensor in described} == {model_config_pb2.TYPE_FP32}
        [warmup] = config.model_warmup
        assert set(warmup.inputs) == {session.get_inputs()[0].name}


@pytest.mark.slow
def test_tensorflow_serving_gets_saved_models_by_version_and_a_configuration_that_names_them(laid_out):
    from tensorflow_serving.config import model_server_config_pb2

    text = (laid_out / "tf-serving" / "models.config").read_text()
    models = text_format.Parse(text, model_server_config_pb2.ModelServerConfig()).model_config_list.config
    assert [model.name for model in models] == ["encoder", "decoder"]
    for model in models:
        assert model.base_path == f"/models/{model.name}"
        assert (laid_out / "tf-serving" / model.name / "1" / "saved_model.pb").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(("network", "tensor", "width"), [("encoder", "image", 784), ("decoder", "z", 2)])
def test_the_warm_up_requests_are_prediction_logs_that_the_saved_model_answers(laid_out, network, tensor, width):
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    version = laid_out / "tf-serving" / network / "1"
    records = tf.data.TFRecordDataset(str(version / "assets.extra" / "tf_serving_warmup_requests"))
    model = tf.saved_model.load(str(version))
    batches = []
    for record in records:  # TensorFlow checks both sums of each record
        request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        assert request.model_spec.name == network
        rows = tf.make_ndarray(request.inputs[tensor])
        assert rows.dtype == np.float32
        assert rows[0].size == width
        answers = model.signatures[request.model_spec.signature_name](**{tensor: tf.constant(rows)})
        assert {len(answer) for answer in answers.values()} == {len(rows)}
        batches.append(len(rows))
    assert batches == [1, 8, 64]


def test_the_hub_reads_the_front_matter_and_finds_the_networks(laid_out, exported):
    from huggingface_hub import ModelCard

    folder = laid_out / "huggingface"
    card = ModelCard.load(folder / "README.md")
    figure = json.loads((exported / "manifest.json").read_text())["metrics"]["negative_elbo"]
    assert card.data.license == "mit"
    assert "onnx" in card.data.tags
    assert figure in [result.metric_value for result in card.data.eval_results]
    config = json.loads((folder / "config.json").read_text())
    assert (folder / config["encoder"]).read_bytes() == (exported / "encoder.onnx").read_bytes()
    assert (folder / config["decoder"]).read_bytes() == (exported / "decoder.onnx").read_bytes()
    rule = json.loads((folder / "preprocessor_config.json").read_text())
    assert np.float32(rule["rescale_factor"]) == pixels.SCALE
    assert (rule["size"]["height"], rule["size"]["width"]) == tuple(config["image_shape"][:2])


@pytest.mark.parametrize(
    ("layout", "line"),
    [
        ("triton", 'tritonserver --model-repository="$PWD/models"'),
        ("tf-serving", "tensorflow_model_server --rest_api_port=8501"),
        ("huggingface", "hf upload USER/small ."),
    ],
)
def test_each_readme_has_the_line_that_starts_it(laid_out, layout, line):
    assert f"\n    {line}" in (laid_out / layout / "README.md").read_text()


def test_a_bundle_with_a_changed_byte_is_not_laid_out(exported, vae_serve, tmp_path):
    damaged = tmp_path / "damaged"
    shutil.copytree(exported, damaged)
    contents = bytearray((damaged / "encoder.onnx").read_bytes())
    contents[len(contents) // 2] ^= 1
    (damaged / "encoder.onnx").write_bytes(contents)
    done = vae_serve("export", damaged, "--layout", "triton", "--out", "there", cwd=tmp_path)
    assert done.returncode == 1
    assert "encoder.onnx is not the file that the manifest names" in done.stderr
    assert [entry.name for entry in tmp_path.iterdir()] == ["damaged"]


def test_a_folder_that_exists_gives_way_only_when_asked_and_only_if_it_is_a_layout(exported, vae_serve, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    words = ("export", exported, "--layout", "triton", "--out")
    refused = vae_serve(*words, "mine", cwd=tmp_path)
    assert (refused.returncode, "mine exists" in refused.stderr) == (1, True)
    refused = vae_serve(*words, "mine", "--overwrite", cwd=tmp_path)
    assert (refused.returncode, "mine exists and is no layout" in refused.stderr) == (1, True)
    assert [entry.name for entry in (tmp_path / "mine").iterdir()] == ["letter.txt"]

    assert vae_serve(*words, "new", cwd=tmp_path).returncode == 0
    (tmp_path / "new" / "left-over").touch()
    assert vae_serve(*words, "new", cwd=tmp_path).returncode == 1
    assert vae_serve(*words, "new", "--overwrite", cwd=tmp_path).returncode == 0
    assert sorted(entry.name for entry in (tmp_path / "new").iterdir()) == ["README.md", "models"]


def test_an_unknown_layout_is_wrong_usage_and_the_sentence_lists_the_known_ones(exported, vae_serve, tmp_path):
    done = vae_serve("export", exported, "--layout", "kubernetes", cwd=tmp_path)
    assert done.returncode == 2
    assert "triton, tf-serving, huggingface, web" in done.stderr


def test_a_run_is_not_laid_out_but_must_be_exported_first(trained, vae_serve, tmp_path):
    done = vae_serve("export", trained, "--layout", "triton", cwd=tmp_path)
    assert done.returncode == 1
    assert "is no bundle" in done.stderr


def test_layouts_need_no_tensorflow(exported, vae_serve, tmp_path):
    for heavy in ("tensorflow", "keras"):
        (tmp_path / f"{heavy}.py").write_text("raise AssertionError('imported')")
    path = f"{tmp_path}:{Path(bundle.__file__).parents[2]}"
    done = vae_serve("export", exported, "--layout", "tf-serving", cwd=tmp_path, env={"PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
