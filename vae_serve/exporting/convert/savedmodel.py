"""A network becomes a TensorFlow SavedModel, in the folder layout that TensorFlow Serving reads."""

from pathlib import Path

import tensorflow as tf

from vae_serve.exporting.convert.signature import serving_function
from vae_serve.exporting.network import Network
from vae_serve.model.manifest import GraphSpec


def write_savedmodel(network: Network, spec: GraphSpec, folder: Path) -> None:
    """Writes `folder`/1 with one signature, `serving_default`, that has the names of `spec`."""
    module = tf.Module()
    function = module.serving_default = serving_function(network, spec)
    tf.saved_model.save(module, str(folder / "1"), signatures=function)
    (folder / "1" / "fingerprint.pb").unlink(missing_ok=True)  # optional, and another one in every export
