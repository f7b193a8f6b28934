"""A run.json as typed records, checked when it is read. Needs no Keras."""

import hashlib
import json
import math
import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

import vae_serve
from vae_serve.cores import cores
from vae_serve.errors import UsageError
from vae_serve.training.config import Config, recorded_config

if TYPE_CHECKING:
    from vae_serve.training.data import Dataset
    from vae_serve.training.schedule import Schedule

SCHEMA_VERSION = 1

Json = dict[str, Any]
Size = Annotated[int, msgspec.Meta(ge=1)]
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class _Phase(msgspec.Struct):
    epochs: Size


class _Schedule(msgspec.Struct):
    name: str
    phases: list[_Phase]


class _Data(msgspec.Struct):
    name: str
    licence: str
    sha256: Sha256  # of all images, see `vae_serve.training.data.Dataset`


class _Gate(msgspec.Struct):
    images: Size
    sha256: Sha256  # of gate_inputs.npz


class _Shapes(msgspec.Struct):
    image_shape: tuple[Size, Size, Size]  # height, width, channels


class _Pixels(msgspec.Struct):
    """Of `vae_serve.images.pixels.PixelRule`, those fields that training decides."""

    height: Size
    width: Size
    channels: Size
    decode: Literal["whole", "scaled"] = "whole"


class _Figures(msgspec.Struct):
    negative_elbo: float | None = None  # null where it is not finite
    reconstruction: float | None = None
    kl: float | None = None


class _Metrics(msgspec.Struct):
    test: _Figures | None = None  # there once the run is finished


class _Record(msgspec.Struct):
    """The fields that are read again; there are more, for people."""

    name: str
    status: Literal["running", "interrupted", "diverged", "finished"]
    command: str
    config: _Shapes
    schedule: _Schedule
    data: _Data
    pixels: _Pixels
    parameters: dict[str, int]
    versions: dict[str, str]
    metrics: _Metrics
    gate: _Gate | None = None  # not in runs of before 0.2


def new(
    name: str,
    config: Config,
    schedule: "Schedule",
    data: "Dataset",
    command: str,
    parameters: Mapping[str, int],
    train_count: int,
) -> Json:
    """The record of a run that begins; `train_count` images are trained on."""
    height, width, channels = data.image_shape
    return {
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "status": "running",
        "command": command,
        "config": {**asdict(config), "image_shape": [height, width, channels]},
        "schedule": asdict(schedule),
        "data": {
            "name": data.name,
            "licence": data.licence,
            "train_count": train_count,
            "validation_count": len(data.train_images) - train_count,
            "test_count": len(data.test_images),
            "image_shape": [height, width, channels],
            "sha256": data.sha256,
        },
        "pixels": data.rule.to_json(),
        "parameters": dict(parameters),
        "code": {"version": vae_serve.__version__, "sha256": _code_fingerprint()},
        "versions": versions(),
        "cores": cores(),
        "metrics": {},
        "history": "history.csv",
    }


def checked(contents: bytes) -> Json:
    """A run.json's contents as a dict whose fields have the types above.

    Raises:
        ValueError: they do not, or it is not JSON; says which field is wrong.
    """
    try:
        record = json.loads(contents, parse_constant=lambda _: None)  # NaN and Infinity, which older versions wrote
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not valid JSON: {error}") from error
    if not isinstance(record, dict) or "schema_version" not in record:
        raise ValueError("it has no schema_version")
    if type(record["schema_version"]) is not int or record["schema_version"] != SCHEMA_VERSION:
        raise ValueError(
            f"it has schema version {record['schema_version']!r:.40}; this vae-serve reads {SCHEMA_VERSION}"
        )
    for holder in (record, record.get("config")):  # `schedule` was called so in runs of before 0.2
        if isinstance(holder, dict) and "recipe" in holder:
            holder["schedule"] = holder.pop("recipe")
    try:
        read = msgspec.convert(record, _Record)
        msgspec.convert(record["config"], Config)
        recorded_config(record["config"])  # every option is there
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
    except (UsageError, KeyError) as error:
        raise ValueError(f"its config is not valid: {error}") from None
    if read.status == "finished" and read.metrics.test is None:
        raise ValueError("it is finished and has no test figures")
    return record


def finite(value: Any) -> Any:
    """The same JSON with null in the place of numbers that are not finite."""
    match value:
        case dict():
            return {name: finite(inner) for name, inner in value.items()}
        case list() | tuple():
            return [finite(inner) for inner in value]
        case float() if not math.isfinite(value):
            return None
    return value


def versions() -> dict[str, str]:
    """Of Python and of the packages that decide a training's last bits."""
    packages = {name: version(name) for name in ("numpy", "keras", "tensorflow")}
    return {"python": platform.python_version(), **packages}


def _code_fingerprint() -> str:
    digest = hashlib.sha256()
    for file in sorted(Path(vae_serve.__file__).parent.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()
