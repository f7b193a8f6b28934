"""vae-serve evaluate."""

from typing import Annotated, Any

import typer

from vae_serve.cli import console
from vae_serve.cli.run_or_bundle import RunOrBundle, TestData
from vae_serve.cli.seed import checked_seed

LARGE = 1e6  # nats; beyond, decimals tell nothing


def evaluate(
    model: RunOrBundle = None,
    data: TestData = None,
    target: Annotated[
        str, typer.Option(help="greyscale, or binarised: threshold (from 128 on) or dynamic (sampled).")
    ] = "greyscale",
    samples: Annotated[
        int | None,
        typer.Option(help="Of importance sampling.", show_default="100; none if a lattice is used"),
    ] = None,
    images: Annotated[
        int | None, typer.Option(help="Use only the first IMAGES test images.", show_default="all")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of all random numbers.")] = 0,
    quiet: console.Quiet = False,
    as_json: console.AsJson = False,
) -> None:
    """Measure a model on the test set.

    Likelihoods, the latent space, labels, reconstruction.
    """
    from vae_serve.training import evaluation

    options = evaluation.Options(target, samples, images, checked_seed(seed))  # type: ignore[arg-type]  # checked there
    from vae_serve.cli.subject import open_subject

    subject = open_subject(model, data, "vae-serve evaluate")
    test = subject.data(console.say)
    if not quiet:
        console.say(f"measuring {subject.path} on {test.name} through {subject.runtime}")
    figures = evaluation.evaluate(subject.encode, subject.decode, test, options)
    if as_json:
        console.emit({"model": str(subject.path), "runtime": subject.runtime, **figures})
    else:
        for line in _lines(figures):
            console.show(line)


def _lines(figures: dict[str, Any]) -> list[str]:
    elbo, latent, again = figures["elbo"], figures["latent"], figures["reconstruction"]
    likelihood, labels = figures["negative_log_likelihood"], figures["labels"]
    rows: list[tuple[str, Any, str]] = [
        ("negative ELBO", elbo["negative_elbo"], f"nats per image, {elbo['draws']} draws of z"),
        ("  reconstruction", elbo["reconstruction"], ""),
        ("  KL", elbo["kl"], ""),
    ]
    if lattice := likelihood["lattice"]:
        change = lattice["change_at_twice_the_spacing"]
        note = f"lattice of {lattice['points']:,} points"
        note += "" if change is None else f"; {change:+.4f} against twice the spacing"
        rows.append(("negative log-likelihood", lattice["value"], note))
    if importance := likelihood["importance"]:
        note = f"importance sampling, {importance['samples']:,} samples: an upper bound"
        rows.append(("negative log-likelihood", importance["value"], note))
    rows += [
        ("inference gap", figures["inference_gap"], "negative ELBO less negative log-likelihood"),
        ("marginal KL to the prior", latent["marginal_kl"], "of the aggregate posterior: the holes"),
        ("mutual information", latent["mutual_information"], "of image and z"),
        ("active units", latent["active_units"], f"of {latent['dimensions']}"),
    ]
    if labels:
        learnt = f"learnt from z_mean of {labels['references']:,} images"
        rows.append(("k-nearest neighbours", labels["knn_accuracy"], f"accuracy, k = {labels['neighbours']}, {learnt}"))
        rows.append(("linear probe", labels["linear_accuracy"], f"accuracy, {learnt}"))
    rows.append(("reconstruction MSE", again["mse"], "pixels 0..1, from z_mean"))
    if again["ssim"] is not None:
        rows.append(("reconstruction SSIM", again["ssim"], "from z_mean"))
    width = max(len(name) for name, _, _ in rows)
    return [
        f"{figures['images']:,} test images of {figures['data']}, {figures['target']} targets",
        *(f"{name:{width}}  {_number(value):>10}  {note}".rstrip() for name, value, note in rows),
        *(f"left out: {sentence}" for sentence in figures["left_out"]),
    ]


def _number(value: float | int | None) -> str:
    match value:
        case None:
            return "-"
        case float():
            return f"{value:.4f}" if abs(value) < LARGE else f"{value:.4g}"
    return str(value)
