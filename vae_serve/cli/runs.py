"""`vae-serve runs`: the runs of a folder."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vae_serve.cli import SOME_FAILED, console

if TYPE_CHECKING:
    from vae_serve.training.runs import Run

LARGE = 1e6  # nats; beyond, decimals tell nothing


def runs(
    folder: Annotated[Path, typer.Argument(help="The folder with the runs.")] = Path("runs"),
    as_json: console.AsJson = False,
) -> None:
    """List the runs with their figures, the newest last."""
    from vae_serve.training import runs as on_disk

    intact, damaged = on_disk.every(folder)
    for error in damaged:
        console.say(f"error: {error}")
    if as_json:
        console.emit(
            {"runs": [{"path": str(run.path), **run.record} for run in intact], "damaged": [str(e) for e in damaged]}
        )
    elif intact:
        _print(intact)
    elif not damaged:
        console.say(f"no run under {folder}")
    if damaged:
        raise typer.Exit(SOME_FAILED)


def _print(listed: "list[Run]") -> None:
    rows = [("run", "status", "arch", "latent", "data", "epochs", "-ELBO", "recon.", "KL")]
    for run in listed:
        record = run.record
        config, schedule = record["config"], record["schedule"]
        epochs = sum(phase["epochs"] for phase in schedule["phases"])
        test = record["metrics"].get("test") or {}
        figures = [test.get(name) for name in ("negative_elbo", "reconstruction", "kl")]
        rows.append(
            (
                str(run.path),
                record["status"],
                config["arch"],
                str(config["latent_dim"]),
                record["data"]["name"],
                f"{epochs} ({schedule['name']})",
                *(
                    f"{figure:{'.2f' if abs(figure) < LARGE else '.3g'}}" if figure is not None else "-"
                    for figure in figures
                ),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        console.show("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    console.show("figures: test set, nats per image, greyscale")


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}" if abs(value) < LARGE else f"{value:.3g}"
