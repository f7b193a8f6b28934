"""Manifests of schema 1, which version 0.1 wrote: one encoder and one decoder, each of floats or of bytes."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from vae_serve.model.manifest import (
    FileEntry,
    Form,
    Graph,
    Json,
    Manifest,
    Parity,
    ParityReport,
    PixelType,
    Record,
    Role,
    TensorSpec,
    Word,
)


class _Graph(Record, frozen=True):
    file: Word
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class _Manifest(Record, frozen=True):
    """The fields that differ from schema 2 with their types; the others are checked as schema 2's."""

    schema_version: int
    name: Any
    arch: Any
    latent_dim: Any
    image_shape: Any
    pixels: Any
    encoder: _Graph | None
    decoder: _Graph | None
    opset: Any
    ir_version: Any
    parameters: Any
    weights_sha256: Any
    data: Any
    training: Any
    metrics: Any
    parity: Parity
    versions: Any
    licence: Any
    files: Annotated[tuple[FileEntry, ...], Meta(max_length=100)]
    form: Form


def read(document: Json) -> Manifest:
    """The records of schema 2 that say what a manifest of schema 1 does.

    Raises:
        msgspec.ValidationError: it is none.
    """
    old = msgspec.convert(document, _Manifest)
    graphs = [_converted("encoder", old.encoder, old.parity), _converted("decoder", old.decoder, old.parity)]
    others = tuple(report for report in old.parity.reports if not _of_onnx(report))
    fields = {name: value for name, value in document.items() if name not in ("encoder", "decoder")}
    fields["graphs"] = [msgspec.to_builtins(graph) for graph in graphs if graph]
    fields["signature_pixels"] = graphs[0].variant if graphs[0] else "float32"
    fields["parity"] = msgspec.to_builtins(msgspec.structs.replace(old.parity, reports=others))
    return msgspec.convert(fields, Manifest)


def _converted(role: Role, graph: _Graph | None, parity: Parity) -> Graph | None:
    if graph is None:
        return None
    images = [tensor.dtype for tensor in (*graph.inputs, *graph.outputs) if tensor.name == "image"]
    variant: PixelType = "uint8" if images == ["uint8"] else "float32"
    reports = tuple(report for report in parity.reports if report.network == role and _of_onnx(report))
    tolerance = {tensor.name: parity.tolerance for tensor in graph.outputs}
    return Graph(role, variant, graph.file, graph.inputs, graph.outputs, tolerance, reports)


def _of_onnx(report: ParityReport) -> bool:
    return report.copy.startswith("ONNX")
