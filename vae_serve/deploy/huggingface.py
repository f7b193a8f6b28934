"""A folder to upload to the Hugging Face Hub as a model repository.

README.md                          front matter that the Hub reads, then the bundle's own card, whose programs name the
                                   files below
config.json                        what the networks are
preprocessor_config.json           the pixel rule, with the Hub's names
onnx/encoder_model.onnx, onnx/decoder_model.onnx
conformance/                       inputs and expected outputs
"""

import math
import re
from pathlib import Path
from typing import Any

from vae_serve import quoting
from vae_serve.deploy import readme
from vae_serve.errors import BundleError
from vae_serve.model.bundle import Bundle
from vae_serve.model.manifest import Manifest, Role

FIGURES = ("negative_elbo", "reconstruction", "kl")  # nats per test image
DATASETS = {"mnist": "ylecun/mnist", "fashion-mnist": "zalando-datasets/fashion_mnist"}  # their ids on the Hub


def write(bundle: Bundle, into: Path) -> None:
    """Writes the repository for `bundle` into the empty folder `into`.

    Raises:
        BundleError: the bundle has no ONNX files, or its README.md is not UTF-8.
    """
    manifest = bundle.manifest
    if manifest.encoder is None or manifest.decoder is None:
        raise BundleError(f"{bundle.path} holds no ONNX files, which huggingface needs; export them: vae-serve export")
    (into / "onnx").mkdir()
    for graph in (manifest.encoder, manifest.decoder):
        (into / _file(graph.role)).write_bytes(bundle.read(graph.file))
    for entry in manifest.files:
        if entry.path.startswith("conformance/"):
            (into / entry.path).parent.mkdir(parents=True, exist_ok=True)
            (into / entry.path).write_bytes(bundle.read(entry.path))
    for name, contents in (("config.json", _config(manifest)), ("preprocessor_config.json", _preprocessor(manifest))):
        (into / name).write_text(quoting.json(contents, indent=2) + "\n", encoding="utf-8")
    try:
        lines = bundle.read("README.md").decode("utf-8").replace("\r\n", "\n").expandtabs().split("\n")
    except UnicodeDecodeError as error:
        raise BundleError(f"{bundle.path / 'README.md'} is not UTF-8: {error}") from error
    card = "\n".join(map(quoting.terminal, lines))  # its Markdown, without what acts on a terminal
    for graph in (manifest.encoder, manifest.decoder):
        card = re.sub(rf'(?<=["/]){re.escape(graph.file)}(?=")', _file(graph.role), card)  # in its programs
    (into / "README.md").write_text(
        f"---\n{front_matter(manifest)}---\n\n{card}\n{readme.huggingface(manifest)}", encoding="utf-8"
    )


def _file(role: Role) -> str:
    """Where libraries of the Hub look for a network."""
    return f"onnx/{role}_model.onnx"


def front_matter(manifest: Manifest) -> str:
    """YAML for the Hub: licence, task, tags, data set and test figures."""
    dataset = str(manifest.data.get("name", ""))
    fields: dict[str, Any] = {
        "license": "unknown" if manifest.licence == "unspecified" else manifest.licence.lower(),
        "library_name": "onnxruntime",
        "pipeline_tag": "unconditional-image-generation",
        "tags": ["onnx", "vae", "variational-autoencoder", manifest.arch],
    }
    if dataset in DATASETS:
        fields["datasets"] = [DATASETS[dataset]]
    figures = [
        {"type": name, "name": name.replace("_", " "), "value": figure}
        for name, figure in ((name, manifest.metrics.get(name)) for name in FIGURES)
        if isinstance(figure, float) and math.isfinite(figure)
    ]
    if figures:
        result = {
            "task": {"type": "unconditional-image-generation"},
            "dataset": {"name": dataset, "type": DATASETS.get(dataset, dataset), "split": "test"},
            "metrics": figures,
        }
        fields["model-index"] = [{"name": manifest.name, "results": [result]}]
    return "".join(f"{name}: {quoting.yaml(value)}\n" for name, value in fields.items())


def _config(manifest: Manifest) -> dict[str, Any]:
    return {
        "model_type": "vae",
        "architecture": manifest.arch,
        "latent_dim": manifest.latent_dim,
        "image_shape": manifest.image_shape,
        "encoder": _file("encoder"),
        "decoder": _file("decoder"),
        "opset": manifest.opset,
        "weights_sha256": manifest.weights_sha256,
    }


def _preprocessor(manifest: Manifest) -> dict[str, Any]:
    height, width, channels = manifest.image_shape
    encoder = manifest.encoder
    rescale = encoder is not None and encoder.inputs[0].dtype == "float32"
    return {
        "do_resize": True,
        "size": {"height": height, "width": width},
        "do_convert_rgb": channels == 3,
        "do_rescale": rescale,
        **({"rescale_factor": 1 / 255} if rescale else {}),
        "do_normalize": False,
        "data_format": "channels_last",
    }
