"""Figures of merit of a model given as two functions, encode and decode: numpy arrays in, numbers out. Pure.

encode(image (n, H, W, C) float32, 0..1) -> z_mean, z_log_var (n, d); decode(z (n, d)) -> image (n, H, W, C), 0..1.
Keras and ONNX Runtime give the same figures through it. All logarithms are natural: nats.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from vae_serve.images.pixels import to_model
from vae_serve.model import samplers

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]
Encode = Callable[[Floats], tuple[Floats, Floats]]
Decode = Callable[[Floats], Floats]
Target = Literal["greyscale", "threshold", "dynamic"]

BATCH = 500  # images a call; a divisor of 10,000, so that a compiled network sees one shape
DRAWS = 4  # of z for each image
CLIP = np.float32(1e-7)  # probabilities are kept this far from 0 and 1: the loss of one pixel is at most 16.1 nats
WIDENED = (1, 3, 10)  # times a posterior's standard deviations: the proposals of importance sampling, beside the prior
LOG_2PI = float(np.log(2 * np.pi))


@dataclass(frozen=True)
class Elbo:
    """The negative evidence lower bound and its two parts: means over the images, in nats per image."""

    negative_elbo: float
    reconstruction: float
    kl: float


@dataclass(frozen=True)
class Latents:
    """What the latent space holds of a set of images, in nats unless it says otherwise."""

    marginal_kl: float  # of the aggregate posterior to the prior: how far its holes and clumps are from a normal
    mutual_information: float  # between image and z; at most log(number of images)
    active_units: int  # dimensions whose z_mean varies by more than 0.01 over the images
    dimensions: int


@dataclass(frozen=True)
class ReconstructionQuality:
    """How close the reconstruction from z_mean comes to the image."""

    mse: float  # of pixels 0..1
    ssim: float | None  # -1..1; None where a side is shorter than its window


def binarised(images: Bytes, target: Target, seed: int = 0) -> Bytes:
    """The images that a figure is about: (n, H, W, C) as they are, or with pixels 0 and 255 alone.

    `threshold`: 255 from 128 on. `dynamic`: 255 with the probability of the grey level, drawn from `seed`
    (Salakhutdinov & Murray 2008). Figures of different targets do not compare.
    """
    match target:
        case "greyscale":
            return images
        case "threshold":
            return np.where(images >= 128, np.uint8(255), np.uint8(0))
        case "dynamic":
            drawn = np.random.Generator(np.random.Philox(key=[seed, 0])).random(images.shape, np.float32)
            return np.where(drawn < to_model(images), np.uint8(255), np.uint8(0))


def elbo(encode: Encode, decode: Decode, images: Bytes, draws: int = DRAWS, seed: int = 0) -> Elbo:
    """The negative ELBO of images (n, H, W, C) uint8: -log p(x|z) averaged over `draws` draws of z, plus the KL.

    Kingma & Welling 2014 (arXiv:1312.6114), equation 10. Draw k of image i is sample k * n + i of
    `samplers.sample_prior(seed, ...)`: the same for every model, batch size and runtime.
    """
    reconstruction = kl = 0.0
    for start, batch in _batches(images):
        z_mean, z_log_var = encode(batch)
        kl += float(gaussian_kl(z_mean, z_log_var).sum())
        for draw in range(draws):
            first = draw * len(images) + start
            noise = samplers.sample_prior(seed, first, first + len(batch), z_mean.shape[1])
            z = z_mean + np.exp(np.float32(0.5) * z_log_var) * noise
            reconstruction += float(bernoulli_nats(batch, decode(z)).sum()) / draws
    count = len(images)
    return Elbo((reconstruction + kl) / count, reconstruction / count, kl / count)


def summary(figures: Elbo, images: int, draws: int) -> dict[str, float | int | str]:
    """As a record keeps it: the figures, their unit, what they are figures of."""
    return {**asdict(figures), "unit": "nats per image", "target": "greyscale", "images": images, "draws": draws}


def encoded(encode: Encode, images: Bytes) -> tuple[Floats, Floats]:
    """z_mean and z_log_var (n, d) of images (n, H, W, C) uint8."""
    parts = [encode(batch) for _, batch in _batches(images)]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def gaussian_kl(z_mean: Floats, z_log_var: Floats) -> Doubles:
    """KL of each row's diagonal Gaussian (n, d) to the standard normal: (n,). Kingma & Welling 2014, appendix B."""
    mean, log_var = z_mean.astype(np.float64), z_log_var.astype(np.float64)
    return np.asarray(np.sum(mean**2 + np.exp(log_var) - 1 - log_var, axis=1) / 2)


