"""The exported networks in ONNX Runtime: python onnxruntime_python.py BUNDLE (needs numpy, onnxruntime)."""

import sys

import numpy as np
import onnxruntime as ort

bundle = sys.argv[1]
options = ort.SessionOptions()
options.intra_op_num_threads = 1  # fastest for networks this small; bring threads of your own
encoder = ort.InferenceSession(f"{bundle}/encoder.onnx", options)
decoder = ort.InferenceSession(f"{bundle}/decoder.onnx", options)


def encode(image):
    return encoder.run(["z_mean", "z_log_var"], {"image": image})


def decode(z):
    return decoder.run(["image"], {"z": z})[0]


if __name__ == "__main__":
    image = np.load(f"{bundle}/conformance/encoder/image.npy")
    z_mean, z_log_var = encode(image)
    print("z_mean", z_mean.shape, "z_log_var", z_log_var.shape, "image", decode(z_mean).shape)
