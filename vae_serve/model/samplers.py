"""Points in the latent space: planes, seeded samples by index, lines. Pure: arrays in, arrays out."""

from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

DRAW_BLOCK = 4096  # rows that share one random stream; part of the definition of `sample_prior`, never to be changed


def linear_axis(side: int, span: float = 4.0) -> Floats:
    """Equal steps from -span to span: (side,)."""
    return np.linspace(-span, span, side, dtype=np.float32)


def quantile_axis(side: int) -> Floats:
    """Equal steps of the prior's probability, (side,): the standard normal's quantiles at (i + 1/2) / side."""
    return np.array([NormalDist().inv_cdf((step + 0.5) / side) for step in range(side)], np.float32)


def lattice(axis: Floats) -> Floats:
    """Every pair of the axis' (n,) values as a picture is read: (n * n, 2), row by row from the top left.

    The first of a pair grows to the right and the second one upwards.
    """
    first, second = np.meshgrid(axis, axis[::-1])
    return np.stack([first.ravel(), second.ravel()], axis=1)


def plane(side: int, span: float = 4.0) -> Floats:
    """The latent plane, (side * side, 2): both axes linspace(-span, span, side), as in the Keras tutorial of 2019."""
    return lattice(linear_axis(side, span))


def lift(points: Floats, dimensions: tuple[int, int], latent_dim: int) -> Floats:
    """Points of a plane (n, 2) in the latent space (n, latent_dim): 0, the prior's mean, in every other dimension."""
    lifted = np.zeros((len(points), latent_dim), np.float32)
    lifted[:, list(dimensions)] = points
    return lifted


def line(start: Floats, stop: Floats, steps: int) -> Floats:
    """`steps` points at equal distances from `start` (d,) to `stop` (d,), both included: (steps, d)."""
    return np.linspace(start, stop, steps, dtype=np.float32)


def sample_prior(seed: int, start: int, stop: int, latent_dim: int) -> Floats:
    """Samples `start` to `stop` of the standard normal: (stop - start, latent_dim).

    Sample i depends on (seed, i, latent_dim) alone, whatever range it is asked for in: rows come in blocks of
    DRAW_BLOCK, and block b is the beginning of the Philox stream with key (seed, b)
    (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").
    """
    rows = []
    for block in range(start // DRAW_BLOCK, -(-stop // DRAW_BLOCK)):
        first = block * DRAW_BLOCK
        stream = np.random.Generator(np.random.Philox(key=np.array([seed, block], np.uint64)))
        drawn = stream.standard_normal((DRAW_BLOCK, latent_dim), dtype=np.float32)
        rows.append(drawn[max(start - first, 0) : stop - first])
    return np.concatenate(rows) if rows else np.empty((0, latent_dim), np.float32)
