"""A manifest's bytes become records, or are refused.

An unknown, missing or mistyped field is refused; so are texts that cannot be printed, numbers that are not finite, and
tensors other than a variational autoencoder's. In free-form trees, the fields that this package reads have their type.
"""

import math
from typing import Any

import msgspec
from msgspec import Struct

from vae_serve.errors import BundleError
from vae_serve.model import plain
from vae_serve.model.manifest import (
    SCHEMA_VERSION,
    VALUES_LIMIT,
    Graph,
    Json,
    Manifest,
    TensorSpec,
    Text,
    Word,
    graph_spec,
    size_limit,
)


class _Data(Struct):
    """The fields of `Manifest.data` that something here reads."""

    name: Text
    licence: Text = ""


class _Metrics(Struct):
    """Those of `Manifest.metrics`."""

    negative_elbo: float | None = None
    reconstruction: float | None = None
    kl: float | None = None
    unit: Word = "nats per image"


def parse(contents: bytes, where: str) -> Manifest:
    """The manifest in a file's contents; `where` stands for the file in messages.

    Raises:
        BundleError: it is not one; says what is wrong in it.
    """
    try:
        document = plain.parse(contents)
    except ValueError as error:
        raise BundleError(f"{where} is not valid JSON, or holds what no manifest does: {error}") from None
    if "schema_version" not in document:
        raise BundleError(f"{where} is not a manifest: it has no schema_version")
    version = document["schema_version"]
    if type(version) is not int or version not in (1, SCHEMA_VERSION):
        raise BundleError(f"{where} has schema version {version!r:.40}; this vae-serve reads 1 and {SCHEMA_VERSION}")
    try:
        return _checked(_records(document, version))
    except (msgspec.ValidationError, BundleError, ValueError) as error:
        raise BundleError(f"{where} is not a valid manifest: {error}") from None


def _records(document: Json, version: int) -> Manifest:
    if version == 1:
        from vae_serve.model import schema_1

        return schema_1.read(document)
    return msgspec.convert(document, Manifest)


def _checked(manifest: Manifest) -> Manifest:
    from vae_serve.images.pixels import PixelRule  # brings numpy, which a command's --help does without

    _convert("data", manifest.data, _Data)
    _convert("metrics", manifest.metrics, _Metrics)
    if set(manifest.parameters) != {"encoder", "decoder", "trainable"}:
        raise ValueError(f"the fields of parameters are {sorted(manifest.parameters)}")
    if {*manifest.pixels, "decode"} != set(PixelRule.__struct_fields__):  # `decode` came later: without it, whole
        raise ValueError(f"the fields of pixels are {sorted(manifest.pixels)!r:.200}")
    rule = PixelRule.from_json(msgspec.to_builtins(_convert("pixels", manifest.pixels, PixelRule)))
    if rule.shape != manifest.image_shape:
        raise ValueError(f"pixels is of the shape {rule.shape}, image_shape is {manifest.image_shape}")
    if math.prod(manifest.image_shape) > VALUES_LIMIT:
        raise ValueError(f"image_shape {manifest.image_shape} has more than {VALUES_LIMIT:,} values")
    if manifest.graphs and (manifest.opset is None or manifest.ir_version is None):
        raise ValueError("it has graphs, but no opset or no ir_version")
    if len({(graph.role, graph.variant) for graph in manifest.graphs}) != len(manifest.graphs):
        raise ValueError("graphs: two have the same role and variant")
    if len({graph.role for graph in manifest.graphs}) == 1:
        raise ValueError("graphs: it has one of encoder and decoder alone")
    for graph in manifest.graphs:
        _check_graph(graph, manifest)
    _check_files(manifest)
    return manifest


def _convert(field: str, value: Json, kind: Any) -> Any:
    """A free-form field's value as a record of `kind`."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise ValueError(f"{field}: {error}") from None


def _check_graph(graph: Graph, manifest: Manifest) -> None:
    """Names, number, order, types and shapes of the tensors are those of the contract."""
    expected = graph_spec(graph.role, graph.variant, manifest.image_shape, manifest.latent_dim)
    for side, tensors, contract in (
        ("inputs", graph.inputs, expected.inputs),
        ("outputs", graph.outputs, expected.outputs),
    ):
        if tensors != contract:
            raise ValueError(
                f"{graph.file} has the {side} {_told(tensors)}; a bundle's {graph.role} has {_told(contract)}"
            )
    file = f"{graph.role}.onnx" if manifest.schema_version == 1 else expected.file
    if graph.file != file:
        raise ValueError(f"the file of the {graph.role} of {graph.variant} is {graph.file!r}, not {file!r}")
    if set(graph.tolerance) != {tensor.name for tensor in graph.outputs}:
        raise ValueError(f"{graph.file} has the tolerance of {sorted(graph.tolerance)}")
    if any(report.network != graph.role or report.tensor not in graph.tolerance for report in graph.parity):
        raise ValueError(f"{graph.file} has parity of another graph")


def _told(tensors: tuple[TensorSpec, ...]) -> str:
    return ", ".join(f"{tensor.name} {tensor.dtype} {list(tensor.shape)}" for tensor in tensors)[:300] or "none"


def _check_files(manifest: Manifest) -> None:
    for entry in manifest.files:
        limit = size_limit(entry.path)
        if limit is None:
            raise ValueError(f"{entry.path!r} is a kind of file that no bundle has, or outside its folder")
        if entry.bytes > limit:
            raise ValueError(f"{entry.path} of {entry.bytes:,} bytes; more than {limit:,} are not loaded")
    paths = {entry.path for entry in manifest.files}
    if len(paths) != len(manifest.files):
        raise ValueError("files: one is named twice")
    graphs = {graph.file for graph in manifest.graphs}
    if graphs - paths or {path for path in paths if path.endswith(".onnx")} - graphs:
        raise ValueError("graphs and files do not name the same ONNX files")
