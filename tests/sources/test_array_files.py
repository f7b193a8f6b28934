"""Files of numbers: npy, npz, IDX and the packaged set; their labels, and what is refused."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from opened import names_of

from vae_serve.errors import SourceError
from vae_serve.images import mnist
from vae_serve.sources.arrays import Arrays
from vae_serve.sources.opening import open_source

PICTURES = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)


def test_npy_holds_pictures_named_by_their_numbers(tmp_path):
    np.save(tmp_path / "x.npy", PICTURES)
    source = open_source(str(tmp_path / "x.npy"))
    assert isinstance(source, Arrays)
    assert np.array_equal(source[range(1, 3)], PICTURES[1:, ..., np.newaxis])
    assert names_of(source) == ["00000000", "00000001", "00000002"]
    assert source.labels(range(3)).texts() == [None] * 3


@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_is_read_piece_by_piece_in_either_order_of_axes(tmp_path, order):
    np.save(tmp_path / "x.npy", np.asarray(PICTURES / 255, order=order))
    source = open_source(str(tmp_path / "x.npy"))
    assert np.array_equal(source[range(1, 2)][..., 0], PICTURES[1:2] / 255)


def test_npz_with_one_array_of_pictures_brings_its_labels(tmp_path):
    np.savez(tmp_path / "x.npz", pictures=PICTURES, labels=np.array([7, 8, 9]))
    source = open_source(str(tmp_path / "x.npz"))
    assert source.labels(range(1, 3)).texts() == [b"8", b"9"]


def test_npz_with_several_wants_one_named(tmp_path):
    np.savez(tmp_path / "x.npz", x_train=PICTURES, y_train=[1, 2, 3], x_test=PICTURES[:2], y_test=[4, 5])
    with pytest.raises(SourceError, match=r"2 arrays of pictures .*say which: .*x\.npz:x_train"):
        open_source(str(tmp_path / "x.npz"))
    assert open_source(f"{tmp_path}/x.npz:x_test").labels(range(2)).texts() == [b"4", b"5"]
    with pytest.raises(SourceError, match="holds no array 'x_valid'"):
        open_source(f"{tmp_path}/x.npz:x_valid")


@pytest.mark.parametrize("form", ["npy", "npz"])
def test_an_array_of_objects_is_refused_and_never_unpickled(tmp_path, form):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "trapped",))

    trap = np.array([Trap(), Trap()], object)
    {"npy": np.save, "npz": np.savez}[form](tmp_path / f"x.{form}", trap)
    with pytest.raises(SourceError, match="cannot be read"):
        open_source(str(tmp_path / f"x.{form}"))
    assert not (tmp_path / "trapped").exists()


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (PICTURES.astype("U3"), r"holds <U3; pictures are integers 0\.\.255 or floats 0\.\.1"),
        (np.full((2, 4, 5), 4095, np.uint16), "up to 4,095 in uint16: too much for 8 bits"),
        (PICTURES[0], r"has the shape \(4, 5\)"),
        (PICTURES[:0], "holds no pictures"),
    ],
)
def test_an_array_that_is_no_pictures_is_refused(tmp_path, array, said):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(SourceError, match=said):
        open_source(str(tmp_path / "x.npy"))


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape) + array.tobytes()


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_brings_the_labels_of_the_file_beside_it(tmp_path, suffix):
    pack = gzip.compress if suffix else bytes
    (tmp_path / f"t10k-images-idx3-ubyte{suffix}").write_bytes(pack(idx(PICTURES)))
    (tmp_path / f"t10k-labels-idx1-ubyte{suffix}").write_bytes(pack(idx(np.array([3, 1, 2], np.uint8))))
    source = open_source(str(tmp_path / f"t10k-images-idx3-ubyte{suffix}"))
    assert np.array_equal(source[range(3)][..., 0], PICTURES)
    assert source.labels(range(3)).texts() == [b"3", b"1", b"2"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"text", "is not an IDX file of bytes"),
        (idx(PICTURES)[:-1], "declares .*, 60 bytes, and holds 59"),
        (idx(PICTURES) + b"!", "declares .* and holds 1 bytes more"),
        (b"\0\0\x08", "cannot be read"),
    ],
)
def test_an_idx_file_that_is_none_is_refused(tmp_path, data, said):
    (tmp_path / "x-ubyte").write_bytes(data)
    with pytest.raises(SourceError, match=said):
        open_source(str(tmp_path / "x-ubyte"))


def test_mnist_is_the_packaged_test_set(digits):
    source = open_source("mnist")
    assert np.array_equal(source[range(10_000)], digits)
    assert source.labels(range(3)).texts() == [b"7", b"2", b"1"]
    assert mnist.load("test")[1][:3].tolist() == [7, 2, 1]
