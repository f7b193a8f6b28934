"""How far labels can be read from z_mean: nearest neighbours and a linear probe, by scikit-learn. Bounded in work."""

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vae_serve.errors import MissingExtra

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.generic]  # numbers or text

REFERENCES = 60_000  # labelled images that are learnt from at most: MNIST's training set
NEIGHBOURS = 10
PROBE_WORK = 4e9  # multiplications of an iteration of the probe at most: some tenths of a second
PROBE_ITERATIONS = 200
PROBE_L2 = 1e-4  # times the number of images: a trace, so that separable classes have a solution


@dataclass(frozen=True)
class LabelFigures:
    """How far the labels can be read from z_mean: shares of the test images, 0..1."""

    knn_accuracy: float
    linear_accuracy: float
    neighbours: int
    references: int  # labelled images that it was learnt from
    left_out: tuple[str, ...] = ()  # what was bounded, in words


def chosen(count: int, most: int = REFERENCES) -> npt.NDArray[np.int64]:
    """Rows of `count` labelled images to learn from, in order: all, or `most` of them, always the same random ones."""
    if count <= most:
        return np.arange(count)
    stream = np.random.Generator(np.random.Philox(key=[0, 0]))  # even steps could pass over whole classes
    return np.sort(stream.permutation(count)[:most])


def label_figures(
    reference: Floats, reference_labels: Labels, z_mean: Floats, labels: Labels, neighbours: int = NEIGHBOURS
) -> LabelFigures:
    """k-nearest-neighbour vote and multinomial logistic regression, from reference (m, d) to z_mean (n, d).

    Raises:
        MissingExtra: scikit-learn is not installed.
    """
    try:
        from sklearn.neighbors import KNeighborsClassifier
    except ModuleNotFoundError:
        raise MissingExtra("train", "vae-serve evaluate") from None
    classes, codes = np.unique(reference_labels, return_inverse=True)
    neighbours = min(neighbours, len(reference))
    nearest = KNeighborsClassifier(neighbours).fit(reference, codes)
    probed, left_out = _linear(reference, codes, len(classes), z_mean)
    return LabelFigures(
        knn_accuracy=float(np.mean(classes[nearest.predict(z_mean)] == labels)),
        linear_accuracy=float(np.mean(classes[probed] == labels)),
        neighbours=neighbours,
        references=len(reference),
        left_out=left_out,
    )


def _linear(
    reference: Floats, codes: npt.NDArray[np.int64], classes: int, points: Floats
) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """Classes (n,) of the points by logistic regression on standardised coordinates; and what was bounded."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    left_out = []
    most = max(int(PROBE_WORK / (2 * classes * reference.shape[1])), classes)
    if len(reference) > most:
        rows = chosen(len(reference), most)
        left_out.append(f"the linear probe learnt from {most:,} of {len(reference):,} images")
        reference, codes = reference[rows], codes[rows]
    if len(np.unique(codes)) < 2:
        return np.full(len(points), codes[0]), tuple(left_out)
    probe = LogisticRegression(C=1 / (PROBE_L2 * len(reference)), max_iter=PROBE_ITERATIONS)
    model = make_pipeline(StandardScaler(), probe)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(reference.astype(np.float64), codes)
    for warning in caught:
        if issubclass(warning.category, ConvergenceWarning):
            left_out.append(f"the linear probe was stopped after {PROBE_ITERATIONS} iterations")
    return np.asarray(model.predict(points.astype(np.float64))), tuple(left_out)
