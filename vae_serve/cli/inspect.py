"""`vae-serve inspect`: what a bundle is."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from vae_serve import bundle as bundles
from vae_serve.cli import talk


def inspect(
    bundle: Annotated[
        Path | None,
        typer.Argument(help="The bundle's folder. [default: the newest in exports/, else the packaged one]"),
    ] = None,
    *,
    as_json: talk.AsJson = False,
) -> None:
    """What a person wants to know of a bundle: its manifest, without the list of files."""
    path = bundles.find(bundle)
    manifest = bundles.load(path).manifest
    if as_json:
        talk.emit({"bundle": path, **asdict(manifest)})
        return
    facts = {name: value for name, value in asdict(manifest).items() if name not in ("files", "parity")}
    print(path)
    for name, value in _flat(facts):
        print(f"  {name:<32} {value}")
    print(f"  {'bytes':<32} {sum(entry.bytes for entry in manifest.files):,}")


def _flat(value: Any, path: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [row for name, inner in value.items() for row in _flat(inner, f"{path}.{name}" if path else name)]
    return [(path, value)]