def bernoulli_nats(target: Floats, image: Floats) -> Doubles:
    """-log p(target | image), each pixel a Bernoulli variable of probability `image`: (n or 1, H, W, C) each, to (n,).

    Greyscale targets between 0 and 1 give the cross-entropy, as in the training loss. Probabilities are clipped to
    CLIP..1 - CLIP, so that the result is finite; a trained model is hardly moved by it.
    """
    p = np.clip(image, CLIP, 1 - CLIP)
    nats = target * np.log(p) + (1 - target) * np.log1p(-p)
    return np.asarray(-np.sum(nats.reshape(len(image), -1), axis=1, dtype=np.float64))


def lattice_log_likelihood(decode: Decode, images: Bytes, span: float, side: int) -> tuple[Doubles, Doubles]:
    """log p(x) of each image (n,) for a latent plane: p(x|z) p(z) summed over a lattice, side x side on -span..span.

    The trapezoidal rule, which converges exponentially for smooth integrands that vanish at the border (Trefethen &
    Weideman 2014): once the spacing is near the width of a posterior, the error is gone. Returns it twice: over all
    points, and over every second one in both directions, so that their difference shows what the spacing costs.
    """
    axis = np.linspace(-span, span, side)
    targets = np.concatenate([batch.reshape(len(batch), -1) for _, batch in _batches(images)])  # (n, pixels)
    fine, coarse = _LogSum(len(images)), _LogSum(len(images))
    for row, first in enumerate(axis):
        z = np.stack([np.full(side, first), axis], axis=1)
        p = np.clip(decode(z.astype(np.float32)).reshape(side, -1), CLIP, 1 - CLIP)
        off = np.log1p(-p)
        # log p(x|z) of every image at every point: x log p + (1 - x) log(1 - p), as one product
        row_logs = off.sum(axis=1, dtype=np.float64) + prior_log_density(z)
        logs = targets @ (np.log(p) - off).T + row_logs.astype(np.float32)  # (n, side)
        fine.add(logs)
        if row % 2 == 0:
            coarse.add(logs[:, ::2])
    cell = (axis[1] - axis[0]) ** 2
    return fine.log + np.log(cell), coarse.log + np.log(4 * cell)


def importance_log_likelihood(encode: Encode, decode: Decode, images: Bytes, samples: int, seed: int = 0) -> Doubles:
    """log p(x) of each image (n,) by importance sampling, `samples` draws of z an image.

    Burda, Grosse & Salakhutdinov 2016 (arXiv:1509.00519), equation 8: a lower bound in expectation that rises to
    log p(x) with the samples. An encoder's posteriors are too narrow to be the only proposal: where one misses the true
    posterior, no number of samples finds it. So the draws come in turn from the posterior, the posterior WIDENED, and
    the prior, and are weighed by the mixture of all (Owen & Zhou 2000, "Safe and effective importance sampling").
    Image i takes the draws from i * samples on of `samplers.sample_prior(seed, ...)`.
    """
    log_likelihoods = np.empty(len(images))
    for start, batch in _batches(images):
        z_mean, z_log_var = encode(batch)
        for row, image in enumerate(batch):
            centres = np.stack([z_mean[row]] * len(WIDENED) + [np.zeros_like(z_mean[row])])
            spread = np.exp(np.float32(0.5) * z_log_var[row])
            scales = np.stack([np.float32(factor) * spread for factor in WIDENED] + [np.ones_like(spread)])
            total = _LogSum(1)
            first = (start + row) * samples
            for begin in range(0, samples, BATCH):
                turn = np.arange(begin, min(begin + BATCH, samples)) % len(centres)
                noise = samplers.sample_prior(seed, first + begin, first + begin + len(turn), z_mean.shape[1])
                z = centres[turn] + scales[turn] * noise
                proposal = _LogSum(len(z))
                away = (z[:, None] - centres) / scales  # (samples, proposals, d)
                proposal.add((_log_normal(away) - np.log(scales)).sum(axis=2) - np.log(len(centres)))
                log_weight = prior_log_density(z) - proposal.log - bernoulli_nats(image[None], decode(z))
                total.add(log_weight[None])
            log_likelihoods[start + row] = total.log[0] - np.log(samples)
    return log_likelihoods


