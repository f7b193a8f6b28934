"""The exported networks in OpenCV's DNN module: python opencv_dnn.py BUNDLE (needs numpy, opencv-python-headless)."""

import sys

import cv2
import numpy as np

bundle = sys.argv[1]
encoder = cv2.dnn.readNetFromONNX(f"{bundle}/encoder.onnx")
decoder = cv2.dnn.readNetFromONNX(f"{bundle}/decoder.onnx")


def encode(image):
    encoder.setInput(image, "image")
    return encoder.forward(["z_mean", "z_log_var"])


def decode(z):
    decoder.setInput(z, "z")
    return decoder.forward("image")


if __name__ == "__main__":
    image = np.load(f"{bundle}/conformance/encoder/image.npy")
    z_mean, z_log_var = encode(image)
    print("z_mean", z_mean.shape, "z_log_var", z_log_var.shape, "image", decode(z_mean).shape)
