"""The two networks of a bundle as the service has them: their tensors, what a caller may send, and their lanes."""

import math
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from vae_serve.errors import BundleError
from vae_serve.images.pixels import are_0_to_1
from vae_serve.model.manifest import Graph, PixelType, Role, TensorSpec
from vae_serve.model.model import BATCH, Model, batch_function
from vae_serve.serve.answers import Refusal
from vae_serve.serve.batching import Lane, Outputs, Workers

Array = npt.NDArray[Any]

VERSION = "1"  # of each model; a bundle has one

DATATYPES: dict[PixelType, str] = {"float32": "FP32", "uint8": "UINT8"}  # as the protocol names them
DTYPES = {name: np.dtype(dtype) for dtype, name in DATATYPES.items()}


class Counts:
    """What has been asked of a network."""

    __slots__ = ("fail", "fail_ns", "last", "rows", "success", "success_ns")

    def __init__(self) -> None:
        self.success = self.success_ns = self.fail = self.fail_ns = self.rows = self.last = 0


class Network:
    """An encoder or a decoder, under the name that the Triton layout gives it."""

    def __init__(self, name: str, graph: Graph, model: Model) -> None:
        """Opens the network, runs it, and measures what it takes.

        Raises:
            BundleError: it cannot be run, or gives NaN or infinity for what every model can be given.
        """
        self.name, self.role, self.graph = name, graph.role, graph
        [self.input] = graph.inputs
        self.outputs: tuple[TensorSpec, ...] = graph.outputs
        self.row_shape = _row_shape(self.input)
        self.values = math.prod(self.row_shape)
        self.output_bytes = sum(
            math.prod(_row_shape(output)) * np.dtype(output.dtype).itemsize for output in self.outputs
        )
        self.counts = Counts()
        types: tuple[PixelType, ...] = ("float32", "uint8") if self.role == "encoder" else ("float32",)
        self.accepted = tuple(DATATYPES[dtype] for dtype in types)
        self.lanes = {np.dtype(dtype): self._lane(model, dtype) for dtype in types}

    def _lane(self, model: Model, dtype: PixelType) -> Lane:
        best = BATCH[self.role]
        sample = np.zeros((best, *self.row_shape), dtype)
        call = batch_function(model, self.role, dtype)
        if not all(np.isfinite(output).all() for output in call(sample[:1])):
            raise BundleError(f"{model.bundle.path}: the {self.role} gives NaN or infinity for zeros")
        return Lane(call, best, sample)

    def rows_limit(self, answer_bytes: int) -> int:
        """The most rows of a request, by its answer and by what comes in."""
        return max(1, answer_bytes // max(self.output_bytes, self.values * 4))

    def check(self, rows: Array) -> None:
        """Whether the values of some rows (n, ...) are such as the network takes.

        Raises:
            Refusal: 400, says which row has what.
        """
        if rows.dtype == np.uint8:
            return
        if self.role == "encoder":
            if not (are_0_to_1(rows) or (rows.min() >= 0 and rows.max() <= 1)):  # false for NaN, too
                raise _out_of_range(rows)
        elif not np.isfinite(rows).all():
            at = int(np.argmin(np.isfinite(rows).all(axis=1)))
            raise Refusal(400, f"row {at} of {self.input.name} is not finite in float32; leave it out")

    async def run(self, workers: Workers, rows: Array, alone: bool = False) -> Outputs:
        """The outputs for checked rows.

        Raises:
            Refusal: 503; or 400 where the network gives NaN or infinity for some row.
            BundleError: it cannot be run.
        """
        outputs = await workers.run(self.lanes[rows.dtype], rows, alone)
        self.counts.rows += len(rows)
        for output in outputs:
            if output.dtype != np.uint8 and not np.isfinite(output).all():
                finite = np.isfinite(output.reshape(len(output), -1)).all(axis=1)
                raise Refusal(
                    400,
                    f"the {self.role} gives NaN or infinity for row {int(np.argmin(finite))} of {self.input.name}: "
                    "the row lies too far out, or the model is damaged",
                )
        return outputs


def _out_of_range(images: Array) -> Refusal:
    flat = images.reshape(len(images), -1)
    at = int(np.argmax(~((flat.min(axis=1) >= 0) & (flat.max(axis=1) <= 1))))
    return Refusal(
        400,
        f"row {at} of image has values from {flat[at].min():g} to {flat[at].max():g}; floats are 0..1: "
        "divide by 255, or send bytes with the datatype UINT8",
    )


class Tensor(msgspec.Struct, frozen=True):
    """One tensor as the protocol's metadata describe it."""

    name: str
    """As in the bundle."""
    datatype: str
    """FP32 or UINT8."""
    shape: list[int]
    """-1 for the batch."""


def described(tensor: TensorSpec) -> Tensor:
    """A tensor of a graph for the metadata."""
    return Tensor(tensor.name, DATATYPES[tensor.dtype], [-1, *_row_shape(tensor)])


def _row_shape(tensor: TensorSpec) -> tuple[int, ...]:
    return tuple(int(side) for side in tensor.shape[1:])


def of_role(networks: "dict[str, Network]", role: Role) -> Network:
    """The one network of this role."""
    return next(network for network in networks.values() if network.role == role)
