"""Latent points through the decoder to pictures, of one point each or tiled of several."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vae_serve.images import pixels
from vae_serve.model.runtime import Network
from vae_serve.model.samplers import Floats
from vae_serve.sources.latents import Points

Bytes = npt.NDArray[np.uint8]

BATCH = 64  # points a call: what the decoder has in hand then fits into a core's second-level cache
TASK_POINTS = 1024  # that one thread decodes in one go


@dataclass(frozen=True)
class Tiling:
    """How points become pictures: each is a tile of `points`, `columns` wide."""

    points: int = 1
    columns: int = 1

    def pictures(self, points: Points) -> int:
        """How many pictures some points make; the last tile may have gaps."""
        return -(-points.count // self.points)

    def rows(self, points: Points, start: int, stop: int) -> Floats:
        """The points of pictures `start` to `stop`; NaN, which is drawn black, in the gaps."""
        z = points.rows(start * self.points, min(stop * self.points, points.count))
        gap = (stop - start) * self.points - len(z)
        return np.pad(z, ((0, gap), (0, 0)), constant_values=np.nan) if gap else z

    def tile(self, images: Bytes) -> Bytes:
        """Images (n * points, H, W, C) as pictures (n, H * points / columns, W * columns, C)."""
        if self.points == 1:
            return images
        tiles = images.reshape(-1, self.points, *images.shape[1:])
        return np.stack([pixels.tile(tile, self.columns) for tile in tiles])


def decode(decoder: Network, z: Floats) -> Bytes:
    """Points (n, d) to images (n, H, W, C); black where a point is NaN."""
    blank = np.asarray(np.isnan(z).any(axis=1))
    given = np.where(blank[:, None], np.float32(0), z)
    (_, *shape) = decoder.spec.outputs[0].shape
    images = np.empty((len(z), *map(int, shape)), np.uint8)
    for start in range(0, len(z), BATCH):
        (image,) = decoder(given[start : start + BATCH])
        room = images[start : start + BATCH]
        if image.dtype == np.uint8:
            room[:] = image
        else:
            pixels.to_bytes(image, room)
    images[blank] = 0
    return images


def render_one(decoder: Network, points: Points, tiling: Tiling, workers: int) -> Bytes:
    """The one picture (H, W, C) that the points make."""
    z = tiling.rows(points, 0, 1)
    tasks = [z[start : start + TASK_POINTS] for start in range(0, len(z), TASK_POINTS)]
    with ThreadPoolExecutor(workers) as pool:
        images = np.concatenate(list(pool.map(lambda task: decode(decoder, task), tasks)))
    picture: Bytes = tiling.tile(images)[0]
    return picture
