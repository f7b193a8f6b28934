"""A finished run becomes a bundle: convert, pass the gate, and only then take the name."""

import hashlib
import json
import os
import re
import shutil
import tempfile
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np

from vae_serve import __version__
from vae_serve.errors import BundleError, OutputError, ParityError
from vae_serve.export import conformance, gate
from vae_serve.export.card import card
from vae_serve.export.convert import litert
from vae_serve.export.convert.onnx import OPSET, check_opset, ir_version, to_onnx
from vae_serve.export.convert.savedmodel import write_savedmodel
from vae_serve.export.convert.signature import decoder_spec, encoder_spec, serving_function
from vae_serve.export.gate import Reference
from vae_serve.export.network import Network
from vae_serve.export.passes.fold import folded
from vae_serve.export.passes.space_to_depth import blocked
from vae_serve.model import bundle
from vae_serve.model.bundle import Bundle, Json, Manifest
from vae_serve.model.parity import TOLERANCE
from vae_serve.train import gate_inputs
from vae_serve.train.runs import Run

FORMATS = ("onnx", "savedmodel", "litert")
DEFAULT_FORMATS = ("onnx", "savedmodel")  # LiteRT needs an extra of its own
PIXELS = ("float32", "uint8")
FORMS = ("blocks", "layers")
LICENCE = "MIT"
CARD = "README.md"
CONVERTERS = ("onnx", "onnxruntime", "tf2onnx")  # whose versions the manifest tells beside those of the training


@dataclass(frozen=True)
class Export:
    """What is asked for."""

    run: Run  # finished
    out: Path  # the bundle's folder
    formats: tuple[str, ...] = DEFAULT_FORMATS
    opset: int = OPSET  # 13 to the newest that the installed onnx converts to
    pixels: str = "float32"  # what a picture is to the graphs: float32 0..1, or uint8 0..255
    form: str = "blocks"  # narrow maps in blocks, fastest in ONNX Runtime; or layer by layer, as trained
    overwrite: bool = False  # a bundle at `out` gives way; nothing else does


