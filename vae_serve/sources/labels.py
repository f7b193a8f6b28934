"""What rows show, out of the values that arrays and tables have for it."""

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vae_serve.errors import SourceError
from vae_serve.sources.names import Labels

Array = npt.NDArray[Any]

_LABEL_WORDS = {
    "x": ("y",),
    "images": ("labels", "label", "y", "targets"),
    "image": ("label", "labels", "y", "target"),
    "data": ("labels", "label", "y", "targets", "target"),
}
_LABEL_NAMES = ("labels", "label", "y")


def label_text(value: Any) -> bytes | None:
    """A label as text: bytes decoded, whole floats as integers; None for null and NaN."""
    if isinstance(value, bytes | bytearray):
        text = bytes(value).decode("utf-8", "backslashreplace")
    elif isinstance(value, float | np.floating):
        if math.isnan(value):
            return None
        text = str(int(value)) if float(value).is_integer() and abs(float(value)) < 1 << 53 else str(value)
    elif value is None:
        return None
    else:
        text = str(value)
    return text.encode("utf-8", "backslashreplace")


def label_name(images: str, names: Sequence[str]) -> str | None:
    """The array that labels the one called `images`: `y_test` for `X_test`, `train_labels` for `train_images`, else one
    that is called `labels`, `label` or `y`. Case makes no difference.
    """
    words = re.split(r"([_.-])", images.lower())
    pairs = [
        "".join([*words[:at], label, *words[at + 1 :]])
        for at, word in enumerate(words)
        for label in _LABEL_WORDS.get(word, ())
    ]
    by_lower = {name.lower(): name for name in reversed(names) if name != images}
    return next((by_lower[name] for name in (*pairs, *_LABEL_NAMES) if name in by_lower), None)


def one_for_each(labels: Array, count: int, where: object) -> Array | None:
    """Labels (n,), or (n, ...) where they are several numbers each; (n, 1) and one-hot rows are made (n,). A single
    value, which is none of any row, is None.

    Raises:
        SourceError: there are more or fewer than `count`.
    """
    if labels.ndim == 0:
        return None
    if len(labels) != count:
        raise SourceError(f"{where} has {count:,} pictures and {len(labels):,} labels")
    if labels.size == count:
        return labels.reshape(-1)
    if labels.ndim == 2 and labels.dtype.kind in "biuf" and _is_one_hot(labels):
        return np.asarray(labels.argmax(axis=1))
    return labels


def _is_one_hot(labels: Array) -> bool:
    return bool((np.count_nonzero(labels, axis=1) == 1).all() and (labels.max(axis=1) == 1).all())


def labels_of(values: Array) -> Labels:
    """Labels of rows from an array as `one_for_each` gives it."""
    distinct, codes = np.unique(values, axis=0 if values.ndim > 1 else None, return_inverse=True)
    texts = [label_text(value.tolist() if values.ndim > 1 else value) for value in distinct]
    every = Labels.of(texts)
    return Labels(every.categories, every.codes[codes.reshape(-1)])
