"""Figures of merit of a model given as two functions, encode and decode: numpy arrays in, numbers out. Pure.

encode(image (n, H, W, C) float32, 0..1) -> z_mean, z_log_var (n, d); decode(z (n, d)) -> image (n, H, W, C), 0..1.
Keras and ONNX Runtime give the same figures through it. All logarithms are natural: nats.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from vae_serve import latents
from vae_serve.images.pixels import to_model

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]
Encode = Callable[[Floats], tuple[Floats, Floats]]
Decode = Callable[[Floats], Floats]

BATCH = 500  # images a call; a divisor of 10,000, so that a compiled network sees one shape
DRAWS = 4  # of z for each image
CLIP = np.float32(1e-7)  # probabilities are kept this far from 0 and 1: the loss of one pixel is at most 16.1 nats


@dataclass(frozen=True)
class Elbo:
    """The negative evidence lower bound and its two parts: means over the images, in nats per image."""

    negative_elbo: float
    reconstruction: float
    kl: float


def elbo(encode: Encode, decode: Decode, images: Bytes, draws: int = DRAWS, seed: int = 0) -> Elbo:
    """The negative ELBO of images (n, H, W, C) uint8: -log p(x|z) averaged over `draws` draws of z, plus the KL.

    Kingma & Welling 2014 (arXiv:1312.6114), equation 10. Draw k of image i is sample k * n + i of
    `latents.draws(seed, ...)`: the same for every model, batch size and runtime.
    """
    reconstruction = kl = 0.0
    for start, batch in _batches(images):
        z_mean, z_log_var = encode(batch)
        kl += float(gaussian_kl(z_mean, z_log_var).sum())
        for draw in range(draws):
            first = draw * len(images) + start
            noise = latents.draws(seed, first, first + len(batch), z_mean.shape[1])
            z = z_mean + np.exp(np.float32(0.5) * z_log_var) * noise
            reconstruction += float(bernoulli_nats(batch, decode(z)).sum()) / draws
    count = len(images)
    return Elbo((reconstruction + kl) / count, reconstruction / count, kl / count)


def summary(figures: Elbo, images: int, draws: int) -> dict[str, float | int | str]:
    """As a record keeps it: the figures, their unit, what they are figures of."""
    return {**asdict(figures), "unit": "nats per image", "target": "greyscale", "images": images, "draws": draws}


def gaussian_kl(z_mean: Floats, z_log_var: Floats) -> Doubles:
    """KL of each row's diagonal Gaussian (n, d) to the standard normal: (n,). Kingma & Welling 2014, appendix B."""
    mean, log_var = z_mean.astype(np.float64), z_log_var.astype(np.float64)
    return np.asarray(np.sum(mean**2 + np.exp(log_var) - 1 - log_var, axis=1) / 2)


def bernoulli_nats(target: Floats, image: Floats) -> Doubles:
    """-log p(target | image) with each pixel a Bernoulli variable of probability `image`: (n, H, W, C) to (n,).

    Greyscale targets between 0 and 1 give the cross-entropy, as in the training loss. Probabilities are clipped to
    CLIP..1 - CLIP, so that the result is finite; a trained model is hardly moved by it.
    """
    p = np.clip(image, CLIP, 1 - CLIP)
    nats = target * np.log(p) + (1 - target) * np.log1p(-p)
    return np.asarray(-np.sum(nats.reshape(len(target), -1), axis=1, dtype=np.float64))


def _batches(images: Bytes) -> Iterator[tuple[int, Floats]]:
    for start in range(0, len(images), BATCH):
        yield start, to_model(images[start : start + BATCH])
