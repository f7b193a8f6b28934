"""vae-serve train."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from vae_serve.cli import console

if TYPE_CHECKING:
    from vae_serve.api.summaries import Run
    from vae_serve.api.train import Arch, Device, Precision, Schedule

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
    """Train a model on images.

    Writes a run: a folder with the encoder, the decoder, the history and plots.
    """
    from vae_serve.api.train import train as call

    with console.progress("train", None, "steps", quiet) as report:
        run = call(
            data,
            image_size=image_size,
            arch=cast("Arch | None", arch),
            latent_dim=latent_dim,
            schedule=cast("Schedule | None", schedule),
            epochs=epochs,
            batch_size=batch_size,
            validation_split=validation_split,
            beta=beta,
            clip_norm=clip_norm,
            seed=seed,
            device=cast("Device | None", device),
            precision=cast("Precision | None", precision),
            tensorboard=tensorboard,
            config=config,
            out=out,
            overwrite=overwrite,
            resume=resume,
            progress=report,
            note=console.say,
            command=shlex.join(["vae-serve", *sys.argv[1:]]),
        )
    if not quiet:
        console.say(_line(run))
    if as_json:
        console.emit(run.to_json())


def _line(run: "Run") -> str:
    elbo, reconstruction, kl = (_nats(run.metrics.get(name)) for name in ("negative_elbo", "reconstruction", "kl"))
    return (
        f"{run.path}: negative ELBO {elbo} nats per image on the test set "
        f"(reconstruction {reconstruction}, KL {kl}); next: vae-serve export {run.path}"
    )


def _nats(value: float | None) -> str:
    return "infinite" if value is None else f"{value:{'.2f' if abs(value) < LARGE else '.3g'}}"
