"""A service over the committed bundle, and what ONNX Runtime gives for the same."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from serving import MNIST, Service, serving

sys.path.append(str(Path(__file__).parents[1] / "tasks"))  # linear_bundle


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that tests share: none of them changes or ends it."""
    with serving("--model", MNIST, cwd=tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.fixture(scope="session")
def images(digits: np.ndarray) -> np.ndarray:
    """256 test images as floats 0..1."""
    return digits[:256] * np.float32(1 / 255)


@pytest.fixture(scope="session")
def points() -> np.ndarray:
    """256 samples of the prior."""
    return np.random.default_rng(3).standard_normal((256, 2)).astype(np.float32)


class Expected:
    """ONNX Runtime over the bundle's own graphs."""

    def __init__(self, bundle: Path) -> None:
        self._sessions = {role: ort.InferenceSession(bundle / f"{role}.onnx") for role in ("encoder", "decoder")}

    def encode(self, images: np.ndarray) -> list[np.ndarray]:
        """z_mean and z_log_var."""
        return self._sessions["encoder"].run(["z_mean", "z_log_var"], {"image": images})

    def decode(self, z: np.ndarray) -> np.ndarray:
        """The images."""
        return self._sessions["decoder"].run(["image"], {"z": z})[0]


@pytest.fixture(scope="session")
def expected() -> Expected:
    """What the networks of the committed bundle give."""
    return Expected(MNIST)
