"""The exported networks in OpenVINO: python openvino_python.py BUNDLE (needs numpy, openvino)."""

import sys

import numpy as np
import openvino as ov

bundle = sys.argv[1]
core = ov.Core()
exact = {"INFERENCE_PRECISION_HINT": "f32"}  # where the processor has bfloat16, OpenVINO would take that
encoder = core.compile_model(f"{bundle}/encoder.onnx", "CPU", exact)
decoder = core.compile_model(f"{bundle}/decoder.onnx", "CPU", exact)


def encode(image):
    result = encoder({"image": image})
    return result["z_mean"], result["z_log_var"]


def decode(z):
    return decoder({"z": z})["image"]


if __name__ == "__main__":
    image = np.load(f"{bundle}/conformance/encoder/image.npy")
    z_mean, z_log_var = encode(image)
    print("z_mean", z_mean.shape, "z_log_var", z_log_var.shape, "image", decode(z_mean).shape)
