"""Points in the latent space: planes, seeded draws by index, lines. Pure: arrays in, arrays out."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

DRAW_BLOCK = 4096  # rows that share one random stream; part of the definition of `draws`, never to be changed


def plane(side: int, span: float = 4.0) -> Floats:
    """The latent plane as a picture is read: (side * side, 2), row by row from the top left.

    The first axis grows to the right and the second one upwards, both linspace(-span, span, side).
    """
    axis = np.linspace(-span, span, side, dtype=np.float32)
    first, second = np.meshgrid(axis, axis[::-1])
    return np.stack([first.ravel(), second.ravel()], axis=1)


def draws(seed: int, start: int, stop: int, latent_dim: int) -> Floats:
    """Samples `start` to `stop` of the standard normal: (stop - start, latent_dim).

    Sample i depends on (seed, i, latent_dim) alone, whatever range it is asked for in: rows come in blocks of
    DRAW_BLOCK, and block b is the beginning of the Philox stream with key (seed, b)
    (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").
    """
    rows = []
    for block in range(start // DRAW_BLOCK, -(-stop // DRAW_BLOCK)):
        first = block * DRAW_BLOCK
        stream = np.random.Generator(np.random.Philox(key=[seed, block]))
        drawn = stream.standard_normal((DRAW_BLOCK, latent_dim), dtype=np.float32)
        rows.append(drawn[max(start - first, 0) : stop - first])
    return np.concatenate(rows) if rows else np.empty((0, latent_dim), np.float32)
