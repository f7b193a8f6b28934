"""vae-serve train."""

import importlib
import re
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from vae_serve.cli import console
from vae_serve.errors import MissingExtra, OutputError, RunError

LARGE = 1e6  # nats; beyond, decimals tell nothing


def train(
    data: Annotated[
        str | None,
        typer.Option(
            help="mnist (packaged), fashion-mnist, cifar10, .npz, IDX, .parquet, a folder.", show_default="mnist"
        ),
    ] = None,
    image_size: Annotated[
        str | None, typer.Option(help="HxW or HxWxC: resize images to it.", show_default="their own")
    ] = None,
    arch: Annotated[str | None, typer.Option(help="conv, wide, dcgan or mlp.", show_default="conv")] = None,
    latent_dim: Annotated[int | None, typer.Option(help="Dimensions of the latent space.", show_default="2")] = None,
    schedule: Annotated[
        str | None,
        typer.Option(help="best, careful (a smaller learning rate) or tutorial.", show_default="best"),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs in all.", show_default="the schedule's")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per step.", show_default="128")] = None,
    validation_split: Annotated[
        float | None, typer.Option(help="Share of the training images held out.", show_default="0.2")
    ] = None,
    beta: Annotated[float | None, typer.Option(help="Weight of the KL in the loss.", show_default="1")] = None,
    clip_norm: Annotated[
        float | None, typer.Option(help="Limit of the norm of all gradients together.", show_default="none")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of the weights, the order of images and the samples of z.", show_default="0")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or gpu.", show_default="auto")] = None,
    precision: Annotated[str | None, typer.Option(help="float32, bfloat16 or float16.", show_default="float32")] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also write the figures to OUT/tensorboard.")
    ] = False,
    config: Annotated[
        Path | None,
        typer.Option(help="A TOML file with any of the options above; a run's config.toml repeats that run."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run.", show_default="a free name in runs/")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing run.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume the run at --out, or the newest unfinished one.")
    ] = False,
    quiet: console.Quiet = False,
    as_json: console.AsJson = False,
) -> None:
    """Train a model: images to a run folder with encoder, decoder, history and plots."""
    options = dict(locals())
    if out is not None and out.exists() and not overwrite and not resume:
        raise OutputError(f"{out} exists; give --overwrite, or another --out")
    from vae_serve.training import config as configs
    from vae_serve.training import data as data_sets
    from vae_serve.training import runs

    given = {name: options[name] for name in configs.NAMES if options[name] is not None}
    if resume:
        run = runs.load(out) if out else runs.newest_unfinished()
        path, chosen = run.path, configs.same(run.record["config"], config, given, run.path)
        if run.finished:
            _done(run, quiet, as_json)
            return
        if run.record["status"] == "diverged":
            raise RunError(f"{path} diverged, and would again; train anew with --clip-norm 1")
    else:
        chosen = configs.combine(config, given)
    from vae_serve.training import backend

    if tensorboard:
        try:
            importlib.import_module("tensorboard")
        except ImportError:
            raise MissingExtra("tensorboard", "vae-serve train --tensorboard") from None
    backend.start("vae-serve train")
    from vae_serve.training import fit

    if resume:
        dataset = data_sets.load_again(run.record, str(run.path), console.say)
    else:
        dataset = data_sets.load(chosen.data, chosen.image_size, note=console.say)
        # a bundle is named after its run; its name has only letters, digits, ., _ and -
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", dataset.name).strip(".-") or "data"
        path = out or runs.free_path(f"{name}-{chosen.arch}")
    try:
        with console.progress(f"training {chosen.arch} on {dataset.name}", None, "steps", quiet) as progress:
            hooks = fit.Hooks(progress, console.say, tensorboard)
            if resume:
                run = fit.resume(run, chosen, dataset, hooks)
            else:
                command = shlex.join(["vae-serve", *sys.argv[1:]])
                run = fit.train(chosen, dataset, path, command, hooks, overwrite)
    except KeyboardInterrupt:
        console.say(f"saved after the step; resume with: vae-serve train --resume --out {path}")
        raise
    _done(run, quiet, as_json)


def _done(run: Any, quiet: bool, as_json: bool) -> None:
    test = run.record["metrics"]["test"]
    if not quiet:
        elbo, reconstruction, kl = (
            f"{test[name]:{'.2f' if abs(test[name]) < LARGE else '.3g'}}" if test.get(name) is not None else "infinite"
            for name in ("negative_elbo", "reconstruction", "kl")
        )
        console.say(
            f"{run.path}: negative ELBO {elbo} nats per image on the test set "
            f"(reconstruction {reconstruction}, KL {kl}); next: vae-serve export {run.path}"
        )
    if as_json:
        console.emit({"run": str(run.path), **run.record})
