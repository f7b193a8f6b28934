"""Latent points through the decoder to pictures, of one point each or tiled of several."""

import msgspec
import numpy as np
import numpy.typing as npt

from vae_serve.images import pixels
from vae_serve.model.model import Model
from vae_serve.model.samplers import Floats
from vae_serve.sources.latents import LatentSource

Bytes = npt.NDArray[np.uint8]


class Tiling(msgspec.Struct, frozen=True):
    """How points become pictures: each is a tile of `points`, `columns` wide."""

    points: int = 1
    columns: int = 1

    def pictures(self, points: LatentSource) -> int:
        """How many pictures some points make; the last tile may have gaps."""
        return -(-points.count // self.points)

    def range(self, points: LatentSource, start: int, stop: int) -> tuple[int, int]:
        """Which points pictures `start` to `stop` are made of."""
        return start * self.points, min(stop * self.points, points.count)

    def rows(self, points: LatentSource, start: int, stop: int) -> Floats:
        """The points of pictures `start` to `stop`; NaN, which is drawn black, in the gaps."""
        z = points.rows(*self.range(points, start, stop))
        gap = (stop - start) * self.points - len(z)
        return np.pad(z, ((0, gap), (0, 0)), constant_values=np.nan) if gap else z

    def tile(self, images: Bytes) -> Bytes:
        """Images (n * points, H, W, C) as pictures (n, H * points / columns, W * columns, C)."""
        if self.points == 1:
            return images
        tiles = images.reshape(-1, self.points, *images.shape[1:])
        return np.stack([pixels.tile(tile, self.columns) for tile in tiles])


def decode(model: Model, z: Floats) -> Bytes:
    """Latent points (n, d) to images (n, H, W, C); black where a point is NaN."""
    blank = np.asarray(np.isnan(z).any(axis=1))
    images: Bytes = model.decode(np.where(blank[:, None], np.float32(0), z), "uint8")
    images[blank] = 0
    return images


def render_one(model: Model, points: LatentSource, tiling: Tiling) -> Bytes:
    """The one picture (H, W, C) that the points make."""
    picture: Bytes = tiling.tile(decode(model, tiling.rows(points, 0, 1)))[0]
    return picture
