"""A network becomes a LiteRT (TensorFlow Lite) file, and such a file runs."""

import tempfile
from typing import Any

import tensorflow as tf

from vae_serve.errors import MissingExtra
from vae_serve.exporting.convert.signature import serving_function
from vae_serve.exporting.gate import Run
from vae_serve.exporting.network import Network
from vae_serve.model.manifest import GraphSpec

SIGNATURE = "serving_default"


def to_litert(network: Network, spec: GraphSpec) -> bytes:
    """The file's contents, with one signature, `serving_default`, that has the names of `spec`, the batch axis free."""
    function = serving_function(network, spec)  # its weights are constants: the converter drops variables (2.21)
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(tf.Module(), folder, signatures={SIGNATURE: function})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[SIGNATURE])
        return converter.convert()


def file_of(spec: GraphSpec) -> str:
    """The name of the file in a bundle: encoder.tflite, decoder.tflite."""
    return f"{spec.role}.tflite"


def require() -> None:
    """Makes sure, before any work, that what is converted can also be run.

    Raises:
        MissingExtra: the extra `litert` is not installed.
    """
    try:
        import ai_edge_litert  # noqa: F401
    except ModuleNotFoundError:
        raise MissingExtra("litert", "export --format litert") from None


def run_litert(contents: bytes, spec: GraphSpec) -> Run:
    """A LiteRT file in LiteRT's own interpreter."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=contents)
    signature = interpreter.get_signature_runner(SIGNATURE)
    names = [output.name for output in spec.outputs]

    def run(batch: Any) -> list[Any]:
        outputs = signature(**{spec.inputs[0].name: batch})
        return [outputs[name] for name in names]

    return run
