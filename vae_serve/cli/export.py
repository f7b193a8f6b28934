"""`vae-serve export`: a run to a bundle."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vae_serve.cli import console
from vae_serve.errors import BundleError, UsageError

if TYPE_CHECKING:
    from vae_serve.export.build import Export


def export(
    run: Annotated[
        Path | None,
        typer.Argument(help="A finished run; with --layout a bundle. [default: the newest one in runs/ or exports/]"),
    ] = None,
    *,
    format: Annotated[
        list[str] | None,
        typer.Option(help="onnx, savedmodel or litert; repeat for more. [default: onnx and savedmodel]"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The bundle's folder. [default: exports/ and the run's name]")
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option(
            help="Do not convert: lay a bundle out as triton, tf-serving, huggingface or web, in layouts/ and its name."
        ),
    ] = None,
    opset: Annotated[int, typer.Option(help="ONNX opset: the older, the more runtimes read it.")] = 13,
    pixels: Annotated[
        str,
        typer.Option(
            help="An image in SavedModel and LiteRT: float32, 0..1, or uint8, 0..255. With uint8 also an ONNX decoder "
            "that gives bytes; an ONNX encoder of either is always written."
        ),
    ] = "float32",
    form: Annotated[
        str,
        typer.Option(
            help="blocks: narrow feature maps in blocks of pixels, the fastest in ONNX Runtime on a server; layers: as "
            "trained, the faster in a browser."
        ),
    ] = "blocks",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the bundle that is there.")] = False,
    check: Annotated[
        bool,
        typer.Option("--check", help="Write nothing: say whether the bundle that is there is what this run gives."),
    ] = False,
    as_json: console.AsJson = False,
    quiet: console.Quiet = False,
) -> None:
    """A finished run becomes a bundle: ONNX files and SavedModels, compared with the trained model before they count.

    An output that differs by more than 1e-5 from what the trained model gives is an error, and nothing is written.
    """
    if layout is not None:
        _lay_out(run, layout, out, overwrite, as_json, quiet)
        return
    from vae_serve.train import backend, runs

    backend.start("export")
    from vae_serve.export import build

    formats = tuple(dict.fromkeys(format or build.DEFAULT_FORMATS))
    if unknown := set(formats) - set(build.FORMATS):
        raise UsageError(f"--format {sorted(unknown)[0]}: the formats are {', '.join(build.FORMATS)}")
    if pixels not in build.PIXELS:
        raise UsageError(f"--pixels {pixels}: a picture is {' or '.join(build.PIXELS)}")
    if form not in build.FORMS:
        raise UsageError(f"--form {form}: the forms are {', '.join(build.FORMS)}")
    found = runs.load(run) if run else runs.newest()
    if not quiet and run is None:
        console.say(f"the newest finished run is {found.path}")
    target = out or Path("exports", found.path.resolve().name)
    asked = build.Export(found, target, formats, opset, pixels, form, overwrite)
    if check:
        _check(asked, build.differences(asked), as_json, quiet)
        return
    manifest = build.export(asked)
    largest = max(report.largest for report in manifest.reports)
    if not quiet:
        console.say(f"{found.path} became {target}: {', '.join(formats)}, at most {largest:.1e} from the trained model")
    if as_json:
        console.emit(
            {
                "run": found.path,
                "bundle": target,
                "formats": formats,
                "largest_difference": largest,
                "files": [entry.path for entry in manifest.files],
            }
        )


def _check(asked: "Export", differences: list[str], as_json: bool, quiet: bool) -> None:
    if as_json:
        console.emit({"run": asked.run.path, "bundle": asked.out, "same": not differences, "differences": differences})
    if differences:
        raise BundleError(f"{asked.out} is not what {asked.run.path} gives: {', '.join(differences)}")
    if not quiet:
        console.say(f"{asked.out} is what {asked.run.path} gives")


def _lay_out(bundle: Path | None, layout: str, out: Path | None, overwrite: bool, as_json: bool, quiet: bool) -> None:
    from vae_serve.deploy import lay_out
    from vae_serve.model.bundle import find

    source = find(bundle)
    if not quiet and bundle is None:
        console.say(f"the bundle is {source}")
    target = out or Path("layouts", f"{source.resolve().name}-{layout}")
    lay_out(source, layout, target, overwrite)
    if not quiet:
        console.say(f"{source} became {target}; {target / 'README.md'} says how to start it")
    if as_json:
        console.emit({"bundle": source, "layout": layout, "folder": target})
