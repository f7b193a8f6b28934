"""ONNX Runtime over one graph: the only place that opens a session."""

import os
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

# ONNX Runtime 1.32 has telemetry for its maker, with a file in the user's home, unless this is set when it is loaded.
# Its function `disable_telemetry_events` comes too late for the file.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime as ort

from vae_serve.errors import BundleError
from vae_serve.model.bundle import Bundle
from vae_serve.model.manifest import GraphSpec
from vae_serve.model.memory import CallMemory, budget, call_limit

Array = npt.NDArray[Any]
Convert = Callable[[Array], Array]
Done = Callable[[int, list[Array]], object]  # told where a call's rows begin, and their outputs
Level = Literal["no optimisation", "basic optimisation", "extended optimisation", "full optimisation"]

GROUP = 16  # calls in a row that take their room once: locks cost 3 % of a call, and others wait for some milliseconds

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
        self._most = memory.largest_batch(call_limit()) if memory else None  # here: counting the cores reads files
        self._input = spec.inputs[0].name
        self._outputs = [output.name for output in spec.outputs]

    def __call__(self, rows: Array) -> list[Array]:
        """The outputs (n, ...) for rows (n, ...) of the input's dtype, in the manifest's order, fetched by name.

        Raises:
            BundleError: ONNX Runtime cannot run it.
        """
        if not len(rows):
            return self._run(rows)
        parts: list[list[Array]] = []
        self.each(rows, len(rows), lambda _, outputs: parts.append(outputs))
        return parts[0] if len(parts) == 1 else [np.concatenate(column) for column in zip(*parts, strict=True)]

    def each(self, rows: Array, size: int, done: Done, convert: Convert | None = None) -> None:
        """Calls on `size` rows, or as many as one call's memory allows, until all are done, one after another.

        `done(start, outputs)` is told of each. `convert`: what makes the input of rows of another dtype.

        Raises:
            BundleError: ONNX Runtime cannot run it; and what `done` raises.
        """
        if self._memory is None or self._most is None:
            self._each(rows, range(0, len(rows), size), size, done, convert)
            return
        size = min(size, self._most)
        shared, room = budget(), self._memory.of(min(size, len(rows)))
        for first in range(0, len(rows), GROUP * size):
            shared.take(room)
            try:
                self._each(rows, range(first, min(first + GROUP * size, len(rows)), size), size, done, convert)
            finally:
                shared.give(room)

    def _each(self, rows: Array, starts: range, size: int, done: Done, convert: Convert | None) -> None:
        for start in starts:
            part = rows[start : start + size]
            done(start, self._run(convert(part) if convert else part))

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
