"""All figures of a model on a test set, from two functions: the same for Keras and ONNX Runtime. Needs no Keras."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vae_serve.errors import RunError, UsageError
from vae_serve.evaluate import metrics
from vae_serve.evaluate.label_figures import chosen, label_figures
from vae_serve.training.data import Dataset
from vae_serve.training.record import finite

SPACING = 0.03  # of the lattice, in standard deviations of the prior; the posteriors of MNIST are about as wide
LEAST_SPAN = 7.0  # of the lattice, either way; more where a mean lies further out
LATTICE_POINTS = 4_000_000  # at most: means as far out as 29
LATENT_IMAGES = 20_000  # whose aggregate posterior is measured, at most
SAMPLES = 100  # for importance sampling where there is no lattice

Json = dict[str, Any]


@dataclass(frozen=True)
class Options:
    """What is measured, and on how much."""

    target: metrics.Target = "greyscale"
    samples: int | None = None  # of z for importance sampling; None: SAMPLES where there is no lattice
    images: int | None = None  # the first so many of the test set
    seed: int = 0

    def __post_init__(self) -> None:
        if self.target not in ("greyscale", "threshold", "dynamic"):
            raise UsageError(f"--target {self.target}: choose from greyscale, threshold, dynamic")
        if self.samples is not None and self.samples < 1:
            raise UsageError(f"--samples {self.samples}: give 1 or more")
        if self.images is not None and self.images < 1:
            raise UsageError(f"--images {self.images}: give 1 or more")


def evaluate(encode: metrics.Encode, decode: metrics.Decode, data: Dataset, options: Options) -> Json:
    """Every figure that the data allow, in nats per image unless its name says otherwise; None where one cannot be had.

    With binarised targets the encoder sees the binarised image, as a model of binary images would. `left_out` says what
    was not done, or on less, and why.
    """
    left_out: list[str] = []
    images = metrics.binarised(data.test_images[: options.images], options.target, options.seed)
    z_mean, z_log_var = metrics.encoded(encode, images)
    if not (np.isfinite(z_mean).all() and np.isfinite(z_log_var).all()):
        raise RunError("the model's z_mean or z_log_var is not finite on these images: it cannot be measured")
    with np.errstate(over="ignore", invalid="ignore"):  # a figure that is not finite is null, and is reported
        elbo = metrics.elbo(encode, decode, images, seed=options.seed)
        likelihood = _likelihood(encode, decode, images, z_mean, options, left_out)
        latent = _latent(z_mean, z_log_var, options, left_out)
    best = likelihood["lattice"] or likelihood["importance"]
    figures = {
        "data": data.name,
        "target": options.target,
        "images": len(images),
        "unit": "nats per image",
        "seed": options.seed,
        "elbo": {**asdict(elbo), "draws": metrics.DRAWS},
        "negative_log_likelihood": likelihood,
        "inference_gap": elbo.negative_elbo - best["value"],
        "latent": latent,
        "labels": _labels(encode, data, z_mean, options, left_out),
        "reconstruction": asdict(metrics.reconstruction_quality(encode, decode, images)),
    }
    if (cleaned := finite(figures)) != figures:
        left_out.append("figures that are not finite: the posteriors are too narrow, too wide or too far out for them")
    return {**cleaned, "left_out": left_out}


def _likelihood(
    encode: metrics.Encode,
    decode: metrics.Decode,
    images: metrics.Bytes,
    z_mean: metrics.Floats,
    options: Options,
    left_out: list[str],
) -> Json:
    lattice = importance = None
    if z_mean.shape[1] == 2:
        reach = float(np.abs(z_mean).max())
        span = max(LEAST_SPAN, float(np.ceil(reach + 1)))
        side = 2 * round(span / SPACING) + 1
        if side**2 > LATTICE_POINTS:
            left_out.append(
                f"the lattice: with means as far out as {reach:,.1f} it would take {side:,} x {side:,} points, more "
                f"than {LATTICE_POINTS:,}; importance sampling takes its place"
            )
        else:
            fine, coarse = metrics.lattice_log_likelihood(decode, images, span, side)
            lattice = {
                "value": -float(fine.mean()),
                "points": side**2,
                "span": span,
                "change_at_twice_the_spacing": float(fine.mean() - coarse.mean()),
            }
    if options.samples is not None or lattice is None:
        samples = options.samples or SAMPLES
        log_likelihoods = metrics.importance_log_likelihood(encode, decode, images, samples, options.seed)
        importance = {"value": -float(log_likelihoods.mean()), "samples": samples}
    return {"lattice": lattice, "importance": importance}


def _latent(z_mean: metrics.Floats, z_log_var: metrics.Floats, options: Options, left_out: list[str]) -> Json:
    # its work grows with the square of the images
    if len(z_mean) > LATENT_IMAGES:
        left_out.append(
            f"marginal KL, mutual information and active units are those of the first {LATENT_IMAGES:,} of "
            f"{len(z_mean):,} images"
        )
    return asdict(metrics.latent_figures(z_mean[:LATENT_IMAGES], z_log_var[:LATENT_IMAGES], options.seed))


def _labels(
    encode: metrics.Encode, data: Dataset, z_mean: metrics.Floats, options: Options, left_out: list[str]
) -> Json | None:
    if data.train_labels is None or data.test_labels is None or len(np.unique(data.train_labels)) < 2:
        return None  # no labels, or one class alone: there is nothing to tell apart
    rows = chosen(len(data.train_labels))
    if len(rows) < len(data.train_labels):
        left_out.append(f"label figures are learnt from {len(rows):,} of {len(data.train_labels):,} labelled images")
    reference = metrics.binarised(data.train_images[rows], options.target, options.seed)
    figures = label_figures(
        metrics.encoded(encode, reference)[0], data.train_labels[rows], z_mean, data.test_labels[: len(z_mean)]
    )
    left_out += figures.left_out
    return {name: value for name, value in asdict(figures).items() if name != "left_out"}
