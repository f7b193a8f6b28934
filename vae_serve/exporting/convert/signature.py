"""The one signature that every format is converted from: names, order, shapes and dtypes, a free batch axis."""

from typing import TypeAlias

import tensorflow as tf

from vae_serve.exporting.network import Network, as_function
from vae_serve.images.pixels import SCALE
from vae_serve.model.manifest import GraphSpec

Function: TypeAlias = "tf.types.experimental.PolymorphicFunction[[tf.Tensor], dict[str, tf.Tensor]]"


def serving_function(network: Network, spec: GraphSpec) -> Function:
    """`network` as a function of one named tensor to a dict of named ones; for `uint8` with the pixel rule inside."""
    (image,) = spec.inputs
    names = [output.name for output in spec.outputs]
    shape = [None, *map(int, image.shape[1:])]
    function = as_function(network)

    def serving_default(tensor: tf.Tensor) -> dict[str, tf.Tensor]:
        if image.dtype == "uint8":  # as vae_serve.images.pixels.to_model
            tensor = tf.cast(tensor, tf.float32) * tf.constant(SCALE)
        outputs = function(tensor)
        if spec.outputs[0].dtype == "uint8":  # as vae_serve.images.pixels.to_bytes
            outputs = [tf.cast(tf.round(output * 255.0), tf.uint8) for output in outputs]
        # Identity: an output that another one is computed from keeps its own name.
        return {name: tf.identity(output, name) for name, output in zip(names, outputs, strict=True)}

    signature = [tf.TensorSpec(shape, image.dtype, name=image.name)]
    return tf.function(serving_default, input_signature=signature, autograph=False)
