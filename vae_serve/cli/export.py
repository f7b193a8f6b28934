"""`vae-serve export`: a finished run to a bundle."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from vae_serve.cli import console
from vae_serve.errors import BundleError

if TYPE_CHECKING:
    from vae_serve.api.export import Form, Format, Pixels


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
    licence: Annotated[
        str | None,
        typer.Option(
            help="Of the weights, such as MIT or CC-BY-4.0; the card and the files say it. [default: unspecified]"
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing bundle.")] = False,
    check: Annotated[
        bool,
        typer.Option("--check", help="Write nothing; compare the existing bundle with a fresh export of its formats."),
    ] = False,
    as_json: console.AsJson = False,
    quiet: console.Quiet = False,
) -> None:
    """Convert a finished run to a bundle of ONNX files.

    Or of SavedModels and LiteRT files; all are compared with the trained model.

    The bundle is published only if all copies agree: an output that differs by more than 1e-5 from the trained model's
    is an error, and nothing is written.
    """
    from vae_serve.api.export import export as call
    from vae_serve.api.summaries import ExportCheck

    summary = call(
        run,
        format=cast("list[Format] | None", format or None),
        out=out,
        opset=opset,
        pixels=cast("Pixels", pixels),
        form=cast("Form", form),
        licence=licence,
        overwrite=overwrite,
        check=check,
        note=None if quiet else console.say,
    )
    if as_json:
        console.emit(summary.to_json())
    if isinstance(summary, ExportCheck):
        if not summary.same:
            differences = ", ".join(summary.differences)
            raise BundleError(f"{summary.bundle} is not what {summary.run} gives: {differences}")
        line = f"{summary.bundle} is what {summary.run} gives"
    else:
        line = (
            f"exported {summary.run} to {summary.bundle}: {', '.join(summary.formats)}; "
            f"at most {summary.largest_difference:.1e} from the trained model"
        )
    if not quiet:
        console.say(line)
