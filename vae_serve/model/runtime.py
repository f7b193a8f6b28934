"""ONNX Runtime sessions over a checked bundle."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from vae_serve.errors import BundleError
from vae_serve.images.pixels import SCALE
from vae_serve.model import onnx_file
from vae_serve.model.bundle import Bundle
from vae_serve.model.manifest import GraphSpec, TensorSpec

BATCH = 128  # rows a call: one intra-op thread is fastest at 64 to 256, past 512 the working set leaves the cache

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Network:
    """One graph of a bundle, ready to run. A session may be shared by threads."""

    session: ort.InferenceSession
    spec: GraphSpec

    def __call__(self, batch: Array) -> list[Array]:
        """The outputs in the manifest's order, fetched by name; each (batch, ...)."""
        names = [output.name for output in self.spec.outputs]
        outputs: list[Array] = self.session.run(names, {self.spec.inputs[0].name: batch})
        return outputs


def open_encoder(bundle: Bundle, of_bytes: bool = False) -> Network:
    """image (n, H, W, C) -> z_mean, z_log_var (n, d).

    `of_bytes`: as uint8 0..255 whatever the graph itself takes, which gives the same bits as `pixels.to_model` would.
    """
    model, spec = bundle.encoder, bundle.manifest.encoder
    if of_bytes and model and spec and spec.inputs[0].dtype == "float32":
        model = onnx_file.of_bytes(model, float(SCALE))
        spec = GraphSpec(spec.file, (TensorSpec(onnx_file.BYTES, "uint8", spec.inputs[0].shape),), spec.outputs)
    return _open(bundle, model, spec)


def open_decoder(bundle: Bundle) -> Network:
    """z (n, d) -> image (n, H, W, C)."""
    return _open(bundle, bundle.decoder, bundle.manifest.decoder)


def _open(bundle: Bundle, model: bytes | None, spec: GraphSpec | None) -> Network:
    if model is None or spec is None:
        raise BundleError(f"{bundle.path} holds no ONNX files; export them: vae-serve export --format onnx")
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1  # one session, one thread a call: the callers bring the threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises many kinds of its own
        raise BundleError(f"{bundle.path / spec.file}: ONNX Runtime cannot load it: {error}") from error
    return Network(session, spec)


def in_batches(network: Network, rows: Array, batch: int = BATCH) -> list[Array]:
    """The network over any number of rows, `batch` at a time: each output whole, (n, ...)."""
    parts = [network(rows[start : start + batch]) for start in range(0, len(rows), batch)]
    return [np.concatenate(column) for column in zip(*parts, strict=True)]
