"""A training from its configuration to a finished run."""

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from vae_serve.cores import cores
from vae_serve.errors import DivergedError, RunError, UsageError
from vae_serve.training import (
    architectures,
    checkpoints,
    devices,
    gate_inputs,
    kernels,
    nonfinite,
    runs,
    schedule,
    state,
)
from vae_serve.training import record as records
from vae_serve.training.checkpoints import Position
from vae_serve.training.config import Config
from vae_serve.training.data import Dataset, require_same
from vae_serve.training.finish import finish
from vae_serve.training.history import Row, as_csv, to_tensorboard
from vae_serve.training.interrupts import polite_interrupts
from vae_serve.training.loop import Loop, to_model
from vae_serve.training.model import VariationalAutoencoder
from vae_serve.training.record import Json

CALL_SECONDS = 0.5  # of training in one call: how long Ctrl-C and the progress bar wait
ON_DEVICE = 2 << 30  # bytes of images that are kept on the device whole; more are sent along with each call
STREAM_BYTES = 256 << 20  # of images in one such call
CHECKPOINT_SECONDS = 300.0  # between two checkpoints where an epoch takes longer; there is one after each epoch too


class Progress(Protocol):
    """Told how many steps are done, and the figures so far."""

    def __call__(self, done: int, total: int | None = None, /, **figures: float | str) -> None: ...  # noqa: D102


@dataclass(frozen=True)
class Hooks:
    """How a training talks to the one who started it."""

    report: Progress
    note: Callable[[str], None]  # one line worth reading
    tensorboard: bool = False  # write each epoch's figures for TensorBoard too


def train(config: Config, data: Dataset, path: Path, command: str, hooks: Hooks, overwrite: bool = False) -> runs.Run:
    """Trains, and writes the run folder at `path`; a run that stands there is replaced only with `overwrite`.

    Raises:
        UsageError: an option that makes no sense for this data or this machine.
        OutputError: `path` exists or cannot be written.
        DivergedError: a number was not finite; the run is kept, its status `diverged`.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the run is kept, its status `interrupted`.
    """
    training = _Training(config, data, path, hooks)
    contents, gate = gate_inputs.packed(gate_inputs.chosen(data.test_images))
    record = records.new(path.name, config, training.schedule, data, command, training.counts(), training.train_count)
    record["gate"] = gate
    runs.create(path, {gate_inputs.FILE: contents, "config.toml": config.to_toml().encode()}, record, overwrite)
    return training.run(record)


def resume(run: runs.Run, config: Config, data: Dataset, hooks: Hooks) -> runs.Run:
    """Goes on with a run from its last good checkpoint; on a CPU it ends with the bits it would have had anyway.

    Raises:
        RunError: the data are not the run's, or there is nothing to go on from.
        Else as `train`.
    """
    require_same(data, run.record["data"]["sha256"], str(run.path), config.data)
    training = _Training(config, data, run.path, hooks)
    then, now = (
        {**run.record["versions"], "cores": run.record.get("cores", "unknown")},
        {**records.versions(), "cores": cores()},
    )
    if changed := [f"{name} {then.get(name)}, now {now[name]}" for name in now if then.get(name) != now[name]]:
        hooks.note(f"{run.path} was started with {', '.join(changed)}: the last bits may differ")
    return training.run({**run.record, "status": "running"})


