"""vae-serve runs."""

from pathlib import Path
from typing import Annotated

import typer

from vae_serve.cli import console


def runs(
    folder: Annotated[Path, typer.Argument(help="Where the runs are.")] = Path("runs"),
    as_json: console.AsJson = False,
) -> None:
    """List the runs with their figures, the newest at the end."""
    from vae_serve.train import runs as on_disk

    found = on_disk.every(folder)
    if as_json:
        console.emit({"runs": [{"path": str(run.path), **run.record} for run in found]})
        return
    if not found:
        console.say(f"no run under {folder}")
        return
    rows = [("run", "status", "arch", "latent", "data", "epochs", "-ELBO", "recon.", "KL")]
    for run in found:
        record, test = run.record, run.record["metrics"].get("test")
        config, recipe = record["config"], record["recipe"]
        epochs = sum(phase["epochs"] for phase in recipe["phases"])
        figures = [f"{test[name]:.2f}" for name in ("negative_elbo", "reconstruction", "kl")] if test else ["-"] * 3
        rows.append(
            (
                str(run.path),
                record["status"],
                config["arch"],
                str(config["latent_dim"]),
                record["data"]["name"],
                f"{epochs} ({recipe['name']})",
                *figures,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        console.show("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    console.show("figures: test set, nats per image, greyscale")
