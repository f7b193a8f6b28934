"""ONNX Runtime over one graph: the only place that opens a session."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from vae_serve.errors import BundleError
from vae_serve.model.bundle import Bundle
from vae_serve.model.manifest import GraphSpec
from vae_serve.model.memory import CallMemory, budget, call_limit

Array = npt.NDArray[Any]
Level = Literal["no optimisation", "basic optimisation", "extended optimisation", "full optimisation"]

LEVELS: dict[Level, Any] = {
    "no optimisation": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic optimisation": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended optimisation": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "full optimisation": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}


class Session:
    """A graph, ready to run. Threads may share it: each call runs on the thread that makes it."""

    def __init__(
        self,
        contents: bytes,
        spec: GraphSpec,
        name: str,
        *,
        level: Level = "full optimisation",
        threads: int = 1,
        keep_memory: bool = True,
        memory: CallMemory | None = None,
    ) -> None:
        """Opens `contents`, which have been checked; messages call them `name`.

        `threads`: that one call uses; 0 for as many as there are cores. `keep_memory`: for calls of about one size.
        `memory`: what a call takes. With it, many rows take several calls, and calls wait for each other where all
        threads' together would take more than `memory.total`.

        Raises:
            BundleError: ONNX Runtime cannot load it.
        """
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.graph_optimization_level = LEVELS[level]
        options.enable_cpu_mem_arena = keep_memory
        try:
            self._session = ort.InferenceSession(contents, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime raises many kinds of its own
            raise BundleError(f"{name}: ONNX Runtime cannot load it: {error}") from error
        self._name, self._memory = name, memory
        self.largest_batch = memory.largest_batch(call_limit()) if memory else None
        self._input = spec.inputs[0].name
        self._outputs = [output.name for output in spec.outputs]

    def __call__(self, rows: Array, convert: Callable[[Array], Array] | None = None) -> list[Array]:
        """The outputs (n, ...) for rows (n, ...) of the input's dtype, in the manifest's order, fetched by name.

        `convert`: what makes the input of rows of another dtype.

        Raises:
            BundleError: ONNX Runtime cannot run it.
        """
        most = self.largest_batch
        if most is not None and len(rows) > most:
            parts = [self(rows[start : start + most], convert) for start in range(0, len(rows), most)]
            return [np.concatenate(column) for column in zip(*parts, strict=True)]
        if not self._memory:
            return self._run(convert(rows) if convert else rows)
        shared, size = budget(), self._memory.of(len(rows))
        shared.take(size)
        try:
            return self._run(convert(rows) if convert else rows)
        finally:
            shared.give(size)

    def _run(self, rows: Array) -> list[Array]:
        try:
            outputs: list[Array] = self._session.run(self._outputs, {self._input: np.ascontiguousarray(rows)})
        except Exception as error:  # ONNX Runtime raises many kinds of its own
            raise BundleError(f"{self._name}: ONNX Runtime cannot run it: {error}") from error
        return outputs


def open_graph(bundle: Bundle, graph: GraphSpec) -> Session:
    """A graph of a checked bundle, ready to run within its bound of memory."""
    where = str(bundle.path / graph.file)
    return Session(bundle.graphs[graph.file], graph, where, memory=bundle.memory[graph.file])
