"""The gate: every copy of a model is run against the trained Keras model before a bundle gets its name.

What is compared: the encoder on the run's test images; the decoder on the codes of those images, on draws from the
prior, and on far corners of the latent space. The measure and the tolerance are `vae_serve.model.parity`'s.
"""

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from vae_serve.errors import ParityError
from vae_serve.images import pixels
from vae_serve.model import parity, samplers
from vae_serve.model.manifest import GraphSpec, Json, graph_spec
from vae_serve.model.sessions import LEVELS, Level, Session

Array = npt.NDArray[Any]
Run = Callable[[Array], list[Array]]  # a batch to its outputs, in the contract's order

MEASURE = "|found - expected| / max(1, |expected|)"  # see vae_serve.model.parity.TOLERANCE
PRIOR_DRAWS = 10_000
PRIOR_SEED = 0
CORNER = 10.0  # as far out as anybody will ask: a standard normal stays within 6
CORNERS = 256  # at most; a latent space of 64 dimensions has 2**64
BATCHES = (1, 2, 3, 7, 64, 257)
WHOLE_BATCHES = 3  # of each size, within the rows of the largest
ALONE = 64  # rows that are also run one by one
# Images of one level are unlike any that a network was trained on: two orders of summation in float32 were 1.1e-5 apart
# there. A level that is read wrongly is off by 4e-3 of a pixel's range.
LEVEL_TOLERANCE = 1e-4
CHUNK = 64  # rows a call in the long comparisons; a wide network keeps megabytes for each


# Multiplications of one pass over the rows. Small models compare every row; one of 700 million multiplications a row,
# run ten times over, would take hours, so it compares the first rows of each kind, and the manifest says how many.
BUDGET = 1.5e11


@dataclass(frozen=True)
class Side:
    """One network of the trained model: what goes in and what comes out, the truth that its copies are held against."""

    name: str  # "encoder" or "decoder"
    spec: GraphSpec
    inputs: Array  # (n, ...) in the dtype of the contract
    expected: tuple[Array, ...]  # for each output (n, ...) float32, pictures 0..1 whatever the contract's dtype


def encoder_side(encoder: keras.Model, spec: GraphSpec, images: npt.NDArray[np.uint8]) -> Side:
    """The trained encoder on the test images (n, H, W, C)."""
    images = rows_within_budget(encoder, images)
    floats = pixels.to_model(images)
    expected = in_chunks(run_keras(encoder), floats)
    return Side("encoder", spec, images if spec.inputs[0].dtype == "uint8" else floats, tuple(expected))


def decoder_side(decoder: keras.Model, spec: GraphSpec, codes: Array) -> Side:
    """The trained decoder on the codes (n, d) of the test images, as many prior draws as `PRIOR_DRAWS`, and corners."""
    latent_dim = codes.shape[1]
    kinds = (codes, samplers.draws(PRIOR_SEED, 0, PRIOR_DRAWS, latent_dim), corners(latent_dim))
    inputs = np.concatenate([rows_within_budget(decoder, kind) for kind in kinds])
    return Side("decoder", spec, inputs, tuple(in_chunks(run_keras(decoder), inputs)))


def rows_within_budget(model: keras.Model, rows: Array) -> Array:
    """As many of the first `rows` as `BUDGET` allows, but at least the largest of `BATCHES`."""
    return rows[: max(int(BUDGET / multiplications(model)), *BATCHES)]


def multiplications(model: keras.Model) -> int:
    """Of one row, in its dense and convolutional layers."""
    count = 1
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2DTranspose):
            count += math.prod(layer.kernel.shape) * math.prod(layer.input.shape[1:3])
        elif isinstance(layer, keras.layers.Conv2D):
            count += math.prod(layer.kernel.shape) * math.prod(layer.output.shape[1:3])
        elif isinstance(layer, keras.layers.Dense):
            count += math.prod(layer.kernel.shape)
    return count


def corners(latent_dim: int) -> Array:
    """Points of [-10, 10]^d (n, d): the centre, the ends of the axes, and the first `CORNERS` corners."""
    axes = np.concatenate([np.eye(latent_dim), -np.eye(latent_dim)])
    signs = list(itertools.islice(itertools.product((-1.0, 1.0), repeat=latent_dim), CORNERS))
    return (CORNER * np.concatenate([np.zeros((1, latent_dim)), axes, signs])).astype(np.float32)


def check(side: Side, copy: str, run: Run) -> list[Json]:
    """Runs one copy on all inputs; a report for each output, ready for the manifest.

    Raises:
        ParityError: an output differs by more than the tolerance; names tensor, index and both values.
    """
    return [{"network": side.name, "copy": copy, **report.to_json()} for report in _compare(side, copy, run, CHUNK)]


