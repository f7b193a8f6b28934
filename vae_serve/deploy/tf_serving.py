"""Folders for TensorFlow Serving: the bundle's SavedModels by version, with warm-up requests.

    encoder/1/, decoder/1/                              the SavedModels, their `serving_default` as exported
    */1/assets.extra/tf_serving_warmup_requests         what the server runs before it is ready
    models.config                                       a `tensorflow.serving.ModelServerConfig` of both

The warm-up file is a TFRecord file of `tensorflow.serving.PredictionLog`. Its few fields are written here, since the
packages with these messages need all of TensorFlow.
"""

import math
import struct
from pathlib import Path, PurePosixPath

from vae_serve.deploy import readme
from vae_serve.errors import BundleError
from vae_serve.model import saved_model
from vae_serve.model.bundle import Bundle
from vae_serve.model.manifest import ROLES, TensorSpec, graph_spec
from vae_serve.model.protobuf import Messages, encode

_MESSAGES: Messages = {  # what one request needs of tensorflow_serving/apis and tensorflow/core/framework
    "Dim": {"size": (1, "int")},
    "TensorShape": {"dim": (2, "*Dim")},
    "Tensor": {"dtype": (1, "int"), "tensor_shape": (2, "TensorShape"), "tensor_content": (4, "bytes")},
    "ModelSpec": {"name": (1, "string"), "signature_name": (3, "string")},
    "Entry": {"key": (1, "string"), "value": (2, "Tensor")},
    "PredictRequest": {"model_spec": (1, "ModelSpec"), "inputs": (2, "*Entry")},
    "PredictLog": {"request": (1, "PredictRequest")},
    "PredictionLog": {"predict_log": (6, "PredictLog")},
}
WARMUP_BATCHES = (1, 8, 64)
VERSION = "1"
DT = {"float32": (1, 4), "uint8": (4, 1)}  # tensorflow/core/framework/types.proto, and bytes an element


def write(bundle: Bundle, into: Path) -> None:
    """Writes the folders for `bundle` into the empty folder `into`.

    Raises:
        BundleError: the bundle has no SavedModels, or no ONNX files.
    """
    saved_model.check(bundle)
    manifest = bundle.manifest
    saved = [entry.path for entry in manifest.files if PurePosixPath(entry.path).parts[0] == "saved_model"]
    if not saved:
        raise BundleError(
            f"{bundle.path} does not hold SavedModels, which tf-serving needs; "
            "export them: vae-serve export --format onnx --format savedmodel"
        )
    for path in saved:
        target = into / PurePosixPath(path).relative_to("saved_model")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(bundle.read(path))
    for network in ROLES:
        graph = graph_spec(network, manifest.signature_pixels, manifest.image_shape, manifest.latent_dim)
        extra = into / network / VERSION / "assets.extra"
        extra.mkdir()
        requests = [_prediction_log(network, graph.inputs[0], batch) for batch in WARMUP_BATCHES]
        (extra / "tf_serving_warmup_requests").write_bytes(b"".join(map(_record, requests)))
    (into / "models.config").write_text(_models_config(), encoding="utf-8")
    (into / "README.md").write_text(readme.tf_serving(manifest), encoding="utf-8")


def _models_config() -> str:
    entries = "".join(
        f'  config {{ name: "{network}" base_path: "/models/{network}" model_platform: "tensorflow" }}\n'
        for network in ("encoder", "decoder")
    )
    return f"model_config_list {{\n{entries}}}\n"


def _prediction_log(model: str, tensor: TensorSpec, batch: int) -> bytes:
    """A `PredictionLog` with one request of `batch` times zero for `serving_default`."""
    dtype, size = DT[tensor.dtype]
    shape = [batch, *(int(axis) for axis in tensor.shape[1:])]

    dims = encode(_MESSAGES, "TensorShape", dim=[encode(_MESSAGES, "Dim", size=axis) for axis in shape])
    value = encode(_MESSAGES, "Tensor", dtype=dtype, tensor_shape=dims, tensor_content=bytes(math.prod(shape) * size))
    request = encode(
        _MESSAGES,
        "PredictRequest",
        model_spec=encode(_MESSAGES, "ModelSpec", name=model, signature_name="serving_default"),
        inputs=[encode(_MESSAGES, "Entry", key=tensor.name, value=value)],
    )
    return encode(_MESSAGES, "PredictionLog", predict_log=encode(_MESSAGES, "PredictLog", request=request))


def _record(contents: bytes) -> bytes:
    """One record of a TFRecord file: length, its sum, contents, their sum (tensorflow/core/lib/io/record_writer.h)."""
    length = struct.pack("<Q", len(contents))
    return length + _masked_crc(length) + contents + _masked_crc(contents)


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)  # noqa: PLW2901
        table.append(byte)
    return table


CRC32C = _crc_table()  # Castagnoli's polynomial, bits reversed


def _masked_crc(contents: bytes) -> bytes:
    crc = 0xFFFFFFFF
    for byte in contents:
        crc = crc >> 8 ^ CRC32C[(crc ^ byte) & 255]
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
