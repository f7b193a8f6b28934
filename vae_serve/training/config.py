"""The configuration of a training: one frozen record, from options, from a TOML file, or from a run. Needs no Keras."""

import json
import math
import re
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

from vae_serve.errors import UsageError


@dataclass(frozen=True)
class Config:
    """What decides the result of a training, apart from the machine. The defaults are the project's."""

    data: str = "mnist"  # a name or a path, see `vae_serve.training.data.load`
    image_size: str | None = None  # HxW or HxWxC: what images of any size are resized to
    arch: str = "conv"  # see `vae_serve.training.architectures`
    latent_dim: int = 2
    schedule: str = "best"  # see `vae_serve.training.schedule`
    epochs: int | None = None  # the schedule's own when None
    batch_size: int = 128
    validation_split: float = 0.2  # the last images of the training set, as in Keras
    beta: float = 1.0  # weight of the KL
    clip_norm: float | None = None  # of all gradients together
    seed: int = 0
    device: str = "auto"  # auto, cpu, gpu
    precision: str = "float32"  # float32, bfloat16, float16

    def __post_init__(self) -> None:
        self._check(0 <= self.validation_split < 1, "validation_split", "give a share from 0 up to, but without, 1")
        self._check(self.latent_dim >= 1, "latent_dim", "a latent space has at least 1 dimension")
        self._check(self.batch_size >= 1, "batch_size", "a batch has at least 1 image")
        self._check(self.epochs is None or self.epochs >= 1, "epochs", "training takes at least 1 epoch")
        self._check(0 <= self.beta < math.inf, "beta", "give 0 or more")
        self._check(self.clip_norm is None or self.clip_norm > 0, "clip_norm", "give more than 0")
        self._check(0 <= self.seed < 2**32, "seed", "give 0 up to 4294967295")
        for name, known in (("device", ("auto", "cpu", "gpu")), ("precision", ("float32", "bfloat16", "float16"))):
            self._check(getattr(self, name) in known, name, f"choose from {', '.join(known)}")
        if self.image_size is not None:
            parse_image_size(self.image_size)

    def _check(self, fine: bool, name: str, what: str) -> None:
        if not fine:
            raise UsageError(f"{option(name)} {getattr(self, name)}: {what}")

    def to_toml(self) -> str:
        """As a TOML file that `from_toml` reads; what is None is left out, and a path that TOML cannot hold."""
        lines = []
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, str) and not _is_unicode(value):
                text = value.encode("utf-8", "backslashreplace").decode()
                lines.append(f"# {field.name}: {text!r} is not UTF-8; give it with {option(field.name)}\n")
            elif value is not None:
                lines.append(f"{field.name} = {json.dumps(value)}\n")  # JSON's strings and numbers are TOML's too
        return "".join(lines)


def _is_unicode(text: str) -> bool:
    """Whether it has a UTF-8 form: a path of other bytes holds surrogates in their place."""
    return not re.search("[\ud800-\udfff]", text)


def parse_image_size(text: str) -> tuple[int, int, int | None]:
    """Height, width and, if given, channels of `HxW` or `HxWxC`.

    Raises:
        UsageError: it is neither, or too large for a picture.
    """
    from vae_serve.images.pixels import PIXEL_LIMIT  # which loads NumPy

    sizes = re.fullmatch(r"([0-9]{1,9})x([0-9]{1,9})(?:x([0-9]{1,9}))?", text.lower())
    height, width, channels = (None if size is None else int(size) for size in sizes.groups()) if sizes else (0, 0, 0)
    if not height or not width or channels == 0:
        raise UsageError(f"--image-size {text}: write HxW or HxWxC, such as 28x28 or 64x64x3")
    if channels not in (None, 1, 3):
        raise UsageError(f"--image-size {text}: an image has 1 channel (grey) or 3 (RGB)")
    if height * width > PIXEL_LIMIT:
        raise UsageError(f"--image-size {text}: {height * width:,} pixels; an image has at most {PIXEL_LIMIT:,}")
    return height, width, channels


NAMES = tuple(field.name for field in fields(Config))


def option(name: str) -> str:
    """A field's name as it is typed: latent_dim, --latent-dim."""
    return "--" + name.replace("_", "-")


def from_toml(file: Path) -> dict[str, Any]:
    """The fields that a TOML file sets; keys are those of `Config`, with - or _.

    Raises:
        UsageError: it cannot be read, or has a key or a type that no option has.
    """
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"--config {file} cannot be read: {reason}") from error
    kinds = {field.name: field.type for field in fields(Config)}
    chosen: dict[str, Any] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in kinds:
            raise UsageError(f"--config {file}: there is no option {key!r}; the options are {', '.join(kinds)}")
        kind = (get_args(kinds[name]) or (kinds[name],))[0]  # int of `int | None`
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise UsageError(f"--config {file}: {key} = {value!r} must be of type {kind.__name__}")
        chosen[name] = kind(value)
    return chosen


def combine(file: Path | None, given: dict[str, Any]) -> Config:
    """The configuration: what was given, before what the file says, before the defaults."""
    return Config(**((from_toml(file) if file else {}) | given))


def recorded_config(recorded: dict[str, Any]) -> Config:
    """The configuration that stands in a run.json, which `runs.load` has checked."""
    return Config(**{name: recorded[name] for name in NAMES})


def same(recorded: dict[str, Any], file: Path | None, given: dict[str, Any], where: Path) -> Config:
    """The configuration of a run that is resumed; a file or options must not differ from it.

    Raises:
        UsageError: it does; names each difference.
    """
    config = recorded_config(recorded)
    differences = [
        f"{option(name)} {getattr(config, name)}, not {value}"
        for name, value in ((from_toml(file) if file else {}) | given).items()
        if getattr(config, name) != value
    ]
    if differences:
        raise UsageError(f"{where} was started with {' and '.join(differences)}; resume it as it was, or train anew")
    return config
