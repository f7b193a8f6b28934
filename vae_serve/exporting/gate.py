"""The gate: every copy of a model is compared with the trained Keras model before a bundle is published.

What is compared: the encoder on the run's test images; the decoder on the latent means of those images, on samples
of the prior, and on far corners of the latent space. The reference is the trained model in float64, unfolded: its
float32 output is one of many roundings of that. The measure and the tolerance are in `vae_serve.model.parity`.
"""

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
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
BOUND = f"the larger of {parity.TOLERANCE:g} and {parity.SLACK:g} times what the trained model's own float32 is away"
PRIOR_DRAWS = 10_000
PRIOR_SEED = 0
CORNER = 10.0  # as far out as anybody will ask: a standard normal stays within 6
CORNERS = 256  # at most; a latent space of 64 dimensions has 2**64
BATCHES = (1, 2, 3, 7, 64, 257)
WHOLE_BATCHES = 3  # of each size, within the rows of the largest
ALONE = 64  # rows that are also run one by one
BATCH = 64  # rows a call in the long comparisons; a wide network keeps megabytes for each


# Multiplications of one pass over the rows. Small models compare every row; one of 700 million multiplications a row,
# run ten times over, would take hours, so it compares the first rows of each kind, and the manifest says how many.
BUDGET = 1.5e11


# Bytes of the expected values of one kind of rows, which are float64 and are compared whole.
MEMORY = 512 << 20


@dataclass(frozen=True)
class Reference:
    """One network of the trained model: its inputs, and the outputs that its copies are compared with."""

    name: str  # "encoder" or "decoder"
    spec: GraphSpec
    inputs: Array  # (n, ...) in the dtype of the contract
    expected: tuple[Array, ...]  # for each output (n, ...) float64, pictures 0..1 whatever the contract's dtype
    trained_float32: tuple[float, ...]  # for each output, how far the trained model's own float32 is from that

    @property
    def tolerances(self) -> tuple[float, ...]:
        """For each output, how far a copy may be away."""
        return tuple(parity.allowed(distance) for distance in self.trained_float32)


def reference_of(name: str, model: keras.Model, spec: GraphSpec, rows: Array) -> Reference:
    """A trained network on rows (n, ...), pictures among them as bytes or floats 0..1.

    Raises:
        ParityError: the trained model itself gives numbers that are not finite.
    """
    floats = pixels.to_model(rows) if rows.dtype == np.uint8 else rows
    expected = in_batches(run_keras(in_float64(model)), floats)
    distances = []
    for output, truth, in_float32 in zip(spec.outputs, expected, in_batches(run_keras(model), floats), strict=True):
        report = parity.compare(output.name, truth, in_float32)
        if not math.isfinite(report.largest):
            raise ParityError(
                f"the trained {name} gives {output.name}{list(report.index)} = {report.actual:g}, in float64 "
                f"{report.expected:g}: such a model cannot be exported, train it again"
            )
        distances.append(report.largest)
    inputs = rows if spec.inputs[0].dtype == "uint8" else floats
    return Reference(name, spec, inputs, tuple(expected), tuple(distances))


def encoder_reference(encoder: keras.Model, spec: GraphSpec, images: npt.NDArray[np.uint8]) -> Reference:
    """The trained encoder on the test images (n, H, W, C)."""
    return reference_of("encoder", encoder, spec, rows_within_budget(encoder, images))


def decoder_reference(decoder: keras.Model, spec: GraphSpec, codes: Array) -> Reference:
    """The trained decoder on the codes (n, d) of the test images, `PRIOR_DRAWS` samples of the prior, and corners."""
    latent_dim = codes.shape[1]
    kinds = (
        codes.astype(np.float32),
        samplers.sample_prior(PRIOR_SEED, 0, PRIOR_DRAWS, latent_dim),
        corners(latent_dim),
    )
    rows = np.concatenate([rows_within_budget(decoder, kind) for kind in kinds])
    return reference_of("decoder", decoder, spec, rows)


def in_float64(model: keras.Model) -> keras.Model:
    """The same layers and weights, computed in float64."""

    def wide(layer: keras.Layer) -> keras.Layer:
        return type(layer).from_config({**layer.get_config(), "dtype": "float64"})

    clone = keras.models.clone_model(model, clone_function=wide)
    clone.set_weights(model.get_weights())
    return clone


