"""vae-serve train."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from vae_serve.cli import talk
from vae_serve.errors import OutputError


def train(
    data: Annotated[str, typer.Option(help="`mnist` (packaged), or an .npz file.")] = "mnist",
    arch: Annotated[str, typer.Option(help="conv, wide, dcgan or mlp.")] = "conv",
    latent_dim: Annotated[int, typer.Option(help="Dimensions of the latent space.")] = 2,
    recipe: Annotated[str, typer.Option(help="best, or tutorial: the tutorial's own.")] = "best",
    epochs: Annotated[int | None, typer.Option(help="Epochs in all; the recipe's own when not given.")] = None,
    batch_size: Annotated[int, typer.Option(help="Images a step.")] = 128,
    validation_split: Annotated[float, typer.Option(help="Share of the training images held out.")] = 0.2,
    beta: Annotated[float, typer.Option(help="Weight of the KL in the loss.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of weights, order and draws.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; a free name under runs/ when not given.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing run.")] = False,
    quiet: talk.Quiet = False,
    as_json: talk.AsJson = False,
) -> None:
    """Train a model: images to a run folder with encoder, decoder, history and plots."""
    from vae_serve.train import backend

    if out is not None and out.exists() and not overwrite:
        raise OutputError(f"{out} exists; give --overwrite, or another --out")
    backend.start("vae-serve train")
    from vae_serve.train import data as data_sets
    from vae_serve.train import fit, runs

    config = fit.Config(
        data=data,
        arch=arch,
        latent_dim=latent_dim,
        recipe=recipe,
        epochs=epochs,
        batch_size=batch_size,
        validation_split=validation_split,
        beta=beta,
        seed=seed,
    )
    dataset = data_sets.load(data)
    path = out or runs.free_path(f"{dataset.name}-{arch}")
    with talk.progress(f"training {arch} on {dataset.name}", None, "steps", quiet) as report:
        run = fit.train(config, dataset, path, shlex.join(["vae-serve", *sys.argv[1:]]), report, overwrite)
    test = run.record["metrics"]["test"]
    if not quiet:
        talk.say(
            f"{run.path}: negative ELBO {test['negative_elbo']:.2f} nats per image on the test set "
            f"(reconstruction {test['reconstruction']:.2f}, KL {test['kl']:.2f}); next: vae-serve export {run.path}"
        )
    if as_json:
        talk.emit({"run": str(run.path), **run.record})
