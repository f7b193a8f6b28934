"""Two sets of outputs become a report: the largest difference, where it is, and the distribution of all. Pure."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vae_serve.errors import ParityError

# THE TOLERANCE, stated here alone: |actual - expected| / max(1, |expected|) may not exceed it. That is absolute for
# pixels, which lie in 0..1, and relative for an encoder's outputs where they are large: a float32 carries 24 bits, so
# a z_mean of 30 cannot be had to 1e-5 absolute from any other order of summation. Expected is the trained model in
# float64. Where the trained model's own float32 is further from that than half the tolerance, a copy may be `SLACK`
# times as far away as it: no order of summation is bound to be the luckier one.
TOLERANCE = 1e-5
SLACK = 2.0

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Report:
    """How far `actual` is from `expected` over all elements of one tensor; see `TOLERANCE` for the measure."""

    tensor: str
    rows: int
    largest: float
    mean: float
    p999: float  # 99.9th percentile
    index: tuple[int, ...]  # of the worst element
    expected: float  # there
    actual: float  # there
    tolerance: float = TOLERANCE  # that was allowed, see `allowed`
    trained_float32: float | None = None  # how far the trained model's own float32 is from `expected`, where measured

    @property
    def equal(self) -> bool:
        """True when no element exceeds the tolerance."""
        return self.largest <= self.tolerance

    def to_json(self) -> dict[str, Any]:
        """The figures as a plain dict, each rounded to 3 significant digits, the two values kept whole."""
        named = {name: getattr(self, name) for name in ("largest", "mean", "p999", "tolerance", "trained_float32")}
        figures = {name: None if value is None else float(f"{value:.3g}") for name, value in named.items()}
        return {**asdict(self), "index": list(self.index), **figures}


def allowed(trained_float32: float) -> float:
    """The tolerance of a tensor of which the trained model's own float32 is so far from its float64."""
    return max(TOLERANCE, SLACK * trained_float32)


def difference(expected: Array, actual: Array) -> npt.NDArray[np.float64]:
    """|actual - expected| / max(1, |expected|), element by element; infinite where either is not finite.

    Raises:
        ParityError: the shapes differ.
    """
    if expected.shape != actual.shape:
        raise ParityError(f"shape {actual.shape} where {expected.shape} was expected")
    wide = expected.astype(np.float64)
    with np.errstate(invalid="ignore"):  # inf - inf
        apart = np.abs(actual.astype(np.float64) - wide) / np.maximum(1.0, np.abs(wide))
    apart[~np.isfinite(apart)] = np.inf
    return apart


def nearest_in_bytes(expected: Array, rounded: Array) -> Array:
    """For floats 0..1 and the bytes that a graph made of them: the float next to `expected` that rounds to each byte.

    Compared with `expected`, it measures a rounded picture by the same tolerance: bytes are right where the float's own
    byte is there, and off by one only where the float lies that close to a half.

    Raises:
        ParityError: the shapes differ.
    """
    if expected.shape != rounded.shape:
        raise ParityError(f"shape {rounded.shape} where {expected.shape} was expected")
    middle = rounded.astype(np.float64)
    return np.clip(expected.astype(np.float64), (middle - 0.5) / 255, (middle + 0.5) / 255)


def compare(tensor: str, expected: Array, actual: Array, trained_float32: float | None = None) -> Report:
    """Compares two arrays (n, ...) of one tensor, n > 0; within `allowed` where `trained_float32` is known.

    Raises:
        ParityError: the shapes differ, or there is nothing to compare.
    """
    if expected.size == 0:
        raise ParityError(f"{tensor}: nothing to compare")
    try:
        apart = difference(expected, actual)
    except ParityError as error:
        raise ParityError(f"{tensor}: {error}") from None
    worst = tuple(int(axis) for axis in np.unravel_index(int(np.argmax(apart)), apart.shape))
    return Report(
        tensor=tensor,
        rows=len(expected),
        largest=float(apart[worst]),
        mean=float(apart.mean()),
        p999=float(np.percentile(apart, 99.9, method="higher")),
        index=worst,
        expected=float(expected[worst]),
        actual=float(actual[worst]),
        tolerance=TOLERANCE if trained_float32 is None else allowed(trained_float32),
        trained_float32=trained_float32,
    )


def require(report: Report, where: str) -> Report:
    """Returns the report when it is within the tolerance.

    Raises:
        ParityError: names the tensor, the index and both values. `where` says what was compared.
    """
    if not report.equal:
        index = ", ".join(map(str, report.index))
        raise ParityError(
            f"{where}: {report.tensor}[{index}] is {report.actual:.9g} where the trained model gives "
            f"{report.expected:.9g}; a difference of {report.largest:.3g} exceeds {report.tolerance:.3g}"
        )
    return report
