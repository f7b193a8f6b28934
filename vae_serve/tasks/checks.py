"""What embed and reconstruct check alike: that arrays fit the model, and that what the model gives is finite."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from vae_serve.errors import SourceError
from vae_serve.images.pixels import PixelRule
from vae_serve.jobs.decoding import Failure
from vae_serve.sources.arrays import Arrays
from vae_serve.sources.files import Pictures


def refuse_other_shape(source: Pictures | Arrays, rule: PixelRule) -> None:
    """Raises SourceError for arrays of another shape than the model's."""
    if isinstance(source, Arrays) and source.shape != rule.shape:
        raise SourceError(f"{source.where} holds pictures of shape {source.shape}; the model takes {rule.shape}")


def not_finite(
    rows: range, outputs: Mapping[str, npt.NDArray[Any]], network: str, known: Collection[int]
) -> dict[int, Failure]:
    """The rows of the job, without those `known` to have failed, whose outputs (n, ...) of a network are not finite."""
    finite = np.ones(len(rows), bool)
    for values in outputs.values():
        finite &= np.isfinite(values.reshape(len(rows), -1)).all(axis=1)
    return {
        rows[at]: Failure("not_finite", f"the {network} gives NaN or infinity for it")
        for at in np.flatnonzero(~finite).tolist()
        if rows[at] not in known
    }