def latent_figures(z_mean: Floats, z_log_var: Floats, seed: int = 0) -> Latents:
    """What the posteriors (n, d) of a set of images make of the latent space.

    The aggregate posterior is their mixture. Its KL to the prior and the mutual information add up to the mean KL of
    the ELBO (Hoffman & Johnson 2016, "ELBO surgery"). One draw for each image.
    """
    z = z_mean + np.exp(np.float32(0.5) * z_log_var) * samplers.sample_prior(seed, 0, len(z_mean), z_mean.shape[1])
    marginal = float(np.mean(aggregate_log_density(z, z_mean, z_log_var) - prior_log_density(z)))
    return Latents(
        marginal_kl=marginal,
        mutual_information=float(gaussian_kl(z_mean, z_log_var).mean()) - marginal,
        active_units=int(np.count_nonzero(z_mean.var(axis=0) > 0.01)),  # Burda et al. 2016, section 5.1
        dimensions=z_mean.shape[1],
    )


def aggregate_log_density(z: Floats, z_mean: Floats, z_log_var: Floats) -> Doubles:
    """log of the mixture of all posteriors (n, d) at each point z (m, d): (m,)."""
    precision = np.exp(-z_log_var)
    scale = z_log_var.sum(axis=1) + z_mean.shape[1] * np.float32(LOG_2PI)
    log_densities = np.empty(len(z))
    for start in range(0, len(z), BATCH):
        part = z[start : start + BATCH]
        distance = sum(
            np.square(part[:, axis, None] - z_mean[:, axis]) * precision[:, axis] for axis in range(z.shape[1])
        )
        total = _LogSum(len(part))
        total.add(-0.5 * (distance + scale))
        log_densities[start : start + BATCH] = total.log - np.log(len(z_mean))
    return log_densities


def prior_log_density(z: Floats) -> Doubles:
    """log of the standard normal at each point z (m, d): (m,)."""
    return np.asarray(_log_normal(z).sum(axis=1))


def reconstruction_quality(encode: Encode, decode: Decode, images: Bytes) -> ReconstructionQuality:
    """Images (n, H, W, C) against decode(z_mean), without a draw."""
    square = structure = 0.0
    for _, batch in _batches(images):
        again = decode(encode(batch)[0])
        square += float(np.square(batch - again, dtype=np.float64).mean(axis=(1, 2, 3)).sum())
        if min(batch.shape[1:3]) >= _WINDOW:
            structure += float(ssim(batch, again).sum())
    count = len(images)
    return ReconstructionQuality(square / count, structure / count if min(images.shape[1:3]) >= _WINDOW else None)


_WINDOW = 11  # pixels; with sigma 1.5 and the constants below as in Wang et al. 2004


def ssim(first: Floats, second: Floats) -> Doubles:
    """Mean structural similarity of pictures (n, H, W, C), 0..1: (n,), at most 1 (Wang et al. 2004, equation 13)."""
    offsets = np.arange(_WINDOW) - _WINDOW // 2
    kernel = np.exp(-(offsets**2) / (2 * 1.5**2))
    kernel /= kernel.sum()

    def smooth(images: Doubles) -> Doubles:
        for axis in (1, 2):
            windows = np.lib.stride_tricks.sliding_window_view(images, _WINDOW, axis=axis)  # inside the border alone
            images = windows @ kernel
        return images

    x, y = first.astype(np.float64), second.astype(np.float64)
    mean_x, mean_y = smooth(x), smooth(y)
    var_x, var_y = smooth(x * x) - mean_x**2, smooth(y * y) - mean_y**2
    covariance = smooth(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    similarity = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    )
    return np.asarray(similarity.mean(axis=(1, 2, 3)))


def _log_normal(z: npt.NDArray[np.floating]) -> Doubles:
    """log density of the standard normal at each number, same shape."""
    return np.asarray(-0.5 * (np.square(z.astype(np.float64)) + LOG_2PI))


class _LogSum:
    """The logarithm of a growing sum of exponentials, for each of `count` rows."""

    def __init__(self, count: int) -> None:
        self.log = np.full(count, -np.inf)

    def add(self, logs: npt.NDArray[np.floating]) -> None:
        """Adds exp(logs) (count, any) to the sums."""
        top = np.maximum(self.log, logs.max(axis=1))
        self.log = top + np.log(np.exp(self.log - top) + np.exp(logs - top[:, None]).sum(axis=1))


def _batches(images: Bytes) -> Iterator[tuple[int, Floats]]:
    for start in range(0, len(images), BATCH):
        yield start, to_model(images[start : start + BATCH])