class _Training:
    """A run under way: networks, data on the device, and where it stands."""

    def __init__(self, config: Config, data: Dataset, path: Path, hooks: Hooks) -> None:
        self.config, self.data, self.path, self.hooks = config, data, path, hooks
        self.schedule = schedule.find(config.schedule, config.arch, config.epochs)
        self.train_count = _train_count(config, len(data.train_images))
        # An operation of a small model is too short to be shared by cores, but the two halves of a batch are not.
        apart = config.precision == "float32" and not self.schedule.phases[-1].batch_statistics
        self.strategy = devices.choose(config.device, config.precision, apart)
        self.on_cpu = not tf.config.get_visible_devices("GPU")
        if config.batch_size % self.strategy.num_replicas_in_sync:
            replicas = self.strategy.num_replicas_in_sync
            raise UsageError(f"--batch-size {config.batch_size} does not divide among {replicas} devices")
        keras.utils.set_random_seed(config.seed)
        with self.strategy.scope():
            networks = architectures.build(config.arch, data.image_shape, config.latent_dim)
            plain = self.on_cpu and config.precision == "float32" and self.strategy.num_replicas_in_sync == 1
            self.fused = plain
            self.parts = cores() if plain and apart else 1
            self.encoder, self.decoder = map(kernels.fused, networks) if plain else networks
        self.on_device = tf.constant(data.train_images) if data.train_images.nbytes <= ON_DEVICE else None
        self.position = Position(history=[])
        self.checkpoint_at = time.monotonic()

    @property
    def history(self) -> list[Row]:
        return self.position.history or []

    def counts(self) -> dict[str, int]:
        """Parameters of each network, and how many of them are trained."""
        networks = {"encoder": self.encoder, "decoder": self.decoder}
        trainable = sum(int(np.prod(w.shape)) for network in networks.values() for w in network.trainable_weights)
        return {name: network.count_params() for name, network in networks.items()} | {"trainable": trainable}

    def count(self, phase: schedule.Phase) -> int:
        """Images that a phase trains on: the first so many."""
        return len(self.data.train_images) if phase.all_images else self.train_count

    def steps(self, phase: schedule.Phase) -> int:
        """Of one epoch; the images left over are others in each epoch."""
        return self.count(phase) // self.config.batch_size

    def run(self, record: Json) -> runs.Run:
        started = time.monotonic()
        runs.write_record(self.path, record)
        try:
            with polite_interrupts() as interrupted:
                self._phases(interrupted)
        except KeyboardInterrupt:
            runs.write_record(self.path, {**record, "status": "interrupted"})
            raise
        except DivergedError:
            runs.write_record(self.path, {**record, "status": "diverged"})
            raise
        except tf.errors.ResourceExhaustedError as error:
            smaller = max(self.config.batch_size // 2, 1)
            raise RunError(
                f"out of memory with --batch-size {self.config.batch_size}; try {smaller}, and halve it until it fits"
            ) from error
        seconds = round(time.monotonic() - started, 1)
        networks = self.encoder, self.decoder
        return finish(self.path, self.config, self.data, networks, self.history, record, seconds)

    def _phases(self, interrupted: Callable[[], bool]) -> None:
        restored = checkpoints.newest(self.path / "checkpoints")
        if restored:
            file, self.position, arrays, damaged = restored
            for sentence in damaged:
                self.hooks.note(f"{sentence}; going on from {file}")
        first = 0
        for number, phase in enumerate(self.schedule.phases):
            last = first + phase.epochs
            if self.position.epoch < last:
                loop = self._loop(number, phase)
                if restored:
                    self._restore(loop, first, self.position, arrays)
                    restored = None
                elif not self.position.total:
                    self._save(loop)
                while self.position.epoch < last:
                    self._epoch(loop, phase, interrupted)
            first = last
        if restored:  # killed after the last epoch, before the end
            state.set_networks(VariationalAutoencoder(self.encoder, self.decoder), arrays)

    def _loop(self, number: int, phase: schedule.Phase) -> Loop:
        config = self.config
        with self.strategy.scope():
            model = VariationalAutoencoder(
                self.encoder,
                self.decoder,
                beta=config.beta,
                draws=phase.draws,
                seed=int(np.random.SeedSequence([config.seed, number]).generate_state(1)[0]),
                replicas=self.strategy.num_replicas_in_sync,
                parts=self.parts,
            )
            model.batch_statistics = phase.batch_statistics
            adam = kernels.FusedAdam if self.fused else keras.optimizers.Adam
            rate = schedule.rate(phase, self.steps(phase) * phase.epochs)
            model.compile(adam(rate, beta_2=phase.beta_2, global_clipnorm=config.clip_norm or phase.clip_norm))
            model(np.zeros((1, *self.data.image_shape), np.float32))
            model.optimizer.build(model.trainable_variables)
        return Loop(model, config.batch_size, self.strategy, xla=not self.on_cpu)

    def _epoch(self, loop: Loop, phase: schedule.Phase, interrupted: Callable[[], bool]) -> None:
        at, steps = self.position, self.steps(phase)
        order = data_order(self.config.seed, at.epoch, self.count(phase))
        total = sum(self.steps(each) * each.epochs for each in self.schedule.phases)
        began, ask = time.monotonic(), 1
        if at.step == 0:
            loop.model.reset_metrics()
        while at.step < steps:
            called = time.monotonic()
            ran, means = self._steps(loop, order, at.step, min(ask, steps - at.step))
            at.step += ran
            at.total += ran
            if not math.isfinite(means["loss"]):
                raise self._diverged(order)
            now = time.monotonic()
            ask = max(1, min(2 * ask, round(CALL_SECONDS * ran / (now - called)), self.longest_call))
            validation = {"val": float(self.history[-1]["val_loss"])} if self._validates and self.history else {}
            figures = {"loss": means["loss"], **validation, **means}  # what matters most comes first
            self.hooks.report(at.total, total, epoch=f"{at.epoch + 1}/{self.schedule.epochs}", **figures)
            if interrupted():
                self._save(loop)
                raise KeyboardInterrupt
            if now - self.checkpoint_at > CHECKPOINT_SECONDS:
                self._save(loop)
        row: Row = {
            "epoch": at.epoch + 1,
            "step": at.total,
            "learning_rate": float(loop.model.optimizer.learning_rate),
        }
        row |= means
        if self._validates:
            row |= {f"val_{name}": value for name, value in self._validation(loop).items()}
        row["seconds"] = round(time.monotonic() - began, 3)
        self.position = Position(at.epoch + 1, 0, at.total, [*self.history, row])
        runs.write_whole(self.path / "history.csv", as_csv(self.history))
        if self.hooks.tensorboard:
            to_tensorboard(self.path / "tensorboard", row)
        self._save(loop)

    @property
    def longest_call(self) -> int:
        """Steps."""
        step_bytes = self.data.train_images[0].nbytes * self.config.batch_size
        return sys.maxsize if self.on_device is not None else max(1, STREAM_BYTES // step_bytes)

    def _steps(self, loop: Loop, order: npt.NDArray[np.int32], first: int, count: int) -> tuple[int, dict[str, float]]:
        if self.on_device is not None:
            return loop.train(self.on_device, tf.constant(order), first, count)
        rows = order[first * self.config.batch_size : (first + count) * self.config.batch_size]
        return loop.train(tf.constant(self.data.train_images[rows]), tf.range(len(rows)), 0, count)

    def _validation(self, loop: Loop) -> dict[str, float]:
        if self.on_device is not None:
            return loop.validate([self.on_device[self.train_count :]])
        held_out = self.data.train_images[self.train_count :]
        part = STREAM_BYTES // held_out[0].nbytes
        return loop.validate(tf.constant(held_out[start : start + part]) for start in range(0, len(held_out), part))

    @property
    def _validates(self) -> bool:
        return self.train_count < len(self.data.train_images)

    def _restore(self, loop: Loop, first: int, position: Position, arrays: checkpoints.Arrays) -> None:
        """Sets all that the next step depends on; `first` is the first epoch of the loop's phase."""
        if position.epoch > first or position.step:
            state.set_all(loop.model, arrays)
        else:  # the checkpoint holds the optimizer of the phase before, this one's is fresh
            state.set_networks(loop.model, arrays)

    def _save(self, loop: Loop) -> None:
        checkpoints.save(self.path / "checkpoints", self.position, state.get(loop.model))
        self.checkpoint_at = time.monotonic()

    def _diverged(self, order: npt.NDArray[np.int32]) -> DivergedError:
        """Goes back to the last good checkpoint, and from there to the step before the bad one, to name the tensor."""
        bad = self.position.step  # counted from 1, within the epoch
        where = f"step {self.position.total} (epoch {self.position.epoch + 1})"
        restored = checkpoints.newest(self.path / "checkpoints")
        if not restored:
            return DivergedError(f"training met a number that is not finite at {where}, and no checkpoint is whole")
        file, position, arrays, _ = restored
        first, number, phase = self._phase(position.epoch)
        loop = self._loop(number, phase)
        self._restore(loop, first, position, arrays)
        if bad - 1 > position.step:
            self._steps(loop, order, position.step, bad - 1 - position.step)
        rows = order[(bad - 1) * self.config.batch_size : bad * self.config.batch_size]
        tensor = nonfinite.first_not_finite(loop.model, to_model(self.data.train_images[rows]))
        return DivergedError(
            f"training met a number that is not finite at {where}: {tensor}. The last good checkpoint is {file}. "
            "Train again with --clip-norm 1, or with another --schedule, --beta or --seed"
        )

    def _phase(self, epoch: int) -> tuple[int, int, schedule.Phase]:
        """The phase of an epoch: its first epoch, its number, itself."""
        first = 0
        for number, phase in enumerate(self.schedule.phases):
            if epoch < first + phase.epochs:
                return first, number, phase
            first += phase.epochs
        raise RunError(f"{self.path} has no epoch {epoch}")


def data_order(seed: int, epoch: int, count: int) -> npt.NDArray[np.int32]:
    """The rows 0..count in the order of an epoch: a function of (seed, epoch, count) alone."""
    stream = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    return stream.permutation(count).astype(np.int32)


def _train_count(config: Config, images: int) -> int:
    count = int(images * (1 - config.validation_split))
    if count < config.batch_size:
        raise UsageError(
            f"--batch-size {config.batch_size} is more than the {count} images to train on; ask for at most {count}"
        )
    return count
