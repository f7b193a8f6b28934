"""A Triton backend written in Python that stands in for Triton's own of this name, which is on no package registry.

Triton runs it, as model.py of a folder `onnxruntime` beside its Python backend, for models whose configuration says
`backend: "onnxruntime"`. Like the real one it refuses a configuration whose tensors are not the graph's, and runs the
requests that the server has put together as one batch.
"""

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as triton

TYPES = {"tensor(float)": "TYPE_FP32", "tensor(uint8)": "TYPE_UINT8"}


class TritonPythonModel:
    """One instance of a model."""

    @staticmethod
    def auto_complete_config(config):
        """Adds nothing: the configuration is to be complete."""
        return config

    def initialize(self, args):
        """Loads the graph.

        Raises:
            ValueError: names, types or shapes differ from the configuration's.
        """
        config = json.loads(args["model_config"])
        options = ort.SessionOptions()
        options.intra_op_num_threads = int(config["parameters"]["intra_op_thread_count"]["string_value"])
        file = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        self.session = ort.InferenceSession(file, options)
        for described, real in (
            (config["input"], self.session.get_inputs()),
            (config["output"], self.session.get_outputs()),
        ):
            configured = [
                (tensor["name"], tensor["data_type"], [int(axis) for axis in tensor["dims"]]) for tensor in described
            ]
            found = [(tensor.name, TYPES[tensor.type], tensor.shape[1:]) for tensor in real]
            if configured != found:
                raise ValueError(f"the configuration has {configured}, the graph {found}")
        self.input = config["input"][0]["name"]
        self.outputs = [tensor["name"] for tensor in config["output"]]

    def execute(self, requests):
        """Answers requests, each with its own rows of one run."""
        inputs = [triton.get_input_tensor_by_name(request, self.input).as_numpy() for request in requests]
        results = self.session.run(self.outputs, {self.input: np.concatenate(inputs)})
        ends = np.cumsum([len(rows) for rows in inputs])[:-1]
        answers = []
        for request, *parts in zip(requests, *(np.split(result, ends) for result in results), strict=True):
            asked = request.requested_output_names()
            named = [(name, part) for name, part in zip(self.outputs, parts, strict=True) if name in asked]
            answers.append(triton.InferenceResponse([triton.Tensor(name, part) for name, part in named]))
        return answers
