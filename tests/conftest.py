"""What the tests share: the command line in a fresh process, real digits as files, a small run and its bundle."""

import signal
from pathlib import Path

import numpy as np
import pytest
from command_line import Command, run_command
from object_servers import azurite, bucket, careless, seaweed  # noqa: F401  fixtures
from PIL import Image

from vae_serve.images import mnist

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell without job control starts so what is to run in the background, and the processes that are sent Ctrl-C
    # here would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def vae_serve() -> Command:
    """Runs the command line: vae_serve("generate", "--grid", 15, cwd=tmp_path)."""
    return run_command


@pytest.fixture(scope="session")
def digits() -> np.ndarray:
    """The 10,000 test images, (10000, 28, 28, 1) uint8."""
    return mnist.load("test")[0]


@pytest.fixture(scope="session")
def digit_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 300 test digits as PNG files, one folder for each label: 7/00000.png, 2/00001.png, ..."""
    folder = tmp_path_factory.mktemp("digits")
    images, labels = mnist.load("test")
    for index in range(300):
        file = folder / str(labels[index]) / f"{index:05}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(images[index, :, :, 0]).save(file)
    return folder


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2,000 training and 500 test digits with labels, as an .npz like Keras' own mnist.npz."""
    file = tmp_path_factory.mktemp("data") / "digits.npz"
    train_images, train_labels = mnist.load("train")
    test_images, test_labels = mnist.load("test")
    np.savez(
        file,
        x_train=train_images[:2000, :, :, 0],
        y_train=train_labels[:2000],
        x_test=test_images[:500, :, :, 0],
        y_test=test_labels[:500],
    )
    return file


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, small_data: Path) -> Path:
    """A finished run of the small model: one epoch on 2,000 digits."""
    run = tmp_path_factory.mktemp("work") / "runs" / "small"
    done = run_command("train", "--data", small_data, "--epochs", 1, "--out", run, cwd=run.parent.parent)
    assert done.returncode == 0, done.stderr
    return run


@pytest.fixture(scope="session")
def exported(trained: Path) -> Path:
    """The bundle of `trained`, both formats."""
    bundle = trained.parent.parent / "exports" / "small"
    done = run_command("export", trained, "--out", bundle, cwd=bundle.parent.parent)
    assert done.returncode == 0, done.stderr
    return bundle
