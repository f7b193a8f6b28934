"""A training from its configuration to a finished run."""

import csv
import hashlib
import io
import platform
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

import vae_serve
from vae_serve import metrics
from vae_serve.errors import OutputError, UsageError
from vae_serve.train import architectures, recipes, runs
from vae_serve.train.data import Dataset
from vae_serve.train.loop import Loop
from vae_serve.train.model import VariationalAutoencoder, decode_with, encode_with

CALL_SECONDS = 0.5  # of training in one compiled call: how long Ctrl-C and the progress bar wait

Row = dict[str, float | int]


@dataclass(frozen=True)
class Config:
    """What decides the result of a training, apart from the machine. The defaults are the project's."""

    data: str = "mnist"  # a name or a path, see `vae_serve.train.data.load`
    arch: str = "conv"
    latent_dim: int = 2
    recipe: str = "best"  # see `vae_serve.train.recipes`
    epochs: int | None = None  # the recipe's own when None
    batch_size: int = 128
    validation_split: float = 0.2  # the last images of the training set, as in Keras
    beta: float = 1.0  # weight of the KL
    seed: int = 0


class Report(Protocol):
    """Told how many steps are done, and the figures so far."""

    def __call__(self, done: int, total: int | None = None, /, **figures: float | str) -> None: ...  # noqa: D102


@dataclass
class Progress:
    """Where a training stands."""

    step: int  # of all epochs together
    history: list[Row]  # one row for each finished epoch


class Interrupted(Exception):
    """Ctrl-C: the step was finished."""


def train(config: Config, data: Dataset, path: Path, command: str, report: Report, overwrite: bool = False) -> runs.Run:
    """Trains, and writes the run folder at `path`; a run that stands there is replaced only with `overwrite`.

    Raises:
        UsageError: an option that makes no sense for this data.
        OutputError: `path` exists or cannot be written.
        KeyboardInterrupt: Ctrl-C; the run is saved, its status `interrupted`.
    """
    recipe = recipes.find(config.recipe, config.epochs)
    train_count = _train_count(config, len(data.train_images))
    started = time.monotonic()
    keras.utils.set_random_seed(config.seed)
    encoder, decoder = architectures.build(config.arch, data.image_shape, config.latent_dim)
    record = {"name": path.name, **_record(config, recipe, data, train_count, command, encoder, decoder)}
    _create(path, record, overwrite)
    images = tf.constant(data.train_images)
    held_out = images[train_count:]
    progress = Progress(0, [])
    with _polite_interrupts() as interrupted:
        try:
            for phase in recipe.phases:
                model = VariationalAutoencoder(
                    encoder, decoder, beta=config.beta, draws=phase.draws, seed=config.seed + len(progress.history)
                )
                model.batch_statistics = phase.batch_statistics
                count = len(data.train_images) if phase.all_images else train_count
                steps = count // config.batch_size
                model.compile(keras.optimizers.Adam(_rate(phase, steps * phase.epochs)))
                model(np.zeros((1, *data.image_shape), np.float32))
                model.optimizer.build(model.trainable_variables)
                loop = Loop(model, config.batch_size)
                total = _total_steps(recipe, config, train_count, len(data.train_images))
                for _ in range(phase.epochs):
                    row = _epoch(loop, images, held_out, count, config.seed, progress, total, report, interrupted)
                    progress.history.append(row)
                    runs.write_whole(path / "history.csv", _csv(progress.history))
        except Interrupted:
            runs.write_record(path, {**record, "status": "interrupted"})
            raise KeyboardInterrupt from None
    encoder.save(path / "encoder.keras")
    decoder.save(path / "decoder.keras")
    elbo = metrics.elbo(encode_with(encoder), decode_with(decoder), data.test_images)
    figures = {
        **asdict(elbo),
        "unit": "nats per image",
        "target": "greyscale",
        "draws": 4,
        "images": len(data.test_images),
    }
    record = {
        **record,
        "status": "finished",
        "metrics": {"test": figures, "last_epoch": progress.history[-1]},
        "seconds": round(time.monotonic() - started, 1),
    }
    runs.write_record(path, record)
    return runs.Run(path, record)


