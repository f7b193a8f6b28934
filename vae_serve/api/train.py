"""`vae_serve.train`: images to a run."""

import importlib
import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vae_serve.api import arguments
from vae_serve.api.arguments import StrPath
from vae_serve.api.progress import Note, Progress, no_note, no_progress
from vae_serve.api.summaries import Run
from vae_serve.errors import MissingExtra, OutputError, RunError, UsageError

if TYPE_CHECKING:
    from vae_serve.training.data import Dataset

Arch = Literal["conv", "wide", "dcgan", "mlp"]
Schedule = Literal["best", "careful", "tutorial"]
Device = Literal["auto", "cpu", "gpu"]
Precision = Literal["float32", "bfloat16", "float16"]

_KINDS = {"latent_dim": int, "epochs": int, "batch_size": int, "seed": int, "validation_split": float, "beta": float,
          "clip_norm": float}  # fmt: skip


def train(
    data: StrPath | None = None,
    *,
    image_size: str | None = None,
    arch: Arch | None = None,
    latent_dim: int | None = None,
    schedule: Schedule | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    validation_split: float | None = None,
    beta: float | None = None,
    clip_norm: float | None = None,
    seed: int | None = None,
    device: Device | None = None,
    precision: Precision | None = None,
    tensorboard: bool = False,
    config: StrPath | None = None,
    out: StrPath | None = None,
    overwrite: bool = False,
    resume: bool = False,
    progress: Progress | None = None,
    note: Note | None = None,
    command: str | None = None,
) -> Run:
    """Trains a model: images to a run folder with encoder, decoder, history and plots. Needs the extra `train`.

    `data`: `mnist` (packaged), `fashion-mnist`, `cifar10`, or the path of an .npz, IDX or Parquet file or a folder of
    pictures. An option that is None is what the TOML file `config` says, else the default that `vae-serve train --help`
    names. `out`: the folder of the run, by default a free name in runs/. `resume`: continue the run at `out`, or with
    the newest unfinished one; a finished one is returned as it is. `progress` is told (steps done, steps in all, and
    figures such as loss=...), `note` a line worth reading. `command`: what run.json tells as the way to do it again; by
    default the command line of these options.

    It sets Keras' seed, and trains on the main or any other thread. Ctrl-C (on the main thread) ends it after the step.

    Raises:
        MissingExtra: TensorFlow and Keras are not installed.
        UsageError: an option makes no sense for this data or this machine.
        SourceError: the data cannot be read.
        OutputError: `out` exists or cannot be written.
        RunError: there is nothing to resume, or it was begun with other options or data.
        DivergedError: a number was not finite; the run is kept, its status `diverged`.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the run is kept and can be resumed.
    """
    for name, function in (("progress", progress), ("note", note)):
        arguments.callback(name, function)
    options = dict(locals())
    say = note or no_note
    target, file = arguments.path_or_none("out", out), arguments.path_or_none("config", config)
    for name in ("tensorboard", "overwrite", "resume"):
        arguments.flag(name, options[name])
    _refuse_existing(target, overwrite or resume)
    from vae_serve.training import config as configs
    from vae_serve.training import data as data_sets
    from vae_serve.training import runs

    given = {name: _checked(name, options[name]) for name in configs.NAMES if options[name] is not None}
    if resume:
        run = runs.load(target) if target else runs.newest_unfinished()
        path, chosen = run.path, configs.same(run.record["config"], file, given, run.path)
        if run.finished:
            return Run(run.path, run.record)
        if run.record["status"] == "diverged":
            raise RunError(f"{path} diverged, and would again; train anew with --clip-norm 1")
    else:
        chosen = configs.combine(file, given)
    from vae_serve.training import backend

    if tensorboard:
        _require_tensorboard()
    backend.start("vae-serve train")
    from vae_serve.training import fit

    if resume:
        dataset = data_sets.load_again(run.record, str(run.path), say)
    else:
        dataset = data_sets.load(chosen.data, chosen.image_size, note=say)
        path = target or _free_path(dataset, chosen.arch)
    hooks = fit.Hooks(progress or no_progress, say, tensorboard)
    try:
        if resume:
            run = fit.resume(run, chosen, dataset, hooks)
        else:
            told = command or _command(given, tensorboard, file, target, overwrite)
            run = fit.train(chosen, dataset, path, told, hooks, overwrite)
    except KeyboardInterrupt:
        say(f"saved after the step; resume with: vae-serve train --resume --out {path}")
        raise
    return Run(run.path, run.record)


def _refuse_existing(out: Path | None, allowed: bool) -> None:
    if out is not None and out.exists() and not allowed:
        raise OutputError(f"{out} exists; give --overwrite, or another --out")


def _require_tensorboard() -> None:
    try:
        importlib.import_module("tensorboard")
    except ImportError:
        raise MissingExtra("tensorboard", "vae-serve train --tensorboard") from None


def _free_path(dataset: "Dataset", arch: str) -> Path:
    from vae_serve.training import runs

    # a bundle takes its name from the run's, and has letters, digits, ., _ and - alone
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", dataset.name).strip(".-") or "data"
    return runs.free_path(f"{name}-{arch}")


def _checked(name: str, value: Any) -> Any:
    if name == "data":
        if isinstance(value, str | os.PathLike):
            word = arguments.word_or_path(value)
            return word
        raise UsageError(
            f"--data {value!r:.100}: give a name such as mnist, or a path; numpy.savez makes an .npz file of arrays"
        )
    kind = _KINDS.get(name, str)
    if kind is int:
        return arguments.whole(name, value, -(1 << 62))
    return arguments.number(name, value) if kind is float else arguments.text(name, value)


def _command(given: dict[str, Any], tensorboard: bool, config: Path | None, out: Path | None, overwrite: bool) -> str:
    """The command line that does the same."""
    named = {**given, "config": config, "out": out}
    words = ["vae-serve", "train"]
    for name, value in named.items():
        if value is not None:
            words += [arguments.option(name), str(value)]
    flags = {"--tensorboard": tensorboard, "--overwrite": overwrite}
    return shlex.join([*words, *(flag for flag, is_set in flags.items() if is_set)])