def rows_within_budget(model: keras.Model, rows: Array) -> Array:
    """As many of the first `rows` as `BUDGET` and `MEMORY` allow, but at least the largest of `BATCHES`."""
    output_bytes = 8 * max(math.prod(output.shape[1:]) for output in model.outputs)
    return rows[: max(min(int(BUDGET / multiplications(model)), MEMORY // output_bytes), *BATCHES)]


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


def check(reference: Reference, copy: str, run: Run) -> list[Json]:
    """Runs one copy on all inputs; a report for each output, ready for the manifest.

    Raises:
        ParityError: an output differs by more than the tolerance; names tensor, index and both values.
    """
    return [
        {"network": reference.name, "copy": copy, **report.to_json()}
        for report in _compare(reference, copy, run, BATCH)
    ]


def check_onnx(reference: Reference, model: bytes) -> list[Json]:
    """As `check`, for an ONNX file: at every optimisation level, in batches of every size, and row by row.

    Raises:
        ParityError: as `check`; or a row's result depends on the batch that it stands in.
    """
    reports = []
    for level in LEVELS:
        run = run_onnx(model, reference.spec, level)
        copy = f"ONNX, {level}"
        reports += check(reference, copy, run)
        for batch in BATCHES:
            _compare(
                _first(reference, min(WHOLE_BATCHES * batch, max(BATCHES))), f"{copy}, batches of {batch}", run, batch
            )
        few = reference.inputs[:ALONE]
        for output, distance, together, alone in zip(
            reference.spec.outputs, reference.trained_float32, run(few), in_batches(run, few, 1), strict=True
        ):
            if output.dtype == "float32":  # bytes were compared with the floats that they are rounded from
                where = f"{reference.name}, {copy}, a batch against its rows"
                parity.require(parity.compare(output.name, alone, together, distance), where)
    return reports


def of_bytes(reference: Reference, spec: GraphSpec) -> Reference:
    """The encoder's truth for a copy that takes bytes: the same images, as they were before they became floats."""
    return replace(reference, spec=spec, inputs=pixels.to_bytes(reference.inputs))


def levels(image_shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """An image of each level 0..255: (256, H, W, C)."""
    return np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None, None, None], (256, *image_shape))


def require_same_bits(images: npt.NDArray[np.uint8], of_bytes: bytes, spec: GraphSpec, of_floats: bytes) -> None:
    """Makes sure that two graphs give the same bits, one of bytes (n, H, W, C) and one of their floats, at every level.

    Raises:
        ParityError: names the output, the image and both values.
    """
    height, width, channels = images.shape[1:]
    float_spec = graph_spec("encoder", "float32", (height, width, channels), int(spec.outputs[0].shape[1]))
    floats = pixels.to_model(images)
    for level in LEVELS:
        from_bytes = in_batches(run_onnx(of_bytes, spec, level), images)
        from_floats = in_batches(run_onnx(of_floats, float_spec, level), floats)
        for output, actual, expected in zip(spec.outputs, from_bytes, from_floats, strict=True):
            if actual.tobytes() != expected.tobytes():
                row = int(np.argmax((actual != expected).any(axis=1)))
                raise ParityError(
                    f"{spec.file}, {level}: {output.name}[{row}] is {actual[row].tolist()} of the bytes and "
                    f"{expected[row].tolist()} of their floats"
                )


def _first(reference: Reference, rows: int) -> Reference:
    expected = tuple(outputs[:rows] for outputs in reference.expected)
    return replace(reference, inputs=reference.inputs[:rows], expected=expected)


def run_keras(model: keras.Model) -> Run:
    """A Keras model in inference mode, compiled once for batches of any size."""
    batch_spec = tf.TensorSpec([None, *model.inputs[0].shape[1:]], tf.float32)
    step = tf.function(lambda batch: tf.nest.flatten(model(batch, training=False)), input_signature=[batch_spec])
    return lambda batch: [output.numpy() for output in step(tf.constant(batch))]


def run_function(function: Callable[[tf.Tensor], dict[str, tf.Tensor]], spec: GraphSpec) -> Run:
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


def in_batches(run: Run, rows: Array, batch: int = BATCH) -> list[Array]:
    """`run` over any number of rows, `batch` at a time: each output whole."""
    parts = [run(rows[start : start + batch]) for start in range(0, len(rows), batch)]
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def _compare(reference: Reference, copy: str, run: Run, batch: int) -> Iterable[parity.Report]:
    outputs = in_batches(run, reference.inputs, batch)
    reports = []
    for output, truth, distance, values in zip(
        reference.spec.outputs, reference.expected, reference.trained_float32, outputs, strict=True
    ):
        if values.dtype != output.dtype:
            raise ParityError(f"{reference.name}, {copy}: {output.name} is {values.dtype}, not {output.dtype}")
        actual = parity.nearest_in_bytes(truth, values) if output.dtype == "uint8" else values
        reports.append(
            parity.require(parity.compare(output.name, truth, actual, distance), f"{reference.name}, {copy}")
        )
    return reports
