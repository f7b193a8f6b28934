"""The plots of a trained model, from Keras or from ONNX Runtime. Needs no Keras."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vae_serve.evaluate import metrics, plots
from vae_serve.model import samplers
from vae_serve.training import runs

SIDE = 20  # of the decoded plane, in pictures
SPAN = 4.0  # of the plane, in standard deviations of the prior, either way
LATTICE = 121  # points a side for the aggregate posterior


def write(
    folder: Path,
    encode: metrics.Encode,
    decode: metrics.Decode,
    images: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.int64] | None,
    history: Sequence[Mapping[str, float]] = (),
) -> list[Path]:
    """Writes latent, grid, posterior, reconstructions and, with a history, loss as PNG files; returns them.

    images (n, H, W, C) and labels (n,) are the test set's.
    """
    z_mean, z_log_var = metrics.encoded(encode, images)
    dimensions = z_mean.shape[1]
    figures = {"latent": plots.latent(z_mean, labels)}
    if dimensions == 2:
        figures["grid"] = plots.plane(decode(samplers.plane(SIDE, SPAN)), SIDE, SPAN)
        z = samplers.plane(LATTICE, SPAN)
        shape = (LATTICE, LATTICE)
        with np.errstate(over="ignore", invalid="ignore"):  # posteriors of no width, as without the KL
            density = metrics.aggregate_log_density(z, z_mean, z_log_var).reshape(shape)[::-1]  # lowest row first
        prior = metrics.prior_log_density(z).reshape(shape)[::-1]
        figures["posterior"] = plots.posterior(density, prior, SPAN)
    else:
        figures["grid"] = plots.samples(decode(samplers.sample_prior(0, 0, 225, dimensions)), 15)
        figures["posterior"] = plots.units(z_mean, z_log_var)
    shown = images[:60]
    figures["reconstructions"] = plots.reconstructions(shown, decode(metrics.encoded(encode, shown)[0]))
    if history:
        figures["loss"] = plots.loss(history)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, figure in figures.items():
        picture = io.BytesIO()
        figure.savefig(picture, format="png", bbox_inches="tight")
        runs.write_whole(folder / f"{name}.png", picture.getvalue())
        written.append(folder / f"{name}.png")
    return written
