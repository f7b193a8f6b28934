"""A Keras model becomes a TensorFlow SavedModel, in the folder layout that TensorFlow Serving reads."""

from pathlib import Path

import keras
import tensorflow as tf

from vae_serve.bundle import GraphSpec
from vae_serve.export.signature import serving_function


def write_savedmodel(model: keras.Model, spec: GraphSpec, folder: Path) -> None:
    """Writes `folder`/1 with one signature, `serving_default`, that has the names of `spec`."""
    module = tf.Module()
    module.serving_default = serving_function(model, spec)
    module.model = model
    tf.saved_model.save(module, str(folder / "1"), signatures=module.serving_default)
