"""A finished run becomes a bundle: it is converted, compared by the gate, and only then published."""

import json
import re
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import cast

import keras
import msgspec

from vae_serve import __version__
from vae_serve.exporting import comparison, conformance, gate
from vae_serve.exporting.card import card
from vae_serve.exporting.convert import bytes_input, litert
from vae_serve.exporting.convert.onnx import OPSET, check_opset, ir_version, to_onnx
from vae_serve.exporting.convert.savedmodel import write_savedmodel
from vae_serve.exporting.convert.signature import serving_function
from vae_serve.exporting.gate import Reference
from vae_serve.exporting.network import Network
from vae_serve.exporting.passes.flattening import flattened_early
from vae_serve.exporting.passes.fold import folded
from vae_serve.exporting.passes.space_to_depth import blocked
from vae_serve.model import bundle, plain, saved_model
from vae_serve.model import manifest as manifests
from vae_serve.model.manifest import (
    Form,
    Graph,
    GraphSpec,
    Json,
    Manifest,
    Parity,
    ParityReport,
    PixelType,
)
from vae_serve.model.parity import TOLERANCE
from vae_serve.storage.publish import Destination, publish_folder
from vae_serve.training.runs import Run

FORMATS = ("onnx", "savedmodel", "litert")
DEFAULT_FORMATS = ("onnx", "savedmodel")  # LiteRT needs an extra of its own
PIXELS = ("float32", "uint8")
FORMS = ("blocks", "layers")
NO_LICENCE = "unspecified"
CARD = "README.md"
CONVERTERS = ("onnx", "onnxruntime", "tf2onnx")  # whose versions the manifest tells beside those of the training


@dataclass(frozen=True)
class Export:
    """What to export, and how."""

    run: Run  # finished
    out: Path  # the bundle's folder
    formats: tuple[str, ...] = DEFAULT_FORMATS
    opset: int = OPSET  # 13 to the newest that the installed onnx converts to
    pixels: str = "float32"  # of an image in SavedModel and LiteRT, float32 0..1 or uint8 0..255; for uint8 also of an
    # ONNX decoder that gives bytes. An ONNX encoder of either is always written
    form: str = "blocks"  # narrow maps in blocks, fastest in ONNX Runtime; or layer by layer, as trained
    overwrite: bool = False  # replace a bundle at `out`; nothing else is replaced
    licence: str = NO_LICENCE  # of the weights, in a line: theirs who trained them


def export(options: Export) -> Manifest:
    """Writes the bundle, or nothing.

    Raises:
        OutputError: `out` exists, or cannot be written to.
        ParityError: a copy differs from the trained model.
        RunError, SourceError: the run, or the images that it was to be compared on, cannot be read.
        MissingExtra: LiteRT was asked for and is not installed.
        UsageError: an opset that cannot be had.
    """
    check_opset(options.opset)
    if "litert" in options.formats:
        litert.require()
    destination = Destination(options.out, "a bundle", _is_bundle, options.overwrite)
    with publish_folder(destination) as folder:
        manifest = _write(options, folder)
        saved_model.check(bundle.load(folder))
    return manifest


def differences(options: Export, existing: Manifest) -> list[str]:
    """What is not the same in the `existing` bundle and in a fresh export; empty when it is what the run gives.

    The measured differences and the model card that tells them are left out: another CPU sums in another order.

    Raises:
        Errors as `export`.
    """
    with tempfile.TemporaryDirectory() as folder:
        fresh = _write(options, Path(folder))
    stable = [_stable(manifest) for manifest in (existing, fresh)]
    names = [f"{bundle.MANIFEST}: {name}" for name, value in stable[0].items() if value != stable[1][name]]
    entries = [{entry.path: entry for entry in manifest.files if entry.path != CARD} for manifest in (existing, fresh)]
    paths = sorted({*entries[0], *entries[1]})
    return names + [path for path in paths if entries[0].get(path) != entries[1].get(path)]


def formats_of(manifest: Manifest) -> tuple[str, ...]:
    """The formats that a bundle has files of."""
    paths = [entry.path for entry in manifest.files]
    there = {
        "onnx": bool(manifest.graphs),
        "savedmodel": any(path.startswith("saved_model/") for path in paths),
        "litert": any(path.endswith(".tflite") for path in paths),
    }
    return tuple(name for name in FORMATS if there[name])


def _stable(manifest: Manifest) -> Json:
    """What one run gives on any machine."""
    graphs = [msgspec.structs.replace(graph, parity=()) for graph in manifest.graphs]
    return {**msgspec.structs.asdict(manifest), "graphs": graphs, "files": None, "parity": None}


def _is_bundle(path: Path) -> bool:
    manifest = path / bundle.MANIFEST
    return manifest.is_file() and not manifest.is_symlink()


