"""Embed, generate, reconstruct: ONNX Runtime, no TensorFlow, ever."""
