"""`vae_serve.export`: a finished run to a bundle."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, overload

from vae_serve.api import arguments
from vae_serve.api.arguments import StrPath
from vae_serve.api.progress import Note, no_note
from vae_serve.api.summaries import ExportCheck, ExportSummary, Run
from vae_serve.errors import UsageError

Format = Literal["onnx", "savedmodel", "litert"]
Pixels = Literal["float32", "uint8"]
Form = Literal["blocks", "layers"]


@overload
def export(
    run: "Run | StrPath | None" = None,
    *,
    format: str | Iterable[Format] | None = None,
    out: StrPath | None = None,
    opset: int = 13,
    pixels: Pixels = "float32",
    form: Form = "blocks",
    licence: str | None = None,
    overwrite: bool = False,
    check: Literal[False] = False,
    note: Note | None = None,
) -> ExportSummary: ...


@overload
def export(
    run: "Run | StrPath | None" = None,
    *,
    format: str | Iterable[Format] | None = None,
    out: StrPath | None = None,
    opset: int = 13,
    pixels: Pixels = "float32",
    form: Form = "blocks",
    licence: str | None = None,
    overwrite: bool = False,
    check: Literal[True],
    note: Note | None = None,
) -> ExportCheck: ...


@overload
def export(
    run: "Run | StrPath | None" = None,
    *,
    format: str | Iterable[Format] | None = None,
    out: StrPath | None = None,
    opset: int = 13,
    pixels: Pixels = "float32",
    form: Form = "blocks",
    licence: str | None = None,
    overwrite: bool = False,
    check: bool = False,
    note: Note | None = None,
) -> ExportSummary | ExportCheck: ...


def export(
    run: "Run | StrPath | None" = None,
    *,
    format: str | Iterable[Format] | None = None,
    out: StrPath | None = None,
    opset: int = 13,
    pixels: Pixels = "float32",
    form: Form = "blocks",
    licence: str | None = None,
    overwrite: bool = False,
    check: bool = False,
    note: Note | None = None,
) -> ExportSummary | ExportCheck:
    """Converts a finished run to a bundle, each file compared with the trained model. Needs the extra `train`.

    `run`: what `train` returned, the path of a run, or None for the newest finished one in runs/. `format`: one or some
    of `onnx`, `savedmodel` and `litert`; None is `onnx` and `savedmodel`. `out`: the bundle's folder, by default
    exports/ and the run's name. `licence`: of the weights, a line; None is `unspecified`. `check`: write nothing, and
    say whether the bundle there is what the run gives, by its own formats and licence where none are given. `note` is
    told a line worth reading. All others as `vae-serve export --help` says.

    Raises:
        MissingExtra: TensorFlow and Keras are not installed, or what `litert` needs.
        UsageError: an argument makes no sense.
        RunError, SourceError: the run is not there, unfinished or damaged.
        ParityError: a file differs from the trained model; nothing is written.
        OutputError: `out` exists or cannot be written.
        BundleError: `check`: there is no bundle that can be loaded.
    """
    arguments.callback("note", note)
    for name, value in (("overwrite", overwrite), ("check", check)):
        arguments.flag(name, value)
    target = arguments.path_or_none("out", out)
    folder = run.path if isinstance(run, Run) else None if run is None else arguments.path("run", run)
    opset = arguments.whole("opset", opset, 1, 1 << 31)
    licence = None if licence is None else arguments.line("licence", licence)
    from vae_serve.training import backend, runs

    backend.start("export")
    from vae_serve.exporting import build
    from vae_serve.model import bundle as bundles

    wanted: tuple[object, ...] = (
        build.DEFAULT_FORMATS if format is None else (format,) if isinstance(format, str) else _all(format)
    )
    formats = tuple(dict.fromkeys(map(str, wanted))) or build.DEFAULT_FORMATS
    if unknown := set(formats) - set(build.FORMATS):
        raise UsageError(f"--format {sorted(unknown)[0]}: the formats are {', '.join(build.FORMATS)}")
    if pixels not in build.PIXELS:
        raise UsageError(f"--pixels {pixels}: a picture is {' or '.join(build.PIXELS)}")
    if form not in build.FORMS:
        raise UsageError(f"--form {form}: the forms are {', '.join(build.FORMS)}")
    source = runs.load(folder) if folder else runs.newest()
    if folder is None:
        (note or no_note)(f"the newest finished run is {source.path}")
    bundle = target or Path("exports", source.path.resolve().name)
    if check:
        existing = bundles.load(bundle).manifest
        formats = build.formats_of(existing) if format is None else formats
        licence = licence or existing.licence
        options = build.Export(source, bundle, formats, opset, pixels, form, licence=licence)
        differences = tuple(build.differences(options, existing))
        return ExportCheck(source.path, bundle, not differences, differences)
    options = build.Export(source, bundle, formats, opset, pixels, form, overwrite, licence or build.NO_LICENCE)
    manifest = build.export(options)
    largest = max(report.largest for report in manifest.reports)
    return ExportSummary(source.path, bundle, formats, largest, tuple(entry.path for entry in manifest.files))


def _all(values: object) -> tuple[object, ...]:
    if not isinstance(values, Iterable):
        raise UsageError(f"--format {values!r:.100}: give onnx, savedmodel or litert, or some of them")
    return tuple(values)