def _write(options: Export, folder: Path) -> Manifest:
    run = options.run
    encoder, decoder = run.encoder(), run.decoder()
    references = comparison.references(run, encoder, decoder)
    draft = _manifest(options, references, comparison.weights_sha256(encoder, decoder))
    metadata = _metadata(draft, references)
    reports: list[Json] = []
    graphs: list[Graph] = []
    for reference, model in zip(references, (encoder, decoder), strict=True):
        network = deployed(model, options.form)
        other = comparison.of_variant(reference, draft.signature_pixels)  # SavedModel and LiteRT have one variant
        function = gate.run_function(serving_function(network, other.spec), other.spec)
        reports += gate.check(other, "Keras, folded", function)
        if "savedmodel" in options.formats:
            path = folder / "saved_model" / reference.name
            write_savedmodel(network, other.spec, path)
            reports += gate.check(other, "SavedModel", gate.run_savedmodel(str(path / "1"), other.spec))
        if "onnx" in options.formats:
            contents = to_onnx(network, reference.spec, options.opset, metadata)
            files = [(reference, contents)]
            if reference.name == "encoder" or options.pixels == "uint8":
                of_bytes = comparison.of_variant(reference, "uint8")
                files.append((of_bytes, _bytes_variant(network, contents, of_bytes.spec, options.opset, metadata)))
            for variant, file in files:
                (folder / variant.spec.file).write_bytes(file)
                graphs.append(_graph(variant, comparison.check_onnx(encoder, variant, file, contents)))
        if "litert" in options.formats:
            contents = litert.to_litert(network, other.spec)
            (folder / litert.file_of(other.spec)).write_bytes(contents)
            reports += gate.check(other, "LiteRT", litert.run_litert(contents, other.spec))
    conformance.write(folder / "conformance", references)
    parity = Parity(TOLERANCE, gate.MEASURE, msgspec.convert(reports, tuple[ParityReport, ...]), gate.BOUND)
    described = msgspec.structs.replace(draft, parity=parity, graphs=tuple(graphs))
    (folder / CARD).write_text(card(described), encoding="utf-8")
    manifest = bundle.with_files(described, folder)
    (folder / bundle.MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return manifest


def _bytes_variant(network: Network, of_floats: bytes, spec: GraphSpec, opset: int, metadata: dict[str, str]) -> bytes:
    """The encoder as its file of floats behind one operator; the decoder converted with the rounding inside."""
    if spec.role == "encoder":
        return bytes_input.of_bytes(of_floats, spec)
    return to_onnx(network, spec, opset, metadata)


def _graph(reference: Reference, reports: list[Json]) -> Graph:
    spec = reference.spec
    tolerance = {output.name: allowed for output, allowed in zip(spec.outputs, reference.tolerances, strict=True)}
    parity = msgspec.convert(reports, tuple[ParityReport, ...])
    return Graph(spec.role, spec.variant, spec.file, spec.inputs, spec.outputs, tolerance, parity)


def _manifest(options: Export, references: tuple[Reference, Reference], weights: str) -> Manifest:
    """All that is known before the gate has measured."""
    record = options.run.record
    config: Json = record["config"]
    height, width, channels = config["image_shape"]
    with_onnx = "onnx" in options.formats
    converters = {name: version(name) for name in CONVERTERS} if with_onnx else {}
    return Manifest(
        schema_version=manifests.SCHEMA_VERSION,
        name=bundle_name(options.run.path),
        arch=config["arch"],
        latent_dim=config["latent_dim"],
        image_shape=(height, width, channels),
        pixels=record["pixels"],
        graphs=(),
        signature_pixels=cast("PixelType", options.pixels),
        opset=options.opset if with_onnx else None,
        ir_version=ir_version(options.opset) if with_onnx else None,
        parameters=record["parameters"],
        weights_sha256=weights,
        data=plain.printable(record["data"]),
        training=plain.printable({"command": record["command"], **config}),
        metrics=record["metrics"]["test"],
        parity=Parity(TOLERANCE, gate.MEASURE, ()),
        versions={"vae-serve": __version__, **record["versions"], **converters},
        licence=options.licence,
        files=(),
        form=cast("Form", options.form),
    )


def _metadata(manifest: Manifest, references: tuple[Reference, Reference]) -> dict[str, str]:
    """What a lone ONNX file says of itself. The parity is told as the bound it passed, not as what one CPU measured."""
    facts = {
        "model": manifest.name,
        "model_version": manifest.weights_sha256[:12],
        "arch": manifest.arch,
        "latent_dim": str(manifest.latent_dim),
        "image_shape": json.dumps(list(manifest.image_shape)),
        "pixels": json.dumps(manifest.pixels),
        "weights_sha256": manifest.weights_sha256,
        "licence": manifest.licence,
        "data": f"{manifest.data['name']} ({manifest.data['licence']})",
        "test_figures": json.dumps(manifest.metrics),
        "parity": f"{gate.MEASURE} at most {gate.BOUND}, against the trained Keras model in float64, on "
        + " and ".join(f"{len(reference.inputs):,} inputs of the {reference.name}" for reference in references),
    }
    return {f"vae_serve.{name}": value for name, value in facts.items()}


def bundle_name(run: Path) -> str:
    """What a bundle is called after the folder of its run: letters, digits, `.`, `_` and `-`, at most 100 of them."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", run.resolve().name).lstrip("._-")[:100] or "model"


def deployed(model: keras.Model, form: str) -> Network:
    """A trained model as it is exported: folded, and for the form `blocks` with its narrow maps in blocks."""
    return flattened_early(blocked(folded(model, extra_channel=False)) if form == "blocks" else folded(model))
