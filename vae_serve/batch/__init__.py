"""The serving side: ONNX Runtime, no TensorFlow, ever."""
