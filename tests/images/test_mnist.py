"""The packaged MNIST is the published one, and a damaged copy is refused."""

import lzma

import numpy as np
import pytest

from vae_serve.errors import SourceError
from vae_serve.images import mnist


@pytest.mark.parametrize(
    ("split", "count", "first"), [("train", 60_000, [5, 0, 4, 1, 9]), ("test", 10_000, [7, 2, 1, 0, 4])]
)
def test_a_split_has_the_published_size_and_begins_with_the_published_labels(split, count, first):
    images, labels = mnist.load(split)
    assert images.shape == (count, 28, 28, 1)
    assert images.dtype == labels.dtype == np.uint8
    assert labels[:5].tolist() == first
    assert labels.shape == (count,)


def test_zero_is_background_and_255_is_ink():
    images, _ = mnist.load("test")
    assert images[:, 0, 0].max() == 0
    assert images.max() == 255


def test_a_damaged_copy_is_refused_by_name(tmp_path, monkeypatch):
    (tmp_path / "mnist_data").mkdir()
    (tmp_path / "mnist_data" / "t10k-images-idx3-ubyte.xz").write_bytes(lzma.compress(b"something else"))
    monkeypatch.setattr(mnist, "files", lambda _: tmp_path)
    with pytest.raises(SourceError, match=r"t10k-images-idx3-ubyte\.xz is damaged"):
        mnist.load("test")


def test_a_truncated_copy_is_refused_by_name(tmp_path, monkeypatch):
    (tmp_path / "mnist_data").mkdir()
    (tmp_path / "mnist_data" / "t10k-images-idx3-ubyte.xz").write_bytes(lzma.compress(b"x" * 1000)[:-10])
    monkeypatch.setattr(mnist, "files", lambda _: tmp_path)
    with pytest.raises(SourceError, match="cannot be read"):
        mnist.load("test")
