"""A model repository for NVIDIA Triton Inference Server, with its ONNX Runtime backend.

    models/NAME_encoder/config.pbtxt, models/NAME_encoder/1/model.onnx       and the same for NAME_decoder

The configuration is protobuf text of `inference.ModelConfig`
(triton-inference-server/common, protobuf/model_config.proto); its `dims` leave the batch axis out.
"""

import re
from pathlib import Path

from vae_serve.deploy import readme
from vae_serve.errors import BundleError
from vae_serve.model.bundle import Bundle
from vae_serve.model.manifest import GraphSpec, Manifest, TensorSpec
from vae_serve.quoting import pbtxt

MAX_BATCH = 256
WARMUP_BATCH = 64  # what ONNX Runtime is fastest at with one thread a call, on a CPU

TYPES = {"float32": "TYPE_FP32", "uint8": "TYPE_UINT8"}


def write(bundle: Bundle, into: Path) -> None:
    """Writes the model repository of `bundle` into the empty folder `into`.

    Raises:
        BundleError: the bundle has no ONNX files.
    """
    manifest = bundle.manifest
    for network, graph in (("encoder", manifest.encoder), ("decoder", manifest.decoder)):
        if graph is None:
            raise BundleError(f"{bundle.path} holds no ONNX files, which triton needs; export them: vae-serve export")
        folder = into / "models" / f"{stem(manifest)}_{network}"
        (folder / "1").mkdir(parents=True)
        (folder / "1" / "model.onnx").write_bytes(bundle.read(graph.file))
        (folder / "config.pbtxt").write_text(config(folder.name, graph), encoding="utf-8")
    (into / "README.md").write_text(readme.triton(manifest, stem(manifest)), encoding="utf-8")


def stem(manifest: Manifest) -> str:
    """What the names of both models begin with: a folder, a model's name and part of a URL."""
    return re.sub(r"[^A-Za-z0-9_]+", "_", manifest.name)


def config(name: str, graph: GraphSpec) -> str:
    """The text of config.pbtxt.

    Requests that wait when an instance becomes free share a batch. A delay or preferred sizes would hold up a caller
    who is alone for longer than these networks take.
    """
    [image] = graph.inputs
    tensors = [_tensor("input", image)] + [_tensor("output", output) for output in graph.outputs]
    return f"""\
name: {pbtxt(name)}
backend: "onnxruntime"
max_batch_size: {MAX_BATCH}
{"".join(tensors)}\
version_policy {{ latest {{ num_versions: 1 }} }}
dynamic_batching {{ }}
parameters {{ key: "intra_op_thread_count" value {{ string_value: "1" }} }}
model_warmup {{
  name: "zeros"
  batch_size: {WARMUP_BATCH}
  inputs {{ key: {pbtxt(image.name)} value {{ data_type: {TYPES[image.dtype]} dims: {_dims(image)} zero_data: true }} }}
}}
"""


def _tensor(side: str, tensor: TensorSpec) -> str:
    return f"{side} {{ name: {pbtxt(tensor.name)} data_type: {TYPES[tensor.dtype]} dims: {_dims(tensor)} }}\n"


def _dims(tensor: TensorSpec) -> list[int | str]:
    return list(tensor.shape[1:])
