"""All figures of a model on a test set, from two functions: the same for Keras and ONNX Runtime. Needs no Keras."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vae_serve.errors import UsageError
from vae_serve.evaluate import metrics
from vae_serve.train.data import Dataset

SPACING = 0.03  # of the lattice, in standard deviations of the prior; the posteriors of MNIST are about as wide
LEAST_SPAN = 7.0  # of the lattice, either way; more where a mean lies further out
SAMPLES = 100  # for importance sampling where there is no lattice

Json = dict[str, Any]


@dataclass(frozen=True)
class Options:
    """What is measured, and on how much."""

    target: metrics.Target = "greyscale"
    samples: int | None = None  # of z for importance sampling; None: SAMPLES where the latent space is no plane
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

    With binarised targets the encoder sees the binarised image, as a model of binary images would.
    """
    images = metrics.binarised(data.test_images[: options.images], options.target, options.seed)
    z_mean, z_log_var = metrics.encoded(encode, images)
    elbo = metrics.elbo(encode, decode, images, seed=options.seed)
    likelihood = _likelihood(encode, decode, images, z_mean, options)
    best = likelihood["lattice"] or likelihood["importance"]
    return {
        "data": data.name,
        "target": options.target,
        "images": len(images),
        "unit": "nats per image",
        "seed": options.seed,
        "elbo": {**asdict(elbo), "draws": metrics.DRAWS},
        "negative_log_likelihood": likelihood,
        "inference_gap": elbo.negative_elbo - best["value"],
        "latent": asdict(metrics.latent_figures(z_mean, z_log_var, options.seed)),
        "labels": _labels(encode, data, z_mean, options),
        "reconstruction": asdict(metrics.likeness(encode, decode, images)),
    }


def _likelihood(
    encode: metrics.Encode, decode: metrics.Decode, images: metrics.Bytes, z_mean: metrics.Floats, options: Options
) -> Json:
    plane = z_mean.shape[1] == 2
    lattice = importance = None
    if plane:
        span = max(LEAST_SPAN, float(np.ceil(np.abs(z_mean).max() + 1)))
        side = 2 * round(span / SPACING) + 1
        fine, coarse = metrics.lattice_log_likelihood(decode, images, span, side)
        lattice = {
            "value": -float(fine.mean()),
            "points": side**2,
            "span": span,
            "change_at_twice_the_spacing": float(fine.mean() - coarse.mean()),
        }
    if options.samples is not None or not plane:
        samples = options.samples or SAMPLES
        found = metrics.importance_log_likelihood(encode, decode, images, samples, options.seed)
        importance = {"value": -float(found.mean()), "samples": samples}
    return {"lattice": lattice, "importance": importance}


def _labels(encode: metrics.Encode, data: Dataset, z_mean: metrics.Floats, options: Options) -> Json | None:
    if data.train_labels is None or data.test_labels is None or len(np.unique(data.train_labels)) < 2:
        return None  # no labels, or one class alone: there is nothing to tell apart
    reference = metrics.binarised(data.train_images, options.target, options.seed)
    neighbours = min(10, len(reference))
    return asdict(
        metrics.labelled_figures(
            metrics.encoded(encode, reference)[0],
            data.train_labels,
            z_mean,
            data.test_labels[: len(z_mean)],
            neighbours,
        )
    )
