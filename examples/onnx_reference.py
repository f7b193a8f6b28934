"""The exported networks in onnx's reference evaluator, numpy alone: python onnx_reference.py BUNDLE (needs onnx)."""

import sys

import numpy as np
from onnx.reference import ReferenceEvaluator

bundle = sys.argv[1]
encoder = ReferenceEvaluator(f"{bundle}/encoder.onnx")
decoder = ReferenceEvaluator(f"{bundle}/decoder.onnx")


def encode(image):
    return encoder.run(["z_mean", "z_log_var"], {"image": image})


def decode(z):
    return decoder.run(["image"], {"z": z})[0]


if __name__ == "__main__":
    image = np.load(f"{bundle}/conformance/encoder/image.npy")
    z_mean, z_log_var = encode(image)
    print("z_mean", z_mean.shape, "z_log_var", z_log_var.shape, "image", decode(z_mean).shape)
