"""What the tests of the export share: models whose BatchNorms do something, and a bundle to spoil."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vae_serve.images import mnist
from vae_serve.model import bundle

PACKAGED = bundle.find(None, exports=Path("nowhere"))
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Trained:
    """An encoder and a decoder of Keras, and rows to try them on."""

    encoder: Any
    decoder: Any
    images: np.ndarray  # (n, H, W, C) uint8
    codes: np.ndarray  # (n, d) float32


def make(arch: str, shape: Shape, latent_dim: int, rows: int = 300) -> Trained:
    """Untrained weights, but biases, and BatchNorms with scales of either sign, shifts and statistics.

    `narrow-dcgan` and `narrow-wide` have the layers of their namesakes, with a twentieth of the filters.
    """
    import keras

    from vae_serve.training.architectures import ARCHITECTURES, Convolutional, build_from

    narrow = {
        "narrow-dcgan": Convolutional(encoder=(8, 16, 24, 48), decoder=(48, 24, 16, 8), kernel=5),
        "narrow-wide": Convolutional(encoder=(48,), decoder=(8,), kernel=5),
    }
    keras.utils.set_random_seed(1)
    stream = np.random.default_rng(1)
    models = build_from((ARCHITECTURES | narrow)[arch], shape, latent_dim)
    for layer in (layer for model in models for layer in model.layers):
        if isinstance(layer, keras.layers.BatchNormalization):
            n = layer.gamma.shape[0]
            scale = stream.uniform(0.3, 1.7, n) * stream.choice([1, 1, 1, -1], n)
            statistics = [stream.normal(0, 0.5, n), stream.normal(0.1, 0.3, n), stream.uniform(0.5, 1.5, n)]
            layer.set_weights([scale, *statistics])
        elif layer.weights:
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel, stream.normal(0, 0.1, bias.shape)])
    digits = mnist.load("test")[0][:rows]
    images = digits if shape == (28, 28, 1) else stream.integers(0, 256, (rows, *shape), dtype=np.uint8)
    return Trained(*models, images, stream.normal(0, 2, (rows, latent_dim)).astype(np.float32))


@pytest.fixture(scope="session")
def small() -> Trained:
    """The small model."""
    return make("conv", (28, 28, 1), 2)


@pytest.fixture
def stranger(tmp_path: Path) -> Path:
    """A sound bundle, the packaged one, to be spoiled."""
    return Path(shutil.copytree(PACKAGED, tmp_path / "stranger"))


@pytest.fixture
def signed() -> Callable[[Path], Path]:
    """Writes the manifest anew, so that its hashes fit whatever was done: what is refused then is the thing itself."""

    def sign(folder: Path) -> Path:
        manifest = bundle.with_files(bundle.read_manifest(folder / bundle.MANIFEST), folder)
        (folder / bundle.MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
        return folder

    return sign
