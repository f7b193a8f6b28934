"""Archives of every kind: their members in sorted order, and what none of them may be made to do."""

import io
import os
import re
import tarfile
import zipfile
from pathlib import Path

import pytest
from opened import contents_of, names_of

from vae_serve.errors import SourceError
from vae_serve.sources.opening import open_source

NAMES = ["a-b/1.png", "a/2.png", "a/b/3.JPG", "top.webp"]  # '-' comes before '/'


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
    assert names_of(source) == NAMES
    assert contents_of(source) == [one.encode() * 50 for one in NAMES]
    assert source.labels(range(4)).texts() == [b"a-b", b"a", b"a", None]
    assert source.skipped == {"hidden": 1, "no picture's extension": 1}


@pytest.mark.parametrize("name", ARCHIVES)
def test_members_that_lead_out_of_an_archive_are_rows_and_write_nothing(tmp_path, name):
    inner = tmp_path / "inner"
    inner.mkdir()
    write_archive(inner / name, {"../out.png": b"x", "/etc/out.png": b"x", "a/../../b.png": b"x", "fine.png": b"fine"})
    assert sorted(map(str, contents_of(open_source(str(inner / name))))) == sorted(
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
    assert contents_of(open_source(str(tmp_path / "x.zip"))) == ["encrypted", b"open"]


def test_a_member_packed_by_an_odd_method_is_a_row(tmp_path):
    write_zip(tmp_path / "x.zip", {"a.png": b"bzip2"}, zipfile.ZIP_BZIP2)
    assert contents_of(open_source(str(tmp_path / "x.zip"))) == ["unsupported"]


def test_a_zip_bomb_is_unpacked_no_further_than_it_declares(tmp_path):
    write_zip(tmp_path / "x.zip", {"a.png": bytes(50_000_000)})
    data = bytearray((tmp_path / "x.zip").read_bytes())
    at = data.index(b"PK\1\2") + 24  # the declared size
    data[at : at + 4] = (1000).to_bytes(4, "little")
    (tmp_path / "x.zip").write_bytes(data)
    assert contents_of(open_source(str(tmp_path / "x.zip"))) == ["damaged"]


def test_a_member_that_declares_too_much_is_not_unpacked(tmp_path):
    write_zip(tmp_path / "x.zip", {"a.png": b"x"})
    data = bytearray((tmp_path / "x.zip").read_bytes())
    at = data.index(b"PK\1\2") + 24
    data[at : at + 4] = (4_000_000_000).to_bytes(4, "little")
    (tmp_path / "x.zip").write_bytes(data)
    assert contents_of(open_source(str(tmp_path / "x.zip"))) == ["too_large"]


def test_a_damaged_member_is_a_row(tmp_path):
    write_zip(tmp_path / "x.zip", {"a.png": b"aaaa", "b.png": b"bbbb"}, zipfile.ZIP_STORED)
    (tmp_path / "x.zip").write_bytes((tmp_path / "x.zip").read_bytes().replace(b"aaaa", b"aaab", 1))
    assert contents_of(open_source(str(tmp_path / "x.zip"))) == ["checksum", b"bbbb"]


@pytest.mark.parametrize("name", ["x.zip", "x.tar"])
def test_a_changed_archive_has_another_fingerprint(tmp_path, name):
    write_archive(tmp_path / name, {"a.png": b"one"})
    before = open_source(str(tmp_path / name)).fingerprint()
    write_archive(tmp_path / name, {"a.png": b"other"})
    assert open_source(str(tmp_path / name)).fingerprint() != before
