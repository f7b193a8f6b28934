"""The networks of `export --format litert` in LiteRT: python litert.py BUNDLE (needs numpy, ai-edge-litert)."""

import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter

bundle = sys.argv[1]
encoder = Interpreter(f"{bundle}/encoder.tflite").get_signature_runner("serving_default")
decoder = Interpreter(f"{bundle}/decoder.tflite").get_signature_runner("serving_default")


def encode(image):
    result = encoder(image=image)
    return result["z_mean"], result["z_log_var"]


def decode(z):
    return decoder(z=z)["image"]


if __name__ == "__main__":
    image = np.load(f"{bundle}/conformance/encoder/image.npy")
    z_mean, z_log_var = encode(image)
    print("z_mean", z_mean.shape, "z_log_var", z_log_var.shape, "image", decode(z_mean).shape)
