"""`vae-serve export`: a finished run to a bundle."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vae_serve.cli import console
from vae_serve.errors import BundleError, UsageError

if TYPE_CHECKING:
    from vae_serve.exporting.build import Export


def export(
    run: Annotated[
        Path | None,
        typer.Argument(help="A finished run. [default: the newest one in runs/]"),
    ] = None,
    *,
    format: Annotated[
        list[str] | None,
        typer.Option(help="onnx, savedmodel or litert; repeat for more. [default: onnx and savedmodel]"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The bundle's folder. [default: exports/ and the run's name]")
    ] = None,
    opset: Annotated[int, typer.Option(help="ONNX opset; more runtimes read an older one.")] = 13,
    pixels: Annotated[
        str,
        typer.Option(
            help="Type of an image in SavedModel and LiteRT: float32, 0..1, or uint8, 0..255. uint8 also adds an ONNX "
            "decoder that gives bytes; ONNX encoders for both types are always written."
        ),
    ] = "float32",
    form: Annotated[
        str,
        typer.Option(
            help="Form of the graphs. blocks: feature maps of few channels in blocks of pixels, fastest in ONNX "
            "Runtime on a server; layers: layer by layer as trained, faster in a browser."
        ),
    ] = "blocks",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing bundle.")] = False,
    check: Annotated[
        bool,
        typer.Option("--check", help="Write nothing; compare the existing bundle with a fresh export."),
    ] = False,
    as_json: console.AsJson = False,
    quiet: console.Quiet = False,
) -> None:
    """Convert a finished run to a bundle: ONNX files and SavedModels, compared with the trained model.

    The bundle is published only if all copies agree: an output that differs by more than 1e-5 from the trained model's
    is an error, and nothing is written.
    """
    from vae_serve.training import backend, runs

    backend.start("export")
    from vae_serve.exporting import build

    formats = tuple(dict.fromkeys(format or build.DEFAULT_FORMATS))
    if unknown := set(formats) - set(build.FORMATS):
        raise UsageError(f"--format {sorted(unknown)[0]}: the formats are {', '.join(build.FORMATS)}")
    if pixels not in build.PIXELS:
        raise UsageError(f"--pixels {pixels}: a picture is {' or '.join(build.PIXELS)}")
    if form not in build.FORMS:
        raise UsageError(f"--form {form}: the forms are {', '.join(build.FORMS)}")
    source = runs.load(run) if run else runs.newest()
    if not quiet and run is None:
        console.say(f"the newest finished run is {source.path}")
    target = out or Path("exports", source.path.resolve().name)
    options = build.Export(source, target, formats, opset, pixels, form, overwrite)
    if check:
        _check(options, build.differences(options), as_json, quiet)
        return
    manifest = build.export(options)
    largest = max(report.largest for report in manifest.reports)
    if not quiet:
        console.say(
            f"exported {source.path} to {target}: {', '.join(formats)}; at most {largest:.1e} from the trained model"
        )
    if as_json:
        console.emit(
            {
                "run": source.path,
                "bundle": target,
                "formats": formats,
                "largest_difference": largest,
                "files": [entry.path for entry in manifest.files],
            }
        )


def _check(options: "Export", differences: list[str], as_json: bool, quiet: bool) -> None:
    if as_json:
        console.emit(
            {"run": options.run.path, "bundle": options.out, "same": not differences, "differences": differences}
        )
    if differences:
        raise BundleError(f"{options.out} is not what {options.run.path} gives: {', '.join(differences)}")
    if not quiet:
        console.say(f"{options.out} is what {options.run.path} gives")
