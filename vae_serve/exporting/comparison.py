"""Every copy of a run's model against the trained Keras model: while it is exported, and once more for `verify`."""

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import keras
import numpy as np

from vae_serve.errors import BundleError, ParityError
from vae_serve.exporting import gate
from vae_serve.exporting.gate import Reference
from vae_serve.model import saved_model
from vae_serve.model.bundle import Bundle
from vae_serve.model.manifest import Json, PixelType, Role, graph_spec
from vae_serve.model.memory import CALL_LIMIT, CallMemory
from vae_serve.training import gate_inputs
from vae_serve.training.runs import Run


def compare(loaded: Bundle, run: Run) -> list[Json]:
    """The gate once more: every graph of a bundle against the run that it should come from.

    Raises:
        ParityError: it came from another run, or differs.
        BundleError: there is nothing in it that can be run.
    """
    manifest = loaded.manifest
    encoder, decoder = run.encoder(), run.decoder()
    if weights_sha256(encoder, decoder) != manifest.weights_sha256:
        raise ParityError(
            f"{loaded.path} was exported from other weights ({manifest.weights_sha256[:12]}) than those of {run.path} "
            f"({weights_sha256(encoder, decoder)[:12]})"
        )
    reports: list[Json] = []
    for reference in references(run, encoder, decoder):
        for graph in manifest.of_role(reference.spec.role):
            float_graph = loaded.graphs[f"{reference.name}.onnx"]
            reports += check_onnx(encoder, of_variant(reference, graph.variant), loaded.graphs[graph.file], float_graph)
        if f"saved_model/{reference.name}/1/saved_model.pb" in loaded.paths:
            other = of_variant(reference, manifest.signature_pixels)
            with _saved_model(loaded, reference.spec.role) as (folder, most):
                run_saved_model = gate.run_savedmodel(folder, other.spec)
                bounded = partial(gate.in_batches, run_saved_model, batch=most)
                reports += gate.check(other, "SavedModel", bounded)
    if not reports:
        raise BundleError(f"{loaded.path} has neither ONNX files nor SavedModels to compare")
    return reports


def weights_sha256(*models: keras.Model) -> str:
    """A fingerprint of all weights, in the models' order, with their shapes; float32 little-endian."""
    digest = hashlib.sha256()
    for model in models:
        for weight in model.get_weights():
            digest.update(str(weight.shape).encode())
            digest.update(np.ascontiguousarray(weight, "<f4").data)
    return digest.hexdigest()


def check_onnx(encoder: keras.Model, reference: Reference, contents: bytes, float_graph: bytes) -> list[Json]:
    """The gate for an ONNX file; one that takes bytes gives besides, at all 256 levels, the bits of that of floats."""
    reports = gate.check_onnx(reference, contents)
    if reference.spec.inputs[0].dtype == "uint8" and contents is not float_graph:
        levels = gate.levels(reference.inputs.shape[1:])
        run = gate.run_onnx(contents, reference.spec, "full optimisation")
        gate.check(gate.encoder_reference(encoder, reference.spec, levels), "ONNX, an image of each level", run)
        gate.require_same_bits(np.concatenate([levels, reference.inputs]), contents, reference.spec, float_graph)
    return reports


@contextmanager
def _saved_model(loaded: Bundle, role: Role) -> Iterator[tuple[str, int]]:
    """A copy of a bundle's SavedModel, and how many rows a call may have.

    It is of the bytes that were hashed and checked: TensorFlow opens files itself.
    """
    memory = CallMemory(0, saved_model.check(loaded)[role].row_bytes)
    prefix = f"saved_model/{role}/1/"
    with tempfile.TemporaryDirectory() as folder:
        for path in loaded.paths:
            if path.startswith(prefix):
                target = Path(folder, path.removeprefix(prefix))
                target.parent.mkdir(exist_ok=True)
                target.write_bytes(loaded.read(path))
        yield folder, memory.largest_batch(CALL_LIMIT)


def references(run: Run, encoder: keras.Model, decoder: keras.Model) -> tuple[Reference, Reference]:
    """Both networks with images as floats."""
    shape, latent_dim = run.image_shape, run.record["config"]["latent_dim"]
    inputs = gate.encoder_reference(encoder, graph_spec("encoder", "float32", shape, latent_dim), gate_inputs.of(run))
    decoder_spec = graph_spec("decoder", "float32", shape, latent_dim)
    return inputs, gate.decoder_reference(decoder, decoder_spec, inputs.expected[0])


def of_variant(reference: Reference, variant: PixelType) -> Reference:
    """The same network, rows and truth for a copy of another variant."""
    (image,) = (tensor for tensor in (*reference.spec.inputs, *reference.spec.outputs) if tensor.name == "image")
    height, width, channels = map(int, image.shape[1:])
    latent_dim = int(
        (*reference.spec.inputs, *reference.spec.outputs)[0 if reference.name == "decoder" else 1].shape[1]
    )
    spec = graph_spec(reference.spec.role, variant, (height, width, channels), latent_dim)
    return gate.of_bytes(reference, spec) if spec.inputs[0].dtype == "uint8" else replace(reference, spec=spec)
