"""`vae-serve verify`: is a bundle what it says?"""

from pathlib import Path
from typing import Annotated

import typer

from vae_serve.cli import console


def verify(
    bundle: Annotated[str, typer.Argument(metavar="BUNDLE", help="The bundle's folder, or its URL.")],
    *,
    against: Annotated[
        Path | None, typer.Option(help="The run that it was exported from: compare everything with the trained model.")
    ] = None,
    as_json: console.AsJson = False,
    quiet: console.Quiet = False,
) -> None:
    """Check a bundle: hashes, graphs, conformance vectors.

    Its files against their hashes, its graphs against its manifest, and its conformance vectors by ONNX Runtime.

    --against RUN repeats the comparison of the export; it needs the extra `train`.
    """
    from vae_serve.api.arguments import place
    from vae_serve.model import verify as batch

    loaded, reports = batch.verify(place("bundle", bundle))
    largest = max((report.largest for report in reports), default=0.0)
    if not quiet:
        ran = f", conformance vectors within {largest:.1e}" if reports else ""
        console.say(f"{bundle} is sound: {len(loaded.manifest.files)} files match their hashes{ran}")
    for warning in batch.lenient(loaded):
        console.say(f"warning: {warning}")
    repeated = None
    if against is not None:
        from vae_serve.training import backend, runs

        backend.start("verify --against")
        from vae_serve.exporting import comparison

        repeated = max(report["largest"] for report in comparison.compare(loaded, runs.load(against)))
        if not quiet:
            console.say(f"{bundle} is what {against} gives: at most {repeated:.1e} from the trained model")
    if as_json:
        console.emit(
            {
                "bundle": bundle,
                "files": [entry.path for entry in loaded.manifest.files],
                "conformance": [report.to_json() for report in reports],
                "warnings": batch.lenient(loaded),
                "against": against,
                "largest_difference": repeated,
            }
        )
