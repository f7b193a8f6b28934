"""ONNX Runtime sessions over a checked bundle."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from vae_serve.errors import BundleError
from vae_serve.images.pixels import SCALE
from vae_serve.model import onnx
from vae_serve.model.bundle import Bundle, GraphSpec

BATCH = 128  # rows a call: one intra-op thread is fastest at 64 to 256, past 512 the working set leaves the cache

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Network:
    """One graph of a bundle, ready to run. A session may be shared by threads."""

    session: ort.InferenceSession
    spec: GraphSpec
    largest_batch: int
    """Rows of a call, at most, so that it keeps within `onnx.CALL_LIMIT`. A longer array takes several calls."""

    def __call__(self, rows: Array) -> list[Array]:
        """The outputs in the manifest's order, fetched by name; each (n, ...)."""
        if len(rows) > self.largest_batch:
            return in_batches(self, rows, self.largest_batch)
        names = [output.name for output in self.spec.outputs]
        try:
            outputs: list[Array] = self.session.run(names, {self.spec.inputs[0].name: rows})
        except Exception as error:  # ONNX Runtime raises many kinds of its own
            raise BundleError(f"{self.spec.file}: ONNX Runtime cannot run it: {error}") from error
        return outputs


def open_encoder(bundle: Bundle, of_bytes: bool = False) -> Network:
    """image (n, H, W, C) -> z_mean, z_log_var (n, d).

    `of_bytes`: as uint8 0..255 whatever the graph itself takes, which gives the same bits as `pixels.to_model` would.
    """
    model, spec = bundle.encoder, bundle.manifest.encoder
    if of_bytes and model and spec and spec.inputs[0].dtype == "float32":
        model = onnx.of_bytes(model, float(SCALE))
        spec = replace(spec, inputs=(replace(spec.inputs[0], name=onnx.BYTES, dtype="uint8"),))
    return _open(bundle, model, spec)


def open_decoder(bundle: Bundle) -> Network:
    """z (n, d) -> image (n, H, W, C)."""
    return _open(bundle, bundle.decoder, bundle.manifest.decoder)


def _open(bundle: Bundle, model: bytes | None, spec: GraphSpec | None) -> Network:
    if model is None or spec is None:
        raise BundleError(f"{bundle.path} holds no ONNX files; export them: vae-serve export --format onnx")
    file = onnx.read(model, str(bundle.path / spec.file))  # the very bytes that run, whoever has made them
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1  # one session, one thread a call: the callers bring the threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # see above
        raise BundleError(f"{bundle.path / spec.file}: ONNX Runtime cannot load it: {error}") from error
    return Network(session, spec, file.largest_batch())


def in_batches(network: Network, rows: Array, batch: int = BATCH) -> list[Array]:
    """The network over any number of rows, at most `batch` at a time: each output whole, (n, ...)."""
    batch = min(batch, network.largest_batch)
    parts = [network(rows[start : start + batch]) for start in range(0, len(rows), batch)]
    return [np.concatenate(column) for column in zip(*parts, strict=True)]
