"""The exported SavedModels in TensorFlow, without Keras: python tensorflow_savedmodel.py BUNDLE (needs tensorflow)."""

import sys

import numpy as np
import tensorflow as tf

bundle = sys.argv[1]
loaded = [tf.saved_model.load(f"{bundle}/saved_model/{name}/1") for name in ("encoder", "decoder")]
encoder, decoder = (model.signatures["serving_default"] for model in loaded)  # `loaded` keeps the weights alive


def encode(image):
    result = encoder(image=tf.constant(image))
    return result["z_mean"].numpy(), result["z_log_var"].numpy()


def decode(z):
    return decoder(z=tf.constant(z))["image"].numpy()


if __name__ == "__main__":
    image = np.load(f"{bundle}/conformance/encoder/image.npy")
    z_mean, z_log_var = encode(image)
    print("z_mean", z_mean.shape, "z_log_var", z_log_var.shape, "image", decode(z_mean).shape)
