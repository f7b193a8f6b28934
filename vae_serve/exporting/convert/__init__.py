"""A deployed network becomes a file: ONNX, SavedModel, LiteRT."""
