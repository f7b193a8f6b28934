"""What each source holds: names in order, labels, bytes; and what none of them may be made to do."""

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opened import contents_of, names_of

from vae_serve.errors import SourceError
from vae_serve.sources.names import Numbers, PackedNames, Text, first_folders, shown
from vae_serve.sources.opening import open_source

NAMES = ["a-b/1.png", "a/2.png", "a/b/3.JPG", "top.webp"]  # '-' comes before '/'


@pytest.fixture
def tree(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in [*NAMES, "a/notes.txt", ".hidden.png", "a/.DS_Store"]:
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_bytes(name.encode())
    return tmp_path / "tree"


def test_a_folder_is_read_in_sorted_order_of_relative_paths(tree):
    source = open_source("tree")
    assert names_of(source) == NAMES
    assert contents_of(source) == [name.encode() for name in NAMES]
    assert source.labels(range(4)).texts() == [b"a-b", b"a", b"a", None]
    assert source.skipped == {"hidden": 2, "no picture's extension": 1}


def test_links_to_folders_are_followed_but_not_in_circles(tree):
    (tree / "a" / "up").symlink_to(tree)
    (tree / "more").symlink_to(tree / "a" / "b")
    source = open_source("tree")
    assert names_of(source) == sorted([*NAMES, "more/3.JPG"])
    assert source.skipped["link to a folder around it"] == 1


def test_a_pattern_is_relative_to_the_part_before_its_first_wildcard(tree):
    assert names_of(open_source("tree/a*/*.png")) == ["a-b/1.png", "a/2.png"]
    assert names_of(open_source("tree/**/*")) == NAMES
    with pytest.raises(SourceError, match=r"no picture fits the pattern tree/\*\.bmp"):
        open_source("tree/*.bmp")


@pytest.mark.parametrize("separator", ["\n", "\r\n", "\0"])
def test_a_list_names_files_relative_to_the_current_folder(tree, separator):
    Path("list.txt").write_bytes(separator.join(["tree/top.webp", "tree/a/notes.txt", "gone.png", ""]).encode())
    source = open_source("list.txt")
    assert names_of(source) == ["gone.png", "tree/a/notes.txt", "tree/top.webp"]
    assert contents_of(source) == ["unreadable", b"a/notes.txt", b"top.webp"]


def test_an_empty_list_is_refused(tree):
    Path("list.txt").write_text("\n")
    with pytest.raises(SourceError, match=r"list\.txt names no files"):
        open_source("list.txt")


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
