"""vae-serve train."""

import importlib
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from vae_serve.cli import console
from vae_serve.errors import MissingExtra, OutputError, RunError


def train(
    data: Annotated[
        str | None,
        typer.Option(
            help="mnist (packaged), fashion-mnist, cifar10, .npz, IDX, .parquet, a folder.", show_default="mnist"
        ),
    ] = None,
    image_size: Annotated[
        str | None, typer.Option(help="HxW or HxWxC: fit pictures to it.", show_default="their own")
    ] = None,
    arch: Annotated[str | None, typer.Option(help="conv, wide, dcgan or mlp.", show_default="conv")] = None,
    latent_dim: Annotated[int | None, typer.Option(help="Of the latent space.", show_default="2")] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="best, careful (a smaller rate) or tutorial.", show_default="best"),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs in all.", show_default="the recipe's")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images a step.", show_default="128")] = None,
    validation_split: Annotated[
        float | None, typer.Option(help="Share of the training images held out.", show_default="0.2")
    ] = None,
    beta: Annotated[float | None, typer.Option(help="Weight of the KL in the loss.", show_default="1")] = None,
    clip_norm: Annotated[
        float | None, typer.Option(help="Limit of the norm of all gradients together.", show_default="none")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, order and draws.", show_default="0")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or gpu.", show_default="auto")] = None,
    precision: Annotated[str | None, typer.Option(help="float32, bfloat16 or float16.", show_default="float32")] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write the figures to OUT/tensorboard as well.")
    ] = False,
    config: Annotated[
        Path | None, typer.Option(help="A TOML file with any of the options above; a run's config.toml replays it.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run.", show_default="a free name in runs/")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing run.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run at --out, or with the newest unfinished one.")
    ] = False,
    quiet: console.Quiet = False,
    as_json: console.AsJson = False,
) -> None:
    """Train a model: images to a run folder with encoder, decoder, history and plots."""
    options = dict(locals())
    if out is not None and out.exists() and not overwrite and not resume:
        raise OutputError(f"{out} exists; give --overwrite, or another --out")
    from vae_serve.train import config as configs
    from vae_serve.train import data as data_sets
    from vae_serve.train import runs

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
    from vae_serve.train import backend

    if tensorboard:
        try:
            importlib.import_module("tensorboard")
        except ImportError:
            raise MissingExtra("tensorboard", "vae-serve train --tensorboard") from None
    backend.start("vae-serve train")
    from vae_serve.train import fit

    dataset = data_sets.load(chosen.data, chosen.image_size)
    if not resume:
        path = out or runs.free_path(f"{dataset.name}-{chosen.arch}")
    try:
        with console.progress(f"training {chosen.arch} on {dataset.name}", None, "steps", quiet) as report:
            hooks = fit.Hooks(report, console.say, tensorboard)
            if resume:
                run = fit.resume(run, chosen, dataset, hooks)
            else:
                command = shlex.join(["vae-serve", *sys.argv[1:]])
                run = fit.train(chosen, dataset, path, command, hooks, overwrite)
    except KeyboardInterrupt:
        console.say(f"saved after the step; go on with: vae-serve train --resume --out {path}")
        raise
    _done(run, quiet, as_json)


def _done(run: Any, quiet: bool, as_json: bool) -> None:
    test = run.record["metrics"]["test"]
    if not quiet:
        console.say(
            f"{run.path}: negative ELBO {test['negative_elbo']:.2f} nats per image on the test set "
            f"(reconstruction {test['reconstruction']:.2f}, KL {test['kl']:.2f}); next: vae-serve export {run.path}"
        )
    if as_json:
        console.emit({"run": str(run.path), **run.record})
