"""What `vae-serve deploy` writes is read by the consumers' own message definitions and parsers."""

import hashlib
import json
import re
import shlex
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import get_args

import numpy as np
import onnxruntime as ort
import pytest
from google.protobuf import text_format

from vae_serve import deploy, quoting
from vae_serve.cli import deploy as cli
from vae_serve.deploy import readme
from vae_serve.errors import OutputError, UsageError
from vae_serve.images import pixels
from vae_serve.model.bundle import Bundle

MNIST = Path(__file__).parents[2] / "exports" / "mnist"  # in every format
TARGETS = ("triton", "tf-serving", "huggingface", "web")


@pytest.fixture(scope="module")
def deployed(vae_serve, tmp_path_factory) -> Path:
    """A folder with the committed bundle for each target."""
    folder = tmp_path_factory.mktemp("deployed")
    for target in TARGETS:
        done = vae_serve("deploy", target, MNIST, "--out", folder / target, cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder


def test_triton_reads_its_configuration_and_finds_the_tensors_of_the_graph(deployed):
    from tritonclient.grpc import model_config_pb2

    models = sorted((deployed / "triton" / "models").iterdir())
    assert [model.name for model in models] == ["mnist_decoder", "mnist_encoder"]
    for model in models:
        config = text_format.Parse((model / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
        session = ort.InferenceSession(model / "1" / "model.onnx")
        assert config.name == model.name
        assert config.backend == "onnxruntime"
        assert config.max_batch_size == 256
        assert config.HasField("dynamic_batching")
        assert config.dynamic_batching == model_config_pb2.ModelDynamicBatching()  # nobody waits for others to come
        for described, real in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
            assert [(tensor.name, list(tensor.dims)) for tensor in described] == [
                (tensor.name, tensor.shape[1:]) for tensor in real
            ]
            assert {tensor.data_type for tensor in described} == {model_config_pb2.TYPE_FP32}
        [warmup] = config.model_warmup
        assert set(warmup.inputs) == {session.get_inputs()[0].name}


@pytest.mark.slow
def test_tensorflow_serving_gets_saved_models_by_version_and_a_configuration_that_names_them(deployed):
    from tensorflow_serving.config import model_server_config_pb2

    text = (deployed / "tf-serving" / "models.config").read_text()
    models = text_format.Parse(text, model_server_config_pb2.ModelServerConfig()).model_config_list.config
    assert [model.name for model in models] == ["encoder", "decoder"]
    for model in models:
        assert model.base_path == f"/models/{model.name}"
        assert (deployed / "tf-serving" / model.name / "1" / "saved_model.pb").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(("network", "tensor", "width"), [("encoder", "image", 784), ("decoder", "z", 2)])
def test_the_warm_up_requests_are_prediction_logs_that_the_saved_model_answers(deployed, network, tensor, width):
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    version = deployed / "tf-serving" / network / "1"
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


def test_the_hub_reads_the_front_matter_and_finds_the_networks(deployed):
    from huggingface_hub import ModelCard

    folder = deployed / "huggingface"
    card = ModelCard.load(folder / "README.md")
    figure = json.loads((MNIST / "manifest.json").read_text())["metrics"]["negative_elbo"]
    assert card.data.license == "mit"
    assert "onnx" in card.data.tags
    assert figure in [result.metric_value for result in card.data.eval_results]
    config = json.loads((folder / "config.json").read_text())
    assert (folder / config["encoder"]).read_bytes() == (MNIST / "encoder.onnx").read_bytes()
    assert (folder / config["decoder"]).read_bytes() == (MNIST / "decoder.onnx").read_bytes()
    rule = json.loads((folder / "preprocessor_config.json").read_text())
    assert np.float32(rule["rescale_factor"]) == pixels.SCALE
    assert (rule["size"]["height"], rule["size"]["width"]) == tuple(config["image_shape"][:2])


@pytest.mark.parametrize(
    ("target", "line"),
    [
        ("triton", 'tritonserver --model-repository="$PWD/models"'),
        ("triton", "curl localhost:8000/v2/models/mnist_decoder/infer -d"),
        ("tf-serving", "tensorflow_model_server --rest_api_port=8501"),
        ("huggingface", "hf upload USER/mnist ."),
        ("web", "python -m http.server --directory . 8000"),
    ],
)
def test_each_readme_has_the_line_that_starts_it(deployed, target, line):
    assert f"\n    {line}" in (deployed / target / "README.md").read_text()


def test_the_request_in_tritons_readme_is_one_that_the_decoder_takes(deployed):
    readme = (deployed / "triton" / "README.md").read_text()
    [words] = [shlex.split(line) for line in readme.replace("\\\n", "").splitlines() if line.startswith("    curl")]
    [tensor] = json.loads(words[words.index("-d") + 1])["inputs"]
    z = np.array(tensor["data"], np.float32).reshape(tensor["shape"])
    session = ort.InferenceSession(deployed / "triton" / "models" / "mnist_decoder" / "1" / "model.onnx")
    assert session.run(None, {tensor["name"]: z})[0].shape == (1, 28, 28, 1)


def with_texts(bundle: Path, folder: Path, text: str) -> Path:
    """A copy of `bundle` whose manifest has `text` in each field that is free."""
    copy = shutil.copytree(bundle, folder)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["licence"] = manifest["data"]["licence"] = text
    (copy / "manifest.json").write_text(json.dumps(manifest))
    return copy


def test_the_programs_of_the_hubs_card_find_their_files(deployed):
    folder = deployed / "huggingface"
    card = (folder / "README.md").read_text()
    programs = [program for program in re.findall(r"^```python\n(.*?)^```$", card, re.M | re.S) if ".onnx" in program]
    assert len(programs) >= 3  # the ten lines, ONNX Runtime, onnx's reference evaluator
    for program in programs:
        done = subprocess.run(
            [sys.executable, "-c", program, "."], cwd=folder, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr


def test_a_licence_that_nobody_has_stated_is_unknown_to_the_hub(vae_serve, tmp_path):
    from huggingface_hub import ModelCard

    bundle = with_texts(MNIST, tmp_path / "unstated", "unspecified")
    done = vae_serve("deploy", "huggingface", bundle, "--out", "hub", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert ModelCard.load(tmp_path / "hub" / "README.md").data.license == "unknown"


@pytest.mark.parametrize(
    "text",
    [
        "`touch pwned` $(touch pwned) '; touch pwned; '",
        "--- | [x](javascript:alert(1)) </script><script>alert(1)</script> <img src=x> # {}",
        '"quotes" \\ end: [a, b], {c: d} & *e !f %g @h',
    ],
)
def test_free_text_of_a_manifest_stays_text_in_every_file(vae_serve, tmp_path, text):
    from huggingface_hub import ModelCard

    bundle = with_texts(MNIST, tmp_path / "hostile", text)
    for target in TARGETS:
        done = vae_serve("deploy", target, bundle, "--out", target, cwd=tmp_path)
        assert done.returncode == 0, done.stderr

    assert ModelCard.load(tmp_path / "huggingface" / "README.md").data.license == text.lower()
    assert text in json.loads((tmp_path / "web" / "model.json").read_text())["about"][1]
    page = files("vae_serve.deploy") / "page" / "index.html"
    assert (tmp_path / "web" / "index.html").read_bytes() == page.read_bytes()
    for target in ("triton", "tf-serving", "web"):
        readme = (tmp_path / target / "README.md").read_text()
        assert f"Model: {quoting.markdown(text)}." in readme
        assert "<script" not in readme.replace("\\<", "")


def test_what_acts_on_a_terminal_in_a_bundles_readme_is_written_as_escapes(vae_serve, tmp_path):
    folder = shutil.copytree(MNIST, tmp_path / "bundle")
    card = "# a card\n\n---\nlicense: other\n---\n\x1b[31m red \u202e turned\n".encode()
    (folder / "README.md").write_bytes(card)
    manifest = json.loads((folder / "manifest.json").read_text())
    entry = next(entry for entry in manifest["files"] if entry["path"] == "README.md")
    entry |= {"bytes": len(card), "sha256": hashlib.sha256(card).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    done = vae_serve("deploy", "huggingface", folder, "--out", "there", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "there" / "README.md").read_text()
    assert "\\x1b[31m red \\u202e turned\n" in text
    assert text.startswith("---\n")
    assert "license: other" not in text.split("---\n")[1]


def test_a_bundle_with_a_changed_byte_is_not_deployed(vae_serve, tmp_path):
    damaged = shutil.copytree(MNIST, tmp_path / "damaged")
    contents = bytearray((damaged / "encoder.onnx").read_bytes())
    contents[len(contents) // 2] ^= 1
    (damaged / "encoder.onnx").write_bytes(contents)
    done = vae_serve("deploy", "triton", damaged, "--out", "there", cwd=tmp_path)
    assert done.returncode == 1
    assert "encoder.onnx is not the file that the manifest names" in done.stderr
    assert [entry.name for entry in tmp_path.iterdir()] == ["damaged"]


def test_a_folder_that_exists_is_replaced_only_when_asked_and_only_if_deploy_made_it(vae_serve, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    (tmp_path / "mine" / "README.md").write_text("Here `vae-serve deploy triton` was tried.\n")
    command = ("deploy", "triton", MNIST, "--out")
    refused = vae_serve(*command, "mine", cwd=tmp_path)
    assert (refused.returncode, "mine exists" in refused.stderr) == (1, True)
    refused = vae_serve(*command, "mine", "--overwrite", cwd=tmp_path)
    assert (refused.returncode, "vae-serve deploy" in refused.stderr) == (1, True)
    assert sorted(entry.name for entry in (tmp_path / "mine").iterdir()) == ["README.md", "letter.txt"]

    assert vae_serve(*command, "new", cwd=tmp_path).returncode == 0
    (tmp_path / "new" / "left-over").touch()
    assert vae_serve(*command, "new", cwd=tmp_path).returncode == 1
    assert vae_serve(*command, "new", "--overwrite", cwd=tmp_path).returncode == 0
    assert sorted(entry.name for entry in (tmp_path / "new").iterdir()) == ["README.md", "models"]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["mine", "new"]


def test_a_link_in_the_place_of_the_folder_is_not_followed(vae_serve, deployed, tmp_path):
    earlier = shutil.copytree(deployed / "triton", tmp_path / "earlier")
    (tmp_path / "there").symlink_to(earlier)
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    for link in ("there", "nowhere"):
        done = vae_serve("deploy", "triton", MNIST, "--out", link, "--overwrite", cwd=tmp_path)
        assert (done.returncode, link in done.stderr) == (1, True)
    assert sorted(entry.name for entry in earlier.iterdir()) == ["README.md", "models"]
    assert not (tmp_path / "gone").exists()


def test_what_appears_at_out_while_the_bundle_is_deployed_is_kept(tmp_path, monkeypatch):
    out = tmp_path / "out"

    def write(bundle: Bundle, into: Path) -> None:
        (into / "config").touch()
        out.mkdir()
        (out / "letter.txt").write_text("dear")

    monkeypatch.setitem(deploy.TARGETS, "triton", write)
    with pytest.raises(OutputError, match="out"):
        deploy.deploy(MNIST, "triton", out)
    assert [(file.name, file.read_text()) for file in out.iterdir()] == [("letter.txt", "dear")]


def test_no_page_of_the_project_would_be_taken_for_a_deployed_folder():
    for page in (MNIST.parents[1]).glob("*.md"):
        assert not any(readme.made_by(target) in page.read_text().splitlines() for target in TARGETS)


def test_an_unknown_target_is_wrong_usage_and_the_sentence_lists_the_known_ones(vae_serve, tmp_path):
    done = vae_serve("deploy", "kubernetes", MNIST, "--out", "there", cwd=tmp_path)
    assert done.returncode == 2
    assert all(target in done.stderr for target in TARGETS)


def test_the_api_names_the_targets_too(tmp_path):
    assert get_args(cli.Target) == get_args(deploy.Target) == TARGETS
    with pytest.raises(UsageError, match="triton, tf-serving, huggingface, web"):
        deploy.deploy(MNIST, "kubernetes", tmp_path / "there")


def test_options_of_export_are_wrong_usage(vae_serve, tmp_path):
    done = vae_serve("deploy", "web", MNIST, "--out", "there", "--opset", 17, cwd=tmp_path)
    assert (done.returncode, "--opset" in done.stderr) == (2, True)


def test_a_folder_that_is_no_bundle_is_refused(vae_serve, tmp_path):
    (tmp_path / "run").mkdir()
    done = vae_serve("deploy", "triton", "run", "--out", "there", cwd=tmp_path)
    assert done.returncode == 1
    assert "is not a bundle" in done.stderr


def test_without_a_bundle_the_newest_one_is_taken_and_named(vae_serve, tmp_path):
    shutil.copytree(MNIST, tmp_path / "exports" / "mine")
    done = vae_serve("deploy", "triton", "--out", "there", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"bundle": "exports/mine", "target": "triton", "folder": "there"}
    assert "the bundle is exports/mine" in done.stderr


@pytest.mark.parametrize("target", TARGETS)
def test_no_target_loads_a_training_package(target, tmp_path):
    code = (
        "import sys, vae_serve.cli\n"
        f"try: vae_serve.cli.main(['deploy', {target!r}, {str(MNIST)!r}, '--out', 'there'])\n"
        "except SystemExit as end: print(end.code, sorted({m.split('.')[0] for m in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("0 "), done.stderr
    for package in ("tensorflow", "keras", "tf2onnx", "onnx", "matplotlib"):
        assert f"'{package}'" not in done.stdout