def _epoch(
    loop: Loop,
    images: Any,
    held_out: Any,
    count: int,
    seed: int,
    progress: Progress,
    total: int,
    report: Report,
    interrupted: Callable[[], bool],
) -> Row:
    epoch = len(progress.history)
    order = tf.constant(data_order(seed, epoch, count))
    steps = count // loop.batch_size
    loop.model.reset_metrics()
    began = time.monotonic()
    last = progress.history[-1] if progress.history else {}
    done, ask = 0, 1
    while done < steps:
        called = time.monotonic()
        ran, means = loop.train(images, order, done, min(ask, steps - done))
        done += ran
        progress.step += ran
        spent = time.monotonic() - called
        ask = max(1, min(2 * ask, round(CALL_SECONDS * ran / spent)))
        shown = {name: last[f"val_{name}"] for name in ("loss",) if f"val_{name}" in last}
        report(progress.step, total, epoch=str(epoch + 1), **means, **{f"val_{n}": v for n, v in shown.items()})
        if interrupted():
            raise Interrupted
    row: Row = {"epoch": epoch + 1, "step": progress.step, **means}
    if len(held_out):
        row |= {f"val_{name}": value for name, value in loop.validate(held_out).items()}
    return {**row, "seconds": round(time.monotonic() - began, 3)}


def data_order(seed: int, epoch: int, count: int) -> npt.NDArray[np.int32]:
    """The rows 0..count in the order of an epoch: a function of (seed, epoch, count) alone."""
    stream = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    return stream.permutation(count).astype(np.int32)


def _rate(phase: recipes.Phase, steps: int) -> Any:
    if not phase.cosine:
        return phase.rate
    warmup = round(phase.warmup * steps)
    return keras.optimizers.schedules.CosineDecay(
        0.0 if warmup else phase.rate,
        max(steps - warmup, 1),
        warmup_target=phase.rate if warmup else None,
        warmup_steps=warmup,
    )


def _train_count(config: Config, images: int) -> int:
    if not 0 <= config.validation_split < 1:
        raise UsageError(
            f"--validation-split {config.validation_split}: give a share from 0 up to, but not including, 1"
        )
    count = int(images * (1 - config.validation_split))
    if config.batch_size < 1:
        raise UsageError(f"--batch-size {config.batch_size}: a batch has at least 1 image")
    if count < config.batch_size:
        raise UsageError(
            f"--batch-size {config.batch_size} is more than the {count} images to train on; ask for at most {count}"
        )
    return count


def _total_steps(recipe: recipes.Recipe, config: Config, train_count: int, images: int) -> int:
    return sum(
        phase.epochs * ((images if phase.all_images else train_count) // config.batch_size) for phase in recipe.phases
    )


def _create(path: Path, record: runs.Json, overwrite: bool) -> None:
    if path.exists() and overwrite:
        _remove(path)
    if path.exists():
        raise OutputError(f"{path} exists; give --overwrite, or another --out")
    try:
        (path / "checkpoints").mkdir(parents=True)
        (path / "plots").mkdir()
        runs.write_record(path, record)
    except OSError as error:
        shutil.rmtree(path, ignore_errors=True)
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error


def _remove(path: Path) -> None:
    if not (path / runs.RECORD).is_file():
        raise OutputError(f"{path} is not a run, so --overwrite does not touch it; give another --out")
    shutil.rmtree(path)


@contextmanager
def _polite_interrupts() -> Iterator[Callable[[], bool]]:
    # the first Ctrl-C lets the step end, the second one does not wait
    asked = False

    def ask(*_: object) -> None:
        nonlocal asked
        asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)


def _record(
    config: Config,
    recipe: recipes.Recipe,
    data: Dataset,
    train_count: int,
    command: str,
    encoder: keras.Model,
    decoder: keras.Model,
) -> runs.Json:
    trainable = sum(int(np.prod(w.shape)) for model in (encoder, decoder) for w in model.trainable_weights)
    height, width, channels = data.image_shape
    return {
        "schema_version": runs.SCHEMA_VERSION,
        "status": "running",
        "command": command,
        "config": {**asdict(config), "image_shape": list(data.image_shape)},
        "recipe": asdict(recipe),
        "data": {
            "name": data.name,
            "licence": data.licence,
            "train_count": train_count,
            "validation_count": len(data.train_images) - train_count,
            "test_count": len(data.test_images),
            "image_shape": list(data.image_shape),
            "sha256": data.sha256,
        },
        "pixels": {"height": height, "width": width, "channels": channels, "scale": "1/255"},
        "parameters": {"encoder": encoder.count_params(), "decoder": decoder.count_params(), "trainable": trainable},
        "code": {"version": vae_serve.__version__, "sha256": _code_fingerprint()},
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("numpy", "keras", "tensorflow")},
        },
        "metrics": {},
        "history": "history.csv",
    }


def _code_fingerprint() -> str:
    digest = hashlib.sha256()
    for file in sorted(Path(vae_serve.__file__).parent.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _csv(history: list[Row]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, history[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue().encode()
