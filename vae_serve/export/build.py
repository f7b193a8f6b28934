"""A finished run becomes a bundle: convert, pass the gate, and only then take the name."""

import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from vae_serve import __version__, bundle
from vae_serve.bundle import Json, Manifest
from vae_serve.errors import OutputError
from vae_serve.export import conformance, gate, litert
from vae_serve.export.blocks import blocked
from vae_serve.export.card import card
from vae_serve.export.fold import folded
from vae_serve.export.network import Network
from vae_serve.export.onnx import OPSET, ir_version, to_onnx
from vae_serve.export.savedmodel import write_savedmodel
from vae_serve.export.signature import decoder_spec, encoder_spec, serving_function
from vae_serve.parity import TOLERANCE
from vae_serve.train import data
from vae_serve.train.runs import Run

FORMATS = ("onnx", "savedmodel", "litert")
DEFAULT_FORMATS = ("onnx", "savedmodel")  # LiteRT needs an extra of its own
PIXELS = ("float32", "uint8")
FORMS = ("blocks", "layers")
LICENCE = "MIT"


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
        RunError, SourceError: the run or its test images cannot be read.
        MissingExtra: LiteRT was asked for and is not installed.
    """
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
    if out.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        out.rename(old / "replaced")
        aside.rename(out)
        shutil.rmtree(old, ignore_errors=True)
    else:
        aside.rename(out)


def _write(asked: Export, folder: Path) -> Manifest:
    run = asked.run
    config: Json = run.record["config"]
    shape: tuple[int, int, int] = tuple(config["image_shape"])
    encoder, decoder = run.encoder(), run.decoder()
    test_images = data.load(config["data"], config["image_size"]).test_images

    inputs = gate.encoder_side(encoder, encoder_spec(shape, config["latent_dim"], asked.pixels), test_images)
    outputs = gate.decoder_side(decoder, decoder_spec(shape, config["latent_dim"], asked.pixels), inputs.expected[0])
    reports: list[Json] = []
    for side, model in ((inputs, encoder), (outputs, decoder)):
        network = deployed(model, asked.form)
        reports += gate.check(side, "Keras, folded", gate.run_function(serving_function(network, side.spec), side.spec))
        if "savedmodel" in asked.formats:
            path = folder / "saved_model" / side.name
            write_savedmodel(network, side.spec, path)
            reports += gate.check(side, "SavedModel", gate.run_savedmodel(str(path / "1"), side.spec))
        if "onnx" in asked.formats:
            contents = to_onnx(network, side.spec, asked.opset, {})
            (folder / side.spec.file).write_bytes(contents)
            reports += gate.check_onnx(side, contents)
        if "litert" in asked.formats:
            contents = litert.to_litert(network, side.spec)
            (folder / litert.file_of(side.spec)).write_bytes(contents)
            reports += gate.check(side, "LiteRT", litert.run_litert(contents, side.spec))

    conformance.write(folder / "conformance", (inputs, outputs))

    with_onnx = "onnx" in asked.formats
    draft = Manifest(
        schema_version=bundle.SCHEMA_VERSION,
        name=run.record["name"],
        arch=config["arch"],
        latent_dim=config["latent_dim"],
        image_shape=shape,
        pixels=run.record["pixels"],
        encoder=inputs.spec if with_onnx else None,
        decoder=outputs.spec if with_onnx else None,
        opset=asked.opset if with_onnx else None,
        ir_version=ir_version(asked.opset) if with_onnx else None,
        parameters=run.record["parameters"],
        weights_sha256=weights_sha256(encoder, decoder),
        data=run.record["data"],
        training={"command": run.record["command"], **config},
        metrics=run.record["metrics"]["test"],
        parity={"tolerance": TOLERANCE, "reports": reports},
        versions={"vae-serve": __version__, **run.record["versions"]},
        licence=LICENCE,
        files=(),
        form=asked.form,
    )
    (folder / "README.md").write_text(card(draft), encoding="utf-8")
    manifest = bundle.with_files(draft, folder)
    (folder / bundle.MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return manifest


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
