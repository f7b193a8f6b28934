"""The encoder over a source's pixels."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vae_serve.errors import SourceError
from vae_serve.images.pixels import PixelRule, to_bytes
from vae_serve.model.bundle import Bundle
from vae_serve.sources.arrays import Arrays
from vae_serve.sources.files import Pictures

if TYPE_CHECKING:
    from vae_serve.model.runtime import Network

# onnxruntime is imported where it is needed: while it loads, other processes decode already.

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]


def refuse_other_shape(source: Pictures | Arrays, rule: PixelRule) -> None:
    """Raises SourceError for arrays of another shape than the model's."""
    if isinstance(source, Arrays) and source.shape != rule.shape:
        raise SourceError(f"{source.where} holds pictures of shape {source.shape}; the model takes {rule.shape}")


def open_encoder(source: Pictures | Arrays, bundle: Bundle) -> "Network":
    """An encoder for what the source gives."""
    from vae_serve.model import runtime

    return runtime.open_encoder(bundle, of_bytes=not isinstance(source, Arrays) or source.dtype == np.uint8)


def encode(encoder: "Network", pixels: Array, batch: int) -> dict[str, Floats]:
    """The encoder's outputs (n, d) by name. Floats are rounded where it takes bytes."""
    parts = []
    for start in range(0, len(pixels), batch):
        rows = pixels[start : start + batch]
        if encoder.spec.inputs[0].dtype == "uint8" and rows.dtype != np.uint8:
            rows = to_bytes(rows)
        parts.append(encoder(rows))
    names = [output.name for output in encoder.spec.outputs]
    return {name: np.concatenate(part) for name, part in zip(names, zip(*parts, strict=True), strict=True)}
