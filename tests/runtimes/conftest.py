"""Bundles of the small run in every format, and the scripts that try them in other runtimes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from vae_serve.images.pixels import to_bytes


@pytest.fixture(scope="session")
def everywhere(trained, vae_serve) -> Path:
    """The bundle of `trained` in every format."""
    bundle = trained.parent.parent / "exports" / "everywhere"
    formats = [word for name in ("onnx", "savedmodel", "litert") for word in ("--format", name)]
    done = vae_serve("export", trained, *formats, "--out", bundle, cwd=bundle.parent.parent)
    assert done.returncode == 0, done.stderr
    return bundle


@pytest.fixture(scope="session")
def raw(trained, vae_serve) -> Path:
    """The bundle of `trained` with bytes for pixels."""
    bundle = trained.parent.parent / "exports" / "raw"
    done = vae_serve(
        "export", trained, "--format", "onnx", "--pixels", "uint8", "--out", bundle, cwd=bundle.parent.parent
    )
    assert done.returncode == 0, done.stderr
    return bundle


@pytest.fixture(scope="session")
def of_bytes(raw, tmp_path_factory) -> Path:
    """The graphs and vectors of `raw` for bytes alone, under the names that the examples open."""
    folder = Path(shutil.copytree(raw, tmp_path_factory.mktemp("bytes") / "raw"))
    for role in ("encoder", "decoder"):
        (folder / f"{role}.uint8.onnx").replace(folder / f"{role}.onnx")
        image = folder / "conformance" / role / "image.npy"
        np.save(image, to_bytes(np.load(image)))
    return folder


@pytest.fixture(scope="session")
def of_mnist(everywhere, tmp_path_factory) -> Path:
    """`everywhere`, which has seen MNIST digits, under MNIST's name, by which `deploy web` knows the test images."""
    bundle = tmp_path_factory.mktemp("exports") / "of-mnist"
    shutil.copytree(everywhere, bundle)
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["data"]["name"] = "mnist"
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    return bundle
