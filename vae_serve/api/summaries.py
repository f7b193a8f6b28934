"""What the functions of the API return: frozen records, whose `to_json()` is what the command prints with `--json`."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

Json = dict[str, Any]


class Summary(msgspec.Struct, frozen=True):
    """A record of what was done."""

    def to_json(self) -> Json:
        """As JSON has it: paths as text, tuples as lists."""
        return {name: _plain(getattr(self, name)) for name in self.__struct_fields__}


def _plain(value: Any) -> Any:
    match value:
        case Path():
            return str(value)
        case tuple() | list():
            return [_plain(inner) for inner in value]
        case Mapping():
            return {name: _plain(inner) for name, inner in value.items()}
        case msgspec.Struct():
            return {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
    return value


class ThisRun(msgspec.Struct, frozen=True):
    """What one call of `embed` did itself; an earlier one may have done the rest."""

    images: int
    seconds: float
    images_per_second: float


class EmbedSummary(Summary, frozen=True):
    """What an `embed` job came to."""

    out: Path | str
    """The folder of the result, or the URL of its place in an object store."""
    model: Path | str
    """The bundle: a path, or a URL."""
    images: int
    """Rows of the result (with `shard`, of this share)."""
    failed: int
    """How many of them have no vectors; `error` in the row says why."""
    errors: Mapping[str, int]
    """The failures by kind."""
    notes: Mapping[str, int]
    """Pictures that something was done to: `turned`, `inverted`, `animated`."""
    skipped: Mapping[str, int]
    """Files of the source that are not pictures, by reason."""
    this_run: ThisRun
    seconds: Mapping[str, float]
    """Spent in each stage, summed over processes and threads."""
    limiting_stage: str | None
    """The stage that was busiest."""
    workers: int
    """Decoding processes, and threads that ran the encoder."""


class GenerateSummary(Summary, frozen=True):
    """What `generate` wrote."""

    model: Path | str
    """The bundle: a path, or a URL."""
    out: Path | str
    """The file or folder, or its URL."""
    pictures: int
    points: int
    """Latent points in these pictures."""
    missing: tuple[int, ...]
    """Rows of `latents` without a vector; their pictures are black."""


class Worst(msgspec.Struct, frozen=True):
    """The picture with the largest error."""

    path: str
    reconstruction: float
    """Nats."""


class ReconstructSummary(Summary, frozen=True):
    """What a `reconstruct` job came to. Means are over the pictures that could be read; None where there was none."""

    model: Path | str
    """The bundle: a path, or a URL."""
    out: Path
    """The folder of the result."""
    pictures: int
    failed: int
    """How many could not be read."""
    sheets: int
    mean_mse: float | None
    """Of pixels 0..1."""
    mean_reconstruction: float | None
    """Nats for each picture."""
    worst: Worst | None


class Run(Summary, frozen=True):
    """A training run: its folder, and what its run.json says."""

    path: Path
    record: Mapping[str, Any]
    """All of run.json: configuration, data, versions, status, metrics."""

    @property
    def status(self) -> str:
        """`finished`, or how far it is."""
        return str(self.record["status"])

    @property
    def metrics(self) -> Mapping[str, float | None]:
        """On the test set, nats per image: `negative_elbo`, `reconstruction`, `kl`, ...; None where infinite."""
        figures: dict[str, float | None] = dict(self.record["metrics"]["test"])
        return MappingProxyType(figures)

    def to_json(self) -> Json:
        """The folder as `run`, and the fields of run.json."""
        return {"run": str(self.path), **self.record}


class ExportSummary(Summary, frozen=True):
    """A bundle that has been written."""

    run: Path
    """Where it comes from."""
    bundle: Path
    """The bundle's folder."""
    formats: tuple[str, ...]
    largest_difference: float
    """Of any output from the trained Keras model's in float64."""
    files: tuple[str, ...]
    """Of the bundle, but for the manifest."""


class ExportCheck(Summary, frozen=True):
    """How a bundle compares with what its run gives."""

    run: Path
    bundle: Path
    same: bool
    differences: tuple[str, ...]
    """Names of what is not the same."""
