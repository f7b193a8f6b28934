"""vae-serve evaluate."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from vae_serve.cli import talk


def evaluate(
    model: Annotated[Path | None, typer.Argument(metavar="RUN", help="The newest finished run when not given.")] = None,
    quiet: talk.Quiet = False,
    as_json: talk.AsJson = False,
) -> None:
    """Measure a model on the test set."""
    from vae_serve.train import backend

    backend.start("vae-serve evaluate")
    from vae_serve import metrics
    from vae_serve.train import data, runs
    from vae_serve.train.model import decode_with, encode_with

    run = runs.load(model) if model else runs.newest()
    test_images = data.load(run.record["config"]["data"]).test_images
    elbo = metrics.elbo(encode_with(run.encoder()), decode_with(run.decoder()), test_images)
    if not quiet:
        talk.say(
            f"{run.path}: negative ELBO {elbo.negative_elbo:.3f} nats per image on the test set "
            f"(reconstruction {elbo.reconstruction:.3f}, KL {elbo.kl:.3f})"
        )
    if as_json:
        talk.emit(asdict(elbo))
