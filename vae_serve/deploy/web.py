"""A folder for any static file server: a page that runs the model in the visitor's browser.

index.html, style.css, *.js     the page, from `page/` beside this module, unchanged
runtime/                        ONNX Runtime Web with its licence (see scripts/pack_web_runtime)
encoder.onnx, decoder.onnx      the bundle's own bytes
conformance/                    inputs and expected outputs, for the page's self-check
scatter/                        encoded test images and their classes, if the data is available
model.json                      what the page needs, with size and SHA-256 of every file that it loads
"""

import gzip
import hashlib
import io
import lzma
import math
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from vae_serve import quoting
from vae_serve.deploy import readme
from vae_serve.errors import BundleError
from vae_serve.images import mnist
from vae_serve.model.bundle import Bundle
from vae_serve.model.conformance import tolerance as read_tolerance
from vae_serve.model.manifest import GraphSpec, Manifest, Role
from vae_serve.model.model import Model

SPAN = 4.0  # of the plane where no scatter tells how far it reaches; the prior's four standard deviations
SPANS = (3.0, 8.0)
REACH = 0.998  # the part of the scatter's coordinates that the plane must show

Array = npt.NDArray[Any]


def write(bundle: Bundle, into: Path) -> None:
    """Writes the page for `bundle` into the empty folder `into`.

    Raises:
        BundleError: as `page` does.
    """
    for name, contents in page(bundle).items():
        (into / name).parent.mkdir(parents=True, exist_ok=True)
        (into / name).write_bytes(contents)
    (into / "README.md").write_text(readme.web(bundle.manifest), encoding="utf-8")


def page(bundle: Bundle, service: dict[Role, str] | None = None) -> dict[str, bytes]:
    """The files of the page for `bundle`, by their names.

    `service`: for a page that comes from a service, under which names it runs the networks; the page asks it where the
    browser cannot run them.

    Raises:
        BundleError: the bundle has no ONNX files, no conformance vectors, or fewer than two latent dimensions.
    """
    manifest = bundle.manifest
    if manifest.encoder is None or manifest.decoder is None:
        raise BundleError(f"{bundle.path} holds no ONNX files, which web needs; export them: vae-serve export")
    if manifest.latent_dim < 2:
        raise BundleError(f"{bundle.path} has one latent dimension; a plane needs two or more")
    graphs = (manifest.encoder, manifest.decoder)
    loaded: dict[str, bytes] = {graph.file: bundle.read(graph.file) for graph in graphs}
    conformance: dict[str, Any] = {"tolerance": _tolerance(bundle)}
    for network, graph in (("encoder", manifest.encoder), ("decoder", manifest.decoder)):
        conformance[network], vectors = _vectors(bundle, network, graph)
        loaded |= vectors
    z, labels = _scatter(bundle)
    if len(z):
        loaded |= {"scatter/z.npy": _npy(z), "scatter/labels.npy": _npy(labels)}

    written = _own_files(files("vae_serve.deploy") / "page", "")
    runtime, wasm = _unpack_runtime(written)
    facts = {
        "name": manifest.name,
        "latent_dim": manifest.latent_dim,
        "image_shape": manifest.image_shape,
        "encoder": _graph(manifest.encoder),
        "decoder": _graph(manifest.decoder),
        "service": service,
        "runtime": {"file": runtime},
        "conformance": conformance,
        "scatter": {"z": "scatter/z.npy", "labels": "scatter/labels.npy"} if len(z) else None,
        "classes": [str(label) for label in sorted(set(labels.tolist()))],
        "span": _span(z),
        "walk": _walk(z, labels, manifest.latent_dim),
        "about": _about(manifest),
        "files": {
            name: {"bytes": len(contents), "sha256": hashlib.sha256(contents).hexdigest()}
            for name, contents in {**loaded, runtime: wasm}.items()
        },
    }
    return {**written, **loaded, "model.json": (quoting.json(facts, indent=1) + "\n").encode()}


