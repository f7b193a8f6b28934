"""What each source holds: names in order, labels, bytes; and what none of them may be made to do."""

import gzip
import io
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vae_serve.errors import ImageError, SourceError
from vae_serve.images import mnist
from vae_serve.sources.arrays import Arrays
from vae_serve.sources.names import Numbers, PackedNames, Text, first_folders, shown
from vae_serve.sources.opening import open_source

NAMES = ["a-b/1.png", "a/2.png", "a/b/3.JPG", "top.webp"]  # '-' comes before '/'


def names(source) -> list[str]:
    return [name.decode() for name in source.names[range(source.names.count)]]


def contents(source) -> list[bytes | str]:
    return [one.kind if isinstance(one, ImageError) else one for one in source.read(range(source.names.count))]


@pytest.fixture
def tree(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in [*NAMES, "a/notes.txt", ".hidden.png", "a/.DS_Store"]:
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_bytes(name.encode())
    return tmp_path / "tree"


def test_a_folder_is_read_in_sorted_order_of_relative_paths(tree):
    source = open_source("tree")
    assert names(source) == NAMES
    assert contents(source) == [name.encode() for name in NAMES]
    assert source.labels(range(4)).texts() == [b"a-b", b"a", b"a", None]
    assert source.skipped == {"hidden": 2, "no picture's extension": 1}


def test_links_to_folders_are_followed_but_not_in_circles(tree):
    (tree / "a" / "up").symlink_to(tree)
    (tree / "more").symlink_to(tree / "a" / "b")
    source = open_source("tree")
    assert names(source) == sorted([*NAMES, "more/3.JPG"])
    assert source.skipped["link to a folder around it"] == 1


def test_a_pattern_is_relative_to_the_part_before_its_first_wildcard(tree):
    assert names(open_source("tree/a*/*.png")) == ["a-b/1.png", "a/2.png"]
    assert names(open_source("tree/**/*")) == NAMES
    with pytest.raises(SourceError, match=r"no picture fits the pattern tree/\*\.bmp"):
        open_source("tree/*.bmp")


@pytest.mark.parametrize("separator", ["\n", "\r\n", "\0"])
def test_a_list_names_files_relative_to_the_current_folder(tree, separator):
    Path("list.txt").write_bytes(separator.join(["tree/top.webp", "tree/a/notes.txt", "gone.png", ""]).encode())
    source = open_source("list.txt")
    assert names(source) == ["gone.png", "tree/a/notes.txt", "tree/top.webp"]
    assert contents(source) == ["unreadable", b"a/notes.txt", b"top.webp"]


def test_an_empty_list_is_refused(tree):
    Path("list.txt").write_text("\n")
    with pytest.raises(SourceError, match=r"list\.txt names no files"):
        open_source("list.txt")


def write_zip(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def write_tar(path: Path, members: dict[str, bytes], mode: str) -> None:
    with tarfile.open(path, mode) as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


def write_archive(path: Path, members: dict[str, bytes]) -> None:
    if path.suffix == ".zip":
        write_zip(path, members)
    else:
        write_tar(path, members, {".tar": "w", ".gz": "w:gz", ".xz": "w:xz", ".tbz2": "w:bz2"}[path.suffix])


ARCHIVES = ["x.zip", "x.tar", "x.tar.gz", "x.tar.xz", "x.tbz2"]


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_is_read_in_sorted_order_whatever_its_own(tmp_path, name):
    write_archive(
        tmp_path / name, {one: one.encode() * 50 for one in [*reversed(NAMES), "notes.txt", "__MACOSX/1.png"]}
    )
    source = open_source(str(tmp_path / name))
    assert names(source) == NAMES
    assert contents(source) == [one.encode() * 50 for one in NAMES]
    assert source.labels(range(4)).texts() == [b"a-b", b"a", b"a", None]
    assert source.skipped == {"hidden": 1, "no picture's extension": 1}


@pytest.mark.parametrize("name", ARCHIVES)
def test_members_that_lead_out_of_an_archive_are_rows_and_write_nothing(tmp_path, name):
    inner = tmp_path / "inner"
    inner.mkdir()
    write_archive(inner / name, {"../out.png": b"x", "/etc/out.png": b"x", "a/../../b.png": b"x", "fine.png": b"fine"})
    assert sorted(map(str, contents(open_source(str(inner / name))))) == sorted(
        ["unsafe_name", "unsafe_name", "unsafe_name", "b'fine'"]
    )
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_cut_short_is_refused_since_nothing_says_what_is_missing(tmp_path, name):
    path = tmp_path / name
    write_archive(path, {f"{number}.png": os.urandom(3000) for number in range(9)})
    path.write_bytes(path.read_bytes()[:12_000])
    why = "has no directory of its members" if name.endswith(".zip") else "is cut short"
    with pytest.raises(SourceError, match=f"{re.escape(str(path))} .*{why}"):
        open_source(str(path))


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_file_that_is_no_archive_is_refused(tmp_path, name):
    (tmp_path / name).write_text("not an archive, but long enough for one" * 99)
    with pytest.raises(SourceError, match=r"cannot be read as a (zip|tar) archive"):
        open_source(str(tmp_path / name))


def test_an_encrypted_member_is_a_row(tmp_path):
    write_zip(tmp_path / "x.zip", {"a.png": b"secret", "b.png": b"open"}, zipfile.ZIP_STORED)
    data = bytearray((tmp_path / "x.zip").read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1  # the first central header's flags, bit 0
    (tmp_path / "x.zip").write_bytes(data)
    assert contents(open_source(str(tmp_path / "x.zip"))) == ["encrypted", b"open"]


def test_a_member_packed_by_an_odd_method_is_a_row(tmp_path):
    write_zip(tmp_path / "x.zip", {"a.png": b"bzip2"}, zipfile.ZIP_BZIP2)
    assert contents(open_source(str(tmp_path / "x.zip"))) == ["unsupported"]


def test_a_zip_bomb_is_unpacked_no_further_than_it_declares(tmp_path):
    write_zip(tmp_path / "x.zip", {"a.png": bytes(50_000_000)})
    data = bytearray((tmp_path / "x.zip").read_bytes())
    at = data.index(b"PK\1\2") + 24  # the declared size
    data[at : at + 4] = (1000).to_bytes(4, "little")
    (tmp_path / "x.zip").write_bytes(data)
    assert contents(open_source(str(tmp_path / "x.zip"))) == ["damaged"]


def test_a_member_that_declares_too_much_is_not_unpacked(tmp_path):
    write_zip(tmp_path / "x.zip", {"a.png": b"x"})
    data = bytearray((tmp_path / "x.zip").read_bytes())
    at = data.index(b"PK\1\2") + 24
    data[at : at + 4] = (4_000_000_000).to_bytes(4, "little")
    (tmp_path / "x.zip").write_bytes(data)
    assert contents(open_source(str(tmp_path / "x.zip"))) == ["too_large"]


def test_a_damaged_member_is_a_row(tmp_path):
    write_zip(tmp_path / "x.zip", {"a.png": b"aaaa", "b.png": b"bbbb"}, zipfile.ZIP_STORED)
    (tmp_path / "x.zip").write_bytes((tmp_path / "x.zip").read_bytes().replace(b"aaaa", b"aaab", 1))
    assert contents(open_source(str(tmp_path / "x.zip"))) == ["checksum", b"bbbb"]


@pytest.mark.parametrize("name", ["x.zip", "x.tar"])
def test_a_changed_archive_has_another_fingerprint(tmp_path, name):
    write_archive(tmp_path / name, {"a.png": b"one"})
    before = open_source(str(tmp_path / name)).fingerprint()
    write_archive(tmp_path / name, {"a.png": b"other"})
    assert open_source(str(tmp_path / name)).fingerprint() != before


PICTURES = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)


def test_npy_holds_pictures_named_by_their_numbers(tmp_path):
    np.save(tmp_path / "x.npy", PICTURES)
    source = open_source(str(tmp_path / "x.npy"))
    assert isinstance(source, Arrays)
    assert np.array_equal(source[range(1, 3)], PICTURES[1:, ..., np.newaxis])
    assert names(source) == ["00000000", "00000001", "00000002"]
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


@pytest.mark.parametrize("kind", ["bytes", "struct"])
def test_parquet_gives_its_rows_in_order_across_row_groups(tmp_path, kind):
    files = [b"%d" % row for row in range(10)]
    column = files if kind == "bytes" else [{"bytes": file, "path": "x"} for file in files]
    pq.write_table(pa.table({"image": column, "label": list(range(10))}), tmp_path / "x.parquet", row_group_size=3)
    source = open_source(str(tmp_path / "x.parquet"))
    assert names(source)[:2] == ["00000000", "00000001"]
    assert list(source.read(range(2, 8))) == files[2:8]
    assert list(source.read(range(0, 2))) == files[:2]
    assert source.labels(range(8, 10)).texts() == [b"8", b"9"]


def test_a_null_in_parquet_is_a_row_of_its_own(tmp_path):
    pq.write_table(pa.table({"image": pa.array([b"a", None, b"c"])}), tmp_path / "x.parquet")
    assert contents(open_source(str(tmp_path / "x.parquet"))) == [b"a", "empty", b"c"]


def test_parquet_without_pictures_is_refused(tmp_path):
    pq.write_table(pa.table({"number": [1]}), tmp_path / "x.parquet")
    with pytest.raises(SourceError, match=r"no columns of pictures .* among number"):
        open_source(str(tmp_path / "x.parquet"))
    (tmp_path / "y.parquet").write_text("not Parquet")
    with pytest.raises(SourceError, match="cannot be read as Parquet"):
        open_source(str(tmp_path / "y.parquet"))


@pytest.mark.parametrize(
    ("word", "said"), [("gone", "gone is not there"), ("x.doc", "of no known kind: give a folder")]
)
def test_what_is_no_source_is_refused_with_the_kinds_there_are(tmp_path, monkeypatch, word, said):
    monkeypatch.chdir(tmp_path)
    Path("x.doc").touch()
    with pytest.raises(SourceError, match=said):
        open_source(word)


@pytest.mark.parametrize("count", [1, 63, 64, 65, 1000])
def test_packed_names_are_the_names(count):
    listed = [b"%d" % number * (number % 7 + 1) for number in range(count)]
    packed = PackedNames(listed)
    assert packed.count == count
    for rows in (range(count), range(count // 3, count // 2), range(max(count - 3, 0), count)):
        assert packed[rows] == listed[rows.start : rows.stop]
        assert cut(packed.text(rows)) == packed[rows]


def cut(names: Text) -> list[bytes]:
    """Names end to end, one by one."""
    text, offsets = names
    assert offsets[-1] == len(text)
    return [text[start:stop] for start, stop in pairwise(offsets.tolist())]


def test_numbers_sort_as_they_count():
    assert Numbers(3)[range(1, 3)] == [b"00000001", b"00000002"]
    assert cut(Numbers(123_456_790).text(range(99_999, 100_001))) == [b"000099999", b"000100000"]
    assert len(Numbers(10**9)[range(5, 6)][0]) == 9


def test_a_name_that_is_no_utf8_is_shown_with_escapes():
    names = PackedNames([b"caf\xc3\xa9.png", b"caf\xe9.png"])
    assert cut(names.text(range(2))) == ["café.png".encode(), b"caf\\xe9.png"]
    assert cut(names.text(range(1, 2))) == [b"caf\\xe9.png"]


@given(
    st.lists(st.binary(max_size=5).map(lambda part: part.replace(b"\0", b"/")), unique=True, max_size=30).map(sorted)
)
def test_the_first_folder_is_the_label(names):
    expected = []
    for name in names:
        *folders, _ = name.split(b"/")
        real = [folder for folder in folders if folder not in {b"", b".", b".."}]
        expected.append(real[0] if real and folders[0] else None)
    assert first_folders(names).texts() == [text and shown(text).encode() for text in expected]


def test_a_listing_ends_with_the_one_who_asked_for_it(tmp_path):
    """Its names are more than a pipe holds, so that it waits to be read when its parent is killed."""
    for number in range(400):
        (tmp_path / f"{number:04}{'x' * 200}.png").touch()
    code = f"""
import os, sys
from pathlib import Path
from vae_serve.sources.listing import Listing
listing = Listing(Path({str(tmp_path)!r}))
assert not listing.takes_longer_than(30)
os.kill(os.getpid(), 9)
"""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent.parent)}
    process = subprocess.Popen([sys.executable, "-c", code], env=env, stderr=subprocess.PIPE)
    _, said = process.communicate(timeout=60)  # until nobody holds its stderr any more
    assert (process.returncode, said) == (-9, b"")
