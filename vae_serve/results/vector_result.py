"""What an `embed` result consists of: which files, in which format."""

import math
from typing import Literal

import msgspec

ResultFormat = Literal["parquet", "npy", "csv", "projector"]

OUTPUTS = ("z_mean", "z_log_var", "z")
ABOUT = ("path", "label", "status", "error", "width", "height")
SPRITE_SIDE = 8192  # pixels; TensorBoard shows no larger sprite


class VectorResult(msgspec.Struct, frozen=True):
    """The format of a result, and the columns of vectors in it."""

    format: ResultFormat
    outputs: tuple[str, ...]
    """Of OUTPUTS, in this order."""
    rows: int
    latent_dim: int
    image_shape: tuple[int, int, int]

    @property
    def files(self) -> tuple[str, ...]:
        """What the shards become in the end, the last one written last; nothing where they are the result."""
        match self.format:
            case "parquet":
                return ()
            case "npy":
                return (*(f"{name}.npy" for name in self.outputs), "ids.csv")
            case "csv":
                return ("embeddings.csv",)
            case "projector":
                sprite = ("sprite.png",) if self.has_sprite else ()
                return ("vectors.tsv", "metadata.tsv", *sprite, "projector_config.pbtxt")

    @property
    def sprite_columns(self) -> int:
        """Pictures in a row of the sprite, which is square."""
        return math.ceil(math.sqrt(self.rows))

    @property
    def has_sprite(self) -> bool:
        """Whether the pictures themselves are kept: the projector shows them, where they fit on one sprite."""
        height, width, _ = self.image_shape
        return self.format == "projector" and self.sprite_columns * max(height, width) <= SPRITE_SIDE
