"""Arrays of any origin: read by what they hold, labelled as people label, never allocated on their header's word."""

import gzip
import struct
import zipfile

import numpy as np
import pytest
from opened import labels

from vae_serve.errors import SourceError
from vae_serve.sources.arrays import Arrays
from vae_serve.sources.npy import parse_header
from vae_serve.sources.opening import open_source

PICTURES = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)


def pictures(path: object) -> np.ndarray:
    source = open_source(str(path))
    assert isinstance(source, Arrays)
    return source[range(source.names.count)]


def npy(header: str, data: bytes = b"", version: int = 1) -> bytes:
    text = header.encode()
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(text)) + text + data


def header(descr: str = "|u1", order: object = False, shape: str = "(3, 4, 5)") -> str:
    return f"{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n"


@pytest.mark.parametrize("dtype", ["u1", "<f4", ">f4", "<f8", ">f8", "<f2", ">f2"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("save", ["npy", "savez", "savez_compressed"])
def test_any_float_in_any_order_of_bytes_and_axes_is_read(tmp_path, dtype, order, save):
    array = np.asarray(PICTURES if dtype == "u1" else PICTURES / 64, dtype=dtype, order=order)
    path = tmp_path / ("x.npy" if save == "npy" else "x.npz")
    if save == "npy":
        np.save(path, array)
    else:
        getattr(np, save)(path, x=array)
    assert np.array_equal(pictures(path)[..., 0], array)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_all_versions_of_npy_are_read_as_others_write_them(tmp_path, version):
    (tmp_path / "x.npy").write_bytes(npy(header(), PICTURES.tobytes(), version))
    assert np.array_equal(pictures(tmp_path / "x.npy")[..., 0], PICTURES)
    old = """{"shape": (3L, 4L, 5L), 'fortran_order':False,'descr':"|u1"}"""
    (tmp_path / "x.npy").write_bytes(npy(old, PICTURES.tobytes(), version))
    assert np.array_equal(pictures(tmp_path / "x.npy")[..., 0], PICTURES)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (header(shape="(3, -4, 5)"), "its header is"),
        (header(shape="(99999999999999999999,)"), "its shape is"),
        (header(shape="(4294967296, 4294967296, 4)"), "is cut short: it declares"),
        (header(shape="()"), r"has the shape \(\)"),
        (header(shape="(3, 0, 5)"), "holds no pictures"),
        (header(shape="(0, 999999999999999999, 5)"), "holds no pictures"),
        (header(descr="|O"), "Python objects, which are never unpickled"),
        (header(descr="<f3"), "none of numbers or text"),
        (header(descr="<M8[ns]"), "none of numbers or text"),
        (header(descr="<U999999999"), "cut short|none of numbers"),
        ("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (3,), }", "records of several fields"),
        (header(order="1"), "its header is"),
        ("{" * 5000, "its header is"),
        ("{'descr': '|u1', 'descr': '|u1', 'fortran_order': False, 'shape': (3, 4, 5)}", "its header is"),
        ("__import__('os').abort()", "its header is"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_header_that_is_none_or_lies_is_refused(tmp_path, text, said, packed):
    data = npy(text, PICTURES.tobytes())
    if packed:
        with zipfile.ZipFile(tmp_path / "x.npy", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x.npy", data)
        said += "|is damaged: its shape|holds nothing"
    else:
        (tmp_path / "x.npy").write_bytes(data)
        said += "|bytes after its array"
    with pytest.raises(SourceError, match=said):
        open_source(str(tmp_path / "x.npy"))


def test_a_header_longer_than_any_is_refused():
    with pytest.raises(SourceError, match="damaged or cut short"):
        parse_header(npy(" " * 70_000 + header(), version=2), "x")


def test_data_after_an_array_are_not_passed_over(tmp_path):
    with (tmp_path / "x.npy").open("wb") as file:
        np.save(file, PICTURES)
        np.save(file, PICTURES)
    with pytest.raises(SourceError, match="bytes after its array"):
        open_source(str(tmp_path / "x.npy"))


def test_a_file_is_what_its_bytes_say(tmp_path):
    np.save(tmp_path / "a.npy", PICTURES)
    (tmp_path / "a.npy").rename(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", x=PICTURES, y=[1, 2, 3])
    (tmp_path / "b.npz").rename(tmp_path / "b.npy")
    assert np.array_equal(pictures(tmp_path / "a.npz")[..., 0], PICTURES)
    assert labels(tmp_path / "b.npy") == [b"1", b"2", b"3"]
    (tmp_path / "c.npz").write_bytes(b"<html>not found</html>")
    with pytest.raises(SourceError, match=r"neither a \.npy nor a \.npz file"):
        open_source(str(tmp_path / "c.npz"))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_cut_or_changed_npz_is_refused(tmp_path, save):
    save(tmp_path / "x.npz", x=np.random.default_rng(0).integers(0, 255, (3, 40, 50), np.uint8))
    whole = (tmp_path / "x.npz").read_bytes()
    for data in (whole[:1000], whole[:2000] + b"!" + whole[2001:]):
        (tmp_path / "x.npz").write_bytes(data)
        with pytest.raises(SourceError, match=r"x\.npz"):
            open_source(str(tmp_path / "x.npz"))


def test_an_npz_bomb_is_stopped_at_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr("vae_serve.sources.unpacking._LEAST_LIMIT", 1 << 20)
    np.savez_compressed(tmp_path / "x.npz", x=np.zeros((2000, 28, 28), np.uint8))
    with pytest.raises(SourceError, match="unpacks to more than 1,048,576 bytes"):
        open_source(str(tmp_path / "x.npz"))


def test_a_large_compressed_array_is_unpacked_into_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr("vae_serve.sources.npz.IN_MEMORY", 10)
    np.savez_compressed(tmp_path / "x.npz", x=PICTURES, y=["a", "b", "c"])
    assert np.array_equal(pictures(tmp_path / "x.npz")[..., 0], PICTURES)
    assert labels(tmp_path / "x.npz") == [b"a", b"b", b"c"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[7], [8], [9]]), [b"7", b"8", b"9"]),
        (np.array([b"cat", b"dog", b"caf\xe9"]), [b"cat", b"dog", b"caf\\xe9"]),
        (np.array(["cat", "dog", "é"]), [b"cat", b"dog", "é".encode()]),
        (np.array([7.0, 7.5, np.nan]), [b"7", b"7.5", None]),
        (np.array([0.1, 1e300, -3], np.float64), [b"0.1", b"1e+300", b"-3"]),
        (np.array([0.1, 0.2, 0.3], np.float32), [b"0.1", b"0.2", b"0.3"]),
        (np.array([True, False, True]), [b"True", b"False", b"True"]),
        (np.eye(3), [b"0", b"1", b"2"]),
        (np.array([[0, 1], [1, 0], [0, 1]]), [b"1", b"0", b"1"]),
        (np.array([[0, 1], [1, 1], [0, 0]]), [b"[0, 1]", b"[1, 1]", b"[0, 0]"]),
        (np.array(5), [None] * 3),
        (np.array([7, 8, 9], ">i8"), [b"7", b"8", b"9"]),
    ],
)
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_labels_are_text_as_a_reader_would_write_them(tmp_path, values, expected, save):
    save(tmp_path / "x.npz", x=PICTURES, y=values)
    assert labels(tmp_path / "x.npz") == expected


@pytest.mark.parametrize(
    ("images", "other"),
    [
        ("x_test", "y_test"),
        ("X_test", "y_test"),
        ("X", "y"),
        ("x", "Y"),
        ("test_images", "test_labels"),
        ("images_val", "labels_val"),
        ("data", "targets"),
        ("photos", "labels"),
    ],
)
def test_labels_are_found_by_the_name_of_the_pictures(tmp_path, images, other):
    np.savez(tmp_path / "x.npz", **{other: [7, 8, 9], images: PICTURES, "y_train": np.arange(99)})
    assert labels(tmp_path / "x.npz") == [b"7", b"8", b"9"]


@pytest.mark.parametrize(
    ("values", "said"),
    [(np.arange(4), "3 pictures and 4 labels"), (np.array(["a", None, 1], object), "never unpickled")],
)
def test_labels_that_cannot_be_used_are_refused(tmp_path, values, said):
    np.savez(tmp_path / "x.npz", x=PICTURES, y=values)
    with pytest.raises(SourceError, match=said):
        open_source(str(tmp_path / "x.npz"))


def idx(shape: tuple[int, ...], data: bytes) -> bytes:
    return bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + data


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("shape", [(0xFFFFFFFF, 0xFFFFFFFF, 2), (1 << 31, 1 << 31, 4), (3, 4, 6)])
def test_an_idx_file_is_held_to_what_it_declares(tmp_path, pack, shape):
    name = tmp_path / ("x-ubyte" if pack is bytes else "x-ubyte.gz")
    name.write_bytes(pack(idx(shape, PICTURES.tobytes())))
    with pytest.raises(SourceError, match="is cut short: it declares"):
        open_source(str(name))


def test_a_gzipped_idx_file_is_checked_to_its_end(tmp_path):
    packed = bytearray(gzip.compress(idx(PICTURES.shape, PICTURES.tobytes())))
    (tmp_path / "x-ubyte.gz").write_bytes(bytes(packed[:-1]))
    with pytest.raises(SourceError, match="cut short"):
        open_source(str(tmp_path / "x-ubyte.gz"))
    packed[-6] ^= 1
    (tmp_path / "x-ubyte.gz").write_bytes(bytes(packed))
    with pytest.raises(SourceError, match="damaged"):
        open_source(str(tmp_path / "x-ubyte.gz"))


def test_an_array_cut_while_it_is_read_is_an_error(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, PICTURES)
    source = open_source(str(path))
    with path.open("r+b") as file:
        file.truncate(150)
    with pytest.raises(SourceError, match="was cut short while it was read"):
        source[range(3)]
