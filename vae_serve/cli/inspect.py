"""`vae-serve inspect`: what a bundle, or a lone ONNX file, is."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vae_serve.api.arguments import place
from vae_serve.cli import console
from vae_serve.errors import BundleError

if TYPE_CHECKING:
    from vae_serve.model.onnx import OnnxFile
    from vae_serve.storage.object_url import Place


def inspect(
    bundle: Annotated[
        str | None,
        typer.Argument(
            metavar="BUNDLE",
            help="A bundle's folder or URL, or an .onnx file. [default: the newest in exports/, else the packaged one]",
        ),
    ] = None,
    *,
    as_json: console.AsJson = False,
) -> None:
    """Describe a model: shapes, parameters, figures, parity."""
    from vae_serve.model import bundle as bundles

    path = place("bundle", bundles.find(bundle))
    facts = _of_file(path) if isinstance(path, Path) and path.suffix == ".onnx" else _of_bundle(path)
    if as_json:
        console.emit({"path": path, **facts})
        return
    console.show(path)
    for name, value in _flat(facts):
        console.show(f"  {name:<34} {value}")


def _of_bundle(path: "Place") -> dict[str, Any]:
    import msgspec

    from vae_serve.model import bundle as bundles
    from vae_serve.model import onnx

    loaded = bundles.load(path)
    facts = msgspec.to_builtins(loaded.manifest)
    worst = max(msgspec.to_builtins(loaded.manifest.reports), key=lambda report: report["largest"], default=None)
    graphs = {}
    for graph in loaded.manifest.graphs:
        contents = loaded.graphs[graph.file]
        read = onnx.read(contents, graph.file)
        about = {**_tensors(read), "nodes": sum(read.operators.values()), "bytes": len(contents)}
        graphs[graph.file.removesuffix(".onnx")] = about
    return {
        **{name: value for name, value in facts.items() if name not in ("graphs", "parity", "files")},
        **graphs,
        "largest_difference": worst
        and {name: worst[name] for name in ("largest", "network", "copy", "tensor", "rows")},
        "files": len(loaded.manifest.files),
        "bytes": sum(entry.bytes for entry in loaded.manifest.files),
    }


def _of_file(path: Path) -> dict[str, Any]:
    from vae_serve.model import files, onnx

    try:
        contents = files.read_file(path, onnx.SIZE_LIMIT)
    except FileNotFoundError:
        raise BundleError(f"{path} does not exist") from None
    read = onnx.read(contents, str(path))
    return {
        **{name.removeprefix("vae_serve."): value for name, value in read.metadata.items()},
        "producer": read.producer,
        "opset": read.opset,
        "ir_version": read.ir_version,
        **_tensors(read),
        "operators": read.operators,
        "stored_numbers": read.parameters,
        "bytes": len(contents),
    }


def _tensors(read: "OnnxFile") -> dict[str, dict[str, str]]:
    return {
        side: {value.name: f"{value.dtype} {' x '.join(map(str, value.shape))}" for value in values}
        for side, values in (("inputs", read.inputs), ("outputs", read.outputs))
    }


def _flat(value: Any, path: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [row for name, inner in value.items() for row in _flat(inner, f"{path}.{name}" if path else name)]
    return [(path, value)]
