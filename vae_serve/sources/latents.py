"""Where latent points come from: drawn from the prior by seed, given as an array, read from a file."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from vae_serve.errors import SourceError
from vae_serve.model import samplers
from vae_serve.model.samplers import Floats

if TYPE_CHECKING:
    from vae_serve.sources.latent_files import LatentArray

# The readers of files are imported where a file is given: samples of the prior need none of them.

_BLOCK = 1 << 16  # rows looked at in one go


class Rows(Protocol):
    """Where the numbers of latent points come from."""

    def __call__(self, start: int, stop: int) -> Floats:
        """Some neighbouring points, (stop - start, d)."""
        ...

    def select(self, start: int, stop: int) -> "Rows":
        """Just those, under their own numbers, small enough to be pickled."""
        ...


class PriorRows(msgspec.Struct, frozen=True):
    """Samples of the prior by seed and number."""

    seed: int
    latent_dim: int

    def __call__(self, start: int, stop: int) -> Floats:
        """Samples `start` to `stop`."""
        return samplers.sample_prior(self.seed, start, stop, self.latent_dim)

    def select(self, start: int, stop: int) -> "PriorRows":
        """The same: two numbers."""
        return self


class ArrayRows(msgspec.Struct, frozen=True, eq=False):
    """The rows of an array, in memory or in a file."""

    points: "LatentArray"
    first: int = 0
    """The number of the first row."""

    def __call__(self, start: int, stop: int) -> Floats:
        """Rows `start` to `stop`, as float32."""
        return _as_float32(self.points[start - self.first : stop - self.first])

    def select(self, start: int, stop: int) -> "ArrayRows":
        """The numbers themselves, which are fewer than those of the pictures that they become."""
        return ArrayRows(self(start, stop), start)


class LatentSource(msgspec.Struct, frozen=True):
    """`count` points of a latent space, any range of them at any time."""

    count: int
    given: Rows
    about: dict[str, Any]
    """What they are, so that a job is continued with the same ones; JSON values."""
    missing: tuple[int, ...] = ()
    """Rows of a file that have no vector, and are NaN."""
    first: int = 0
    """The number of the first point among those given."""

    def rows(self, start: int, stop: int) -> Floats:
        """Points `start` to `stop`, (stop - start, d)."""
        return self.given(self.first + start, self.first + stop)

    def share(self, start: int, stop: int) -> "LatentSource":
        """The points `start` to `stop`, counted from 0: one machine's."""
        return LatentSource(
            stop - start,
            self.given,
            {**self.about, "part": [start, stop]},
            tuple(row - start for row in self.missing if start <= row < stop),
            self.first + start,
        )

    def select(self, start: int, stop: int) -> "LatentSource":
        """For another process, which needs no others than `start` to `stop`; they keep their numbers."""
        return msgspec.structs.replace(self, given=self.given.select(self.first + start, self.first + stop), missing=())


def from_prior(seed: int, count: int, latent_dim: int) -> LatentSource:
    """The first `count` samples of a seed."""
    return LatentSource(count, PriorRows(seed, latent_dim), {"seed": seed, "count": count})


def from_array(array: npt.NDArray[Any]) -> LatentSource:
    """The rows of an array (n, d) of finite numbers."""
    return _checked(array, "the array", nulls=False)


class LatentFile(msgspec.Struct, frozen=True):
    """The latent points of a file: .npy or .npz (n, d), .csv with a column for each dimension, .parquet, or the folder
    of an `embed` result.

    Of named columns and arrays z_mean is taken, else z. Rows of an `embed` result that failed are `missing`.
    """

    path: Path
    latent_dim: int

    def open(self) -> LatentSource:
        """Raises SourceError: no such file, another kind of file, another latent size, or a number that is not finite
        as float32.
        """
        from vae_serve.sources.latent_files import read_points

        path = self.path
        points, nulls = read_points(path)
        if points.ndim != 2 or points.dtype.kind not in "fiu":
            raise SourceError(f"{path} holds {points.dtype} of shape {points.shape}; latent points are numbers, (n, d)")
        if not len(points):
            raise SourceError(f"{path} holds no points")
        if points.shape[1] != self.latent_dim:
            raise SourceError(f"{path} has points of {points.shape[1]} dimensions; this model's have {self.latent_dim}")
        return _checked(points, path, nulls)


def _checked(points: "LatentArray", where: object, nulls: bool) -> LatentSource:
    """The source of these points; `nulls` where a row of NaN stands for one without a vector."""
    digest = hashlib.sha256()
    missing: list[int] = []
    for start in range(0, len(points), _BLOCK):
        given = points[start : start + _BLOCK]
        rows = _as_float32(given)
        empty = np.isnan(rows).all(axis=1) if nulls else np.zeros(len(rows), bool)
        missing += (np.flatnonzero(empty) + start).tolist()
        bad = np.flatnonzero(~(np.isfinite(rows).all(axis=1) | empty))
        if len(bad):
            values = ", ".join(f"{value:.9g}" for value in given[bad[0]].tolist()[:8])
            raise SourceError(
                f"{where}: point {start + bad[0]} is ({values}); every number must be finite, and as a float32 too"
            )
        digest.update(rows.tobytes())
    about = {"sha256": digest.hexdigest(), "count": len(points)}
    return LatentSource(len(points), ArrayRows(points), about, tuple(missing))


def _as_float32(values: npt.NDArray[Any]) -> Floats:
    with np.errstate(over="ignore", invalid="ignore"):  # what is beyond float32 becomes infinite, and is refused
        return np.asarray(values, np.float32)