def check_onnx(side: Side, model: bytes) -> list[Json]:
    """As `check`, for an ONNX file: at every optimisation level, in batches of every size, and row by row.

    Raises:
        ParityError: as `check`; or a row's result depends on the batch that it stands in.
    """
    reports = []
    for level in LEVELS:
        run = run_onnx(model, side.spec, level)
        copy = f"ONNX, {level}"
        reports += check(side, copy, run)
        for batch in BATCHES:
            _compare(_first(side, min(WHOLE_BATCHES * batch, max(BATCHES))), f"{copy}, batches of {batch}", run, batch)
        few = side.inputs[:ALONE]
        for output, together, alone in zip(side.spec.outputs, run(few), in_chunks(run, few, 1), strict=True):
            if output.dtype == "float32":  # bytes were compared with the floats that they are rounded from
                where = f"{side.name}, {copy}, a batch against its rows"
                parity.require(parity.compare(output.name, alone, together), where)
    return reports


def of_bytes(side: Side, spec: GraphSpec) -> Side:
    """The encoder's truth for a copy that takes bytes: the same images, as they were before they became floats."""
    return Side(side.name, spec, pixels.to_bytes(side.inputs), side.expected)


def levels(image_shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """An image of each level 0..255: (256, H, W, C)."""
    return np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None, None, None], (256, *image_shape))


def check_levels(side: Side, model: bytes) -> None:
    """An ONNX file against the trained encoder on an image of each level.

    Raises:
        ParityError: an output differs by more than `LEVEL_TOLERANCE`.
    """
    run = run_onnx(model, side.spec, "full optimisation")
    for output, truth, found in zip(side.spec.outputs, side.expected, in_chunks(run, side.inputs), strict=True):
        report = parity.compare(output.name, truth, found)
        if report.largest > LEVEL_TOLERANCE:
            raise ParityError(
                f"{side.spec.file}: {output.name} of an image of level {report.index[0]} is {report.actual:.9g} where "
                f"the trained model gives {report.expected:.9g}"
            )


def require_same_bits(images: npt.NDArray[np.uint8], of_bytes: bytes, spec: GraphSpec, of_floats: bytes) -> None:
    """Makes sure that two graphs give the same bits, one of bytes (n, H, W, C) and one of their floats, at every level.

    Raises:
        ParityError: names the output, the image and both values.
    """
    height, width, channels = images.shape[1:]
    float_spec = graph_spec("encoder", "float32", (height, width, channels), int(spec.outputs[0].shape[1]))
    floats = pixels.to_model(images)
    for level in LEVELS:
        found = in_chunks(run_onnx(of_bytes, spec, level), images)
        wanted = in_chunks(run_onnx(of_floats, float_spec, level), floats)
        for output, actual, expected in zip(spec.outputs, found, wanted, strict=True):
            if actual.tobytes() != expected.tobytes():
                row = int(np.argmax((actual != expected).any(axis=1)))
                raise ParityError(
                    f"{spec.file}, {level}: {output.name}[{row}] is {actual[row].tolist()} of the bytes and "
                    f"{expected[row].tolist()} of their floats"
                )


def _first(side: Side, rows: int) -> Side:
    return Side(side.name, side.spec, side.inputs[:rows], tuple(outputs[:rows] for outputs in side.expected))


def run_keras(model: keras.Model) -> Run:
    """A Keras model in inference mode."""
    step = tf.function(lambda batch: tf.nest.flatten(model(batch, training=False)), reduce_retracing=True)
    return lambda batch: [output.numpy() for output in step(tf.constant(batch))]


def run_function(function: Any, spec: GraphSpec) -> Run:
    """A function of the serving signature, in TensorFlow."""

    def run(batch: Array) -> list[Array]:
        outputs = function(tf.constant(batch))
        return [outputs[output.name].numpy() for output in spec.outputs]

    return run


def run_savedmodel(folder: str, spec: GraphSpec) -> Run:
    """The signature `serving_default` of a SavedModel on disk."""
    loaded = tf.saved_model.load(folder)
    function = loaded.signatures["serving_default"]

    def run(batch: Array) -> list[Array]:
        outputs = function(**{spec.inputs[0].name: tf.constant(batch)})
        return [outputs[output.name].numpy() for output in spec.outputs]

    return run


def run_onnx(model: bytes, spec: GraphSpec, level: Level) -> Run:
    """An ONNX file in ONNX Runtime."""
    # the arena would keep the largest batch's memory for all that follow
    return Session(model, spec, spec.file, level=level, threads=0, keep_memory=False)


def in_chunks(run: Run, rows: Array, chunk: int = CHUNK) -> list[Array]:
    """`run` over any number of rows, `chunk` at a time: each output whole."""
    parts = [run(rows[start : start + chunk]) for start in range(0, len(rows), chunk)]
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def _compare(side: Side, copy: str, run: Run, chunk: int) -> Iterable[parity.Report]:
    outputs = in_chunks(run, side.inputs, chunk)
    reports = []
    for output, truth, found in zip(side.spec.outputs, side.expected, outputs, strict=True):
        if found.dtype != output.dtype:
            raise ParityError(f"{side.name}, {copy}: {output.name} is {found.dtype}, not {output.dtype}")
        actual = parity.nearest_in_bytes(truth, found) if output.dtype == "uint8" else found
        reports.append(parity.require(parity.compare(output.name, truth, actual), f"{side.name}, {copy}"))
    return reports
