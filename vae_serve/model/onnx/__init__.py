"""ONNX files, read and checked before any runtime sees them. Needs neither the onnx package nor ONNX Runtime.

Why it is read here, what is refused and how that is tested: docs/design/onnx-reader.md.
"""

from vae_serve.model.onnx.reading import OPSETS, SIZE_LIMIT, OnnxFile, Value, read, read_tensor

__all__ = ["OPSETS", "SIZE_LIMIT", "OnnxFile", "Value", "read", "read_tensor"]