def export(asked: Export) -> Manifest:
    """Writes the bundle, or nothing.

    Raises:
        OutputError: `out` exists, or cannot be written to.
        ParityError: a copy differs from the trained model.
        RunError, SourceError: the run, or the images that it was to be compared on, cannot be read.
        MissingExtra: LiteRT was asked for and is not installed.
        UsageError: an opset that cannot be had.
    """
    check_opset(asked.opset)
    if "litert" in asked.formats:
        litert.require()
    make_room(asked.out, asked.overwrite)
    aside = Path(tempfile.mkdtemp(prefix=f".{asked.out.name}.", dir=asked.out.parent))
    try:
        manifest = _write(asked, aside)
        bundle.load(aside)
        _rename(aside, asked.out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return manifest


def differences(asked: Export) -> list[str]:
    """What is not the same in the bundle at `asked.out` and in a fresh export; empty when it is what the run gives.

    The measured differences and the model card that tells them are left out: another CPU sums in another order.

    Raises:
        BundleError: the bundle cannot be loaded. Others as `export`.
    """
    found = bundle.load(asked.out).manifest
    with tempfile.TemporaryDirectory() as folder:
        fresh = _write(asked, Path(folder))
    stable = [{**asdict(manifest), "files": None, "parity": None} for manifest in (found, fresh)]
    names = [f"{bundle.MANIFEST}: {name}" for name, value in stable[0].items() if value != stable[1][name]]
    entries = [{entry.path: entry for entry in manifest.files if entry.path != CARD} for manifest in (found, fresh)]
    paths = sorted({*entries[0], *entries[1]})
    return names + [path for path in paths if entries[0].get(path) != entries[1].get(path)]


def compare(loaded: Bundle, run: Run) -> list[Json]:
    """The gate once more: every graph of a bundle against the run that it is said to come from.

    Raises:
        ParityError: it came from another run, or differs.
        BundleError: there is nothing in it that can be run.
    """
    manifest = loaded.manifest
    encoder, decoder = run.encoder(), run.decoder()
    if weights_sha256(encoder, decoder) != manifest.weights_sha256:
        raise ParityError(
            f"{loaded.path} was exported from other weights ({manifest.weights_sha256[:12]}) than those of {run.path} "
            f"({weights_sha256(encoder, decoder)[:12]})"
        )
    pixels = manifest.encoder.inputs[0].dtype if manifest.encoder else "float32"
    reports: list[Json] = []
    for side, contents in zip(
        _references(run, encoder, decoder, pixels), (loaded.encoder, loaded.decoder), strict=True
    ):
        if contents is not None:
            reports += gate.check_onnx(side, contents)
        saved = loaded.path / "saved_model" / side.name / "1"
        if any(entry.path.startswith(f"saved_model/{side.name}/") for entry in manifest.files):
            reports += gate.check(side, "SavedModel", gate.run_savedmodel(str(saved), side.spec))
    if not reports:
        raise BundleError(f"{loaded.path} has neither ONNX files nor SavedModels to compare")
    return reports


def make_room(out: Path, overwrite: bool) -> None:
    """Makes sure, before any work, that a bundle may be written to `out`.

    Raises:
        OutputError: it may not; says why.
    """
    if out.exists():
        if not overwrite:
            raise OutputError(f"{out} exists; name another one with --out, or give --overwrite")
        if not (out / bundle.MANIFEST).is_file():
            raise OutputError(f"{out} exists and is no bundle, so --overwrite will not remove it; name another --out")
    out.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(out.parent, os.W_OK):
        raise OutputError(f"{out.parent} cannot be written to; name another folder with --out")


def _rename(aside: Path, out: Path) -> None:
    mask = os.umask(0)
    os.umask(mask)
    aside.chmod(0o777 & ~mask)  # mkdtemp keeps others out
    for folder, _, names in os.walk(aside):
        for path in (*(Path(folder, name) for name in names), Path(folder)):
            _sync(path)
    if out.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        out.rename(old / "replaced")
        aside.rename(out)
        shutil.rmtree(old, ignore_errors=True)
    else:
        aside.rename(out)
    _sync(out.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _references(run: Run, encoder: keras.Model, decoder: keras.Model, pixels: str) -> tuple[Reference, Reference]:
    shape, latent_dim = run.image_shape, run.record["config"]["latent_dim"]
    inputs = gate.encoder_reference(encoder, encoder_spec(shape, latent_dim, pixels), gate_inputs.of(run))
    return inputs, gate.decoder_reference(decoder, decoder_spec(shape, latent_dim, pixels), inputs.expected[0])


def _write(asked: Export, folder: Path) -> Manifest:
    run = asked.run
    encoder, decoder = run.encoder(), run.decoder()
    sides = _references(run, encoder, decoder, asked.pixels)
    draft = _manifest(asked, sides, weights_sha256(encoder, decoder))
    metadata = _metadata(draft, sides)
    reports: list[Json] = []
    for side, model in zip(sides, (encoder, decoder), strict=True):
        network = deployed(model, asked.form)
        reports += gate.check(side, "Keras, folded", gate.run_function(serving_function(network, side.spec), side.spec))
        if "savedmodel" in asked.formats:
            path = folder / "saved_model" / side.name
            write_savedmodel(network, side.spec, path)
            reports += gate.check(side, "SavedModel", gate.run_savedmodel(str(path / "1"), side.spec))
        if "onnx" in asked.formats:
            contents = to_onnx(network, side.spec, asked.opset, metadata)
            (folder / side.spec.file).write_bytes(contents)
            reports += gate.check_onnx(side, contents)
        if "litert" in asked.formats:
            contents = litert.to_litert(network, side.spec)
            (folder / litert.file_of(side.spec)).write_bytes(contents)
            reports += gate.check(side, "LiteRT", litert.run_litert(contents, side.spec))
    conformance.write(folder / "conformance", sides)
    parity = {"tolerance": TOLERANCE, "bound": gate.BOUND, "measure": gate.MEASURE, "reports": reports}
    told = replace(draft, parity=parity)
    (folder / CARD).write_text(card(told), encoding="utf-8")
    manifest = bundle.with_files(told, folder)
    (folder / bundle.MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return manifest


def _manifest(asked: Export, sides: tuple[Reference, Reference], weights: str) -> Manifest:
    """All that is known before the gate has measured."""
    record = asked.run.record
    config: Json = record["config"]
    height, width, channels = config["image_shape"]
    with_onnx = "onnx" in asked.formats
    converters = {name: version(name) for name in CONVERTERS} if with_onnx else {}
    return Manifest(
        schema_version=bundle.SCHEMA_VERSION,
        name=re.sub(r"[^A-Za-z0-9._-]+", "-", asked.run.path.resolve().name),
        arch=config["arch"],
        latent_dim=config["latent_dim"],
        image_shape=(height, width, channels),
        pixels=record["pixels"],
        encoder=sides[0].spec if with_onnx else None,
        decoder=sides[1].spec if with_onnx else None,
        opset=asked.opset if with_onnx else None,
        ir_version=ir_version(asked.opset) if with_onnx else None,
        parameters=record["parameters"],
        weights_sha256=weights,
        data=_readable(record["data"]),
        training=_readable({"command": record["command"], **config}),
        metrics=record["metrics"]["test"],
        parity={},
        versions={"vae-serve": __version__, **record["versions"], **converters},
        licence=LICENCE,
        files=(),
        form=asked.form,
    )


def _readable(value: Json) -> Json:
    """The same with escapes for the bytes of a path that is not UTF-8."""
    return {
        name: os.fsencode(inner).decode("utf-8", "backslashreplace") if isinstance(inner, str) else inner
        for name, inner in value.items()
    }


def _metadata(manifest: Manifest, sides: tuple[Reference, Reference]) -> dict[str, str]:
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
        + " and ".join(f"{len(side.inputs):,} inputs of the {side.name}" for side in sides),
    }
    return {f"vae_serve.{name}": value for name, value in facts.items()}


def deployed(model: keras.Model, form: str) -> Network:
    """A trained model as it is exported: folded, and for the form `blocks` with its narrow maps in blocks."""
    return blocked(folded(model, extra_channel=False)) if form == "blocks" else folded(model)


def weights_sha256(*models: keras.Model) -> str:
    """A fingerprint of all weights, in the models' order, with their shapes; float32 little-endian."""
    digest = hashlib.sha256()
    for model in models:
        for weight in model.get_weights():
            digest.update(str(weight.shape).encode())
            digest.update(np.ascontiguousarray(weight, "<f4").data)
    return digest.hexdigest()
