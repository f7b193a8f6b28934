"""Finds the first tensor that is not finite."""

import keras
import numpy as np
import tensorflow as tf

from vae_serve.training.model import VariationalAutoencoder


def first_not_finite(model: VariationalAutoencoder, image: tf.Tensor) -> str:
    """The first tensor of a training step that holds a number that is not finite, in words.

    Looks in the order of the step: weights, each layer's output, the two terms of the loss, the gradients. The model
    must stand as it did before the step; image (n, H, W, C), 0..1.
    """
    for network in (model.encoder, model.decoder):
        for weight in network.weights:
            if count := _count(weight):
                return f"the weight {weight.path} of the {network.name} ({count})"
    with tf.GradientTape() as tape:
        outputs: dict[str, tf.Tensor] = model(image, training=True)
        terms = dict(zip(("reconstruction", "KL"), model.terms(image, outputs), strict=True))
        loss = model.compute_loss(image, y_pred=outputs)
    z = outputs["z_mean"]  # the decoder is walked from the means: a draw would not come out the same again
    for network, inputs in ((model.encoder, image), (model.decoder, z)):
        layers = network.layers[1:]
        walk = keras.Model(network.inputs, [layer.output for layer in layers])
        for layer, output in zip(layers, walk(inputs, training=model.batch_statistics), strict=True):
            if count := _count(output):
                return f"the output of {network.name} layer {layer.name} ({count})"
    for name, term in terms.items():
        if count := _count(term):
            return f"the {name} term of the loss ({count})"
    if count := _count(loss):
        return f"the loss itself, reconstruction + {model.beta:g} x KL ({count})"
    for weight, gradient in zip(model.trainable_weights, tape.gradient(loss, model.trainable_weights), strict=True):
        if gradient is not None and (count := _count(gradient)):
            return f"the gradient of {weight.path} ({count})"
    return "the update of the weights"


def _count(tensor: tf.Tensor | keras.Variable) -> str:
    values = np.asarray(keras.ops.convert_to_numpy(tensor), np.float64)
    bad = int(np.count_nonzero(~np.isfinite(values)))
    return f"{bad:,} of its {values.size:,} numbers" if bad else ""