def _tolerance(bundle: Bundle) -> dict[str, float]:
    """For each type of tensor, as the bundle states it."""
    return read_tolerance(bundle)


def _graph(graph: GraphSpec) -> dict[str, Any]:
    """What the page must know to run a graph."""
    return {
        "file": graph.file,
        "inputs": msgspec.to_builtins(graph.inputs),
        "outputs": msgspec.to_builtins(graph.outputs),
    }


def _vectors(bundle: Bundle, network: str, graph: GraphSpec) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Where the page finds the conformance vectors of one network, and the files themselves."""
    files = {tensor.name: f"conformance/{network}/{tensor.name}.npy" for tensor in (*graph.inputs, *graph.outputs)}
    spec = {
        "input": files[graph.inputs[0].name],
        "outputs": {tensor.name: files[tensor.name] for tensor in graph.outputs},
    }
    return spec, {file: bundle.read(file) for file in files.values()}


def _scatter(bundle: Bundle) -> tuple[Array, Array]:
    """The packaged test images encoded, (n, d) float32, and their classes, (n,) uint8; none for other data."""
    if bundle.manifest.data.get("name") != "mnist":
        return np.empty((0, bundle.manifest.latent_dim), np.float32), np.empty(0, np.uint8)
    images, labels = mnist.load("test")
    z_mean, _ = Model(bundle).encode(images)
    return z_mean, labels


def _span(z: Array) -> float:
    if not len(z):
        return SPAN
    return min(max(math.ceil(2 * float(np.quantile(np.abs(z), REACH))) / 2, SPANS[0]), SPANS[1])


def _walk(z: Array, labels: Array, latent_dim: int) -> list[list[float]]:
    """Two ends worth walking between: the means of the two classes that lie furthest apart."""
    if not len(z):
        return [[-1.0] * latent_dim, [1.0] * latent_dim]
    means = np.stack([z[labels == label].mean(axis=0) for label in np.unique(labels)])
    apart = np.linalg.norm(means[:, None] - means[None], axis=2)
    ends = np.unravel_index(int(apart.argmax()), apart.shape)
    return [means[end].round(3).tolist() for end in ends]


def _about(manifest: Manifest) -> list[str]:
    """Two lines at the page's foot. The page shows them as text, never as HTML."""
    elbo, unit = manifest.metrics.get("negative_elbo"), manifest.metrics.get("unit", "")
    figure = f" Negative ELBO on the test images: {elbo:.1f} {unit}." if isinstance(elbo, float) else ""
    counts = [manifest.parameters.get(network) for network in ("encoder", "decoder")]
    parameters = sum(count for count in counts if isinstance(count, int))
    return [
        f"{manifest.arch}, {manifest.latent_dim} latent dimensions, {parameters:,} parameters.{figure}",
        f"Data: {manifest.data.get('name', 'unknown')} ({manifest.data.get('licence', 'licence unknown')}). "
        f"Model: {manifest.licence}. Runs on ONNX Runtime Web (MIT).",
    ]


def _npy(array: Array) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _own_files(folder: Traversable, below: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for entry in folder.iterdir():
        name = f"{below}{entry.name}"
        found |= _own_files(entry, f"{name}/") if entry.is_dir() else {name: entry.read_bytes()}
    return found


def _unpack_runtime(files: dict[str, bytes]) -> tuple[str, bytes]:
    """What is packed as xz for the wheel becomes gzip, which browsers unpack: the file's name, and its contents."""
    [packed] = [name for name in files if name.endswith(".wasm.xz")]
    [notices] = [name for name in files if name.endswith("ThirdPartyNotices.txt.xz")]
    wasm = lzma.decompress(files.pop(packed))
    target = f"{packed.removesuffix('.xz')}.gz"
    files[target] = gzip.compress(wasm, mtime=0)
    files[notices.removesuffix(".xz")] = lzma.decompress(files.pop(notices))
    return target, wasm
