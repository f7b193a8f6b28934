"""Zip archives as people's tools write them, and as nobody should."""

import os
import shutil
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from opened import contents_of, labels, names_of, rows

from vae_serve.errors import SourceError
from vae_serve.sources.opening import open_source

UTF8, SIZES_FOLLOW = 1 << 11, 1 << 3


@dataclass
class Raw:
    """A member written by hand; `local` changes what its own header says."""

    name: bytes
    data: bytes
    flags: int = 0
    extra: bytes = b""
    mode: int = 0
    local: dict[str, object] = field(default_factory=dict)
    at: int | None = None  # an offset in place of the true one


def raw_zip(members: Iterable[Raw], *, comment: bytes = b"", before: bytes = b"", count: int | None = None) -> bytes:
    out, directory = b"", b""
    members = list(members)
    for member in members:
        fields = {
            "name": member.name,
            "method": 0,
            "crc": zlib.crc32(member.data),
            "packed": len(member.data),
            "size": len(member.data),
        }
        told = {**fields, **member.local}
        at = len(out) if member.at is None else member.at
        out += (
            struct.pack(
                "<4sHHHHHIIIHH", b"PK\3\4", 20, member.flags, told["method"], 0, 33, told["crc"], told["packed"],
                told["size"], len(told["name"]), 0,
            ) + told["name"] + member.data
        )  # fmt: skip
        if member.flags & SIZES_FOLLOW:
            out += struct.pack("<4sIII", b"PK\7\x08", fields["crc"], fields["packed"], fields["size"])
        directory += (
            struct.pack(
                "<4sHHHHHHIIIHHHHHII", b"PK\1\2", 0x0314, 20, member.flags, 0, 0, 33, fields["crc"], fields["packed"],
                fields["size"], len(member.name), len(member.extra), 0, 0, 0, member.mode << 16, at,
            ) + member.name + member.extra
        )  # fmt: skip
    count = len(members) if count is None else count
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, count, count, len(directory), len(out), len(comment))
    return before + out + directory + end + comment


@pytest.fixture
def write(tmp_path):
    def write(*members: Raw, **more: object) -> Path:
        (tmp_path / "x.zip").write_bytes(raw_zip(members, **more))
        return tmp_path / "x.zip"

    return write


PICTURES = {"photos/cat/1.png": b"one", "photos/dog/2.png": b"two"}


@pytest.fixture
def tree(tmp_path) -> Path:
    for name, data in {**PICTURES, "photos/notes.txt": b"text"}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    return tmp_path


def test_what_shutil_and_the_zipfile_command_write_is_read(tree):
    shutil.make_archive(str(tree / "a"), "zip", tree, "photos")
    subprocess.run([sys.executable, "-m", "zipfile", "-c", "b.zip", "photos"], cwd=tree, check=True)
    assert rows(tree / "a.zip") == PICTURES
    assert rows(tree / "b.zip") == PICTURES


@pytest.mark.skipif(not shutil.which("zip"), reason="there is no zip command here")
@pytest.mark.parametrize("options", [["-r"], ["-r", "-0"], ["-r", "-fd"], ["-r", "-fz", "-fd"]])
def test_what_info_zip_writes_is_read(tree, options):
    (tree / "photos" / "café.png").write_bytes(b"three")
    subprocess.run(["zip", "-q", *options, "x.zip", "photos"], cwd=tree, check=True)
    assert rows(tree / "x.zip") == {**PICTURES, "photos/café.png": b"three"}


def test_an_end_record_that_refers_to_a_zip64_record_that_is_not_there_costs_nothing(tmp_path):
    """As `zip -fz` writes it: the directory stands right before its end record."""
    data = bytearray(raw_zip([Raw(b"a.png", b"1"), Raw(b"b.png", b"2")]))
    data[-6:-2] = b"\xff" * 4
    (tmp_path / "x.zip").write_bytes(data)
    assert rows(tmp_path / "x.zip") == {"a.png": b"1", "b.png": b"2"}


def test_a_flipped_bit_in_a_pictures_extension_refuses_the_archive(write):
    """It would be skipped as no picture."""
    path = write(Raw(b"a.pne", b"1", local={"name": b"a.png"}), Raw(b"b.png", b"2"))
    with pytest.raises(SourceError, match=r"its directory has a\.pne where the member itself has .* a\.png"):
        open_source(str(path))
    assert rows(write(Raw(b"notes.txt", b"", local={"name": b"notes.doc"}), Raw(b"b.png", b"2"))) == {"b.png": b"2"}


def test_a_folder_or_another_file_may_come_first(write):
    assert rows(write(Raw(b"d/", b""), Raw(b"d/notes.txt", b"n"), Raw(b"d/1.PNG", b"one"))) == {"d/1.PNG": b"one"}


def test_an_archive_without_pictures_is_refused(write):
    with pytest.raises(SourceError, match=r"x\.zip holds no pictures$"):
        open_source(str(write()))
    with pytest.raises(SourceError, match=r"holds no pictures \(1 other files\)"):
        open_source(str(write(Raw(b"notes.txt", b""))))


def test_a_name_is_its_path_without_what_means_here(write):
    path = write(Raw(b"./a.png", b"1"), Raw(b".//cat/./b.png", b"2"))
    assert rows(path) == {"a.png": b"1", "cat/b.png": b"2"}
    assert labels(path) == [None, b"cat"]


def test_backslashes_are_separators(write):
    path = write(Raw(b"cat\\1.png", b"1"), Raw(b"dog\\", b""))
    assert rows(path) == {"cat/1.png": b"1"}
    assert labels(path) == [b"cat"]


def unicode_path(raw: bytes, name: str) -> bytes:
    text = name.encode()
    return struct.pack("<HHBI", 0x7075, 5 + len(text), 1, zlib.crc32(raw)) + text


@pytest.mark.parametrize(
    ("raw", "flags", "extra", "name"),
    [
        ("café.png".encode(), UTF8, b"", "café.png"),
        ("café.png".encode(), 0, b"", "café.png"),
        (b"caf\x82.png", 0, b"", "café.png"),  # code page 437
        (b"caf\xe9.png", 0, unicode_path(b"caf\xe9.png", "café.png"), "café.png"),
        (b"caf\x82.png", 0, unicode_path(b"another name", "wrong.png"), "café.png"),
        (b"plain.png", 0, struct.pack("<HH", 0x7075, 200) + b"\1", "plain.png"),
    ],
)
def test_a_name_is_unicode_by_its_flag_its_field_or_its_looks(write, raw, flags, extra, name):
    assert rows(write(Raw(raw, b"1", flags=flags, extra=extra))) == {name: b"1"}


def test_a_comment_may_look_like_an_end(write):
    assert rows(write(Raw(b"a.png", b"1"), comment=b"PK\5\6 and" + b"PK\5\6" + bytes(30))) == {"a.png": b"1"}


def test_two_ends_that_both_fit_are_refused(write):
    other = raw_zip([Raw(b"b.png", b"2")])
    with pytest.raises(SourceError, match="two directories of members"):
        open_source(str(write(Raw(b"a.png", b"1"), comment=other)))


def test_data_before_and_after_an_archive_are_passed_over(write):
    path = write(Raw(b"a.png", b"1"), before=b"#!/bin/sh\n" * 9)
    assert rows(path) == {"a.png": b"1"}
    path.write_bytes(path.read_bytes() + b"\0" * 100)
    assert rows(path) == {"a.png": b"1"}


def test_zip64_and_sizes_that_follow_are_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive, archive.open("a.png", "w", force_zip64=True) as member:
        member.write(b"one")
    with (tmp_path / "y.zip").open("wb") as file:

        class Unseekable:
            write, flush = file.write, file.flush

        with zipfile.ZipFile(Unseekable(), "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.png", b"one" * 99)
    assert rows(tmp_path / "x.zip") == {"a.png": b"one"}
    assert rows(tmp_path / "y.zip") == {"a.png": b"one" * 99}


def test_an_archive_that_counts_its_members_in_64_bits_is_read(tmp_path):
    data = raw_zip([Raw(b"a.png", b"1")])
    body, end = data[:-22], struct.unpack("<4sHHHHIIH", data[-22:])
    end64 = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, end[5], end[6])
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, len(body), 1)
    short = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    (tmp_path / "x.zip").write_bytes(body + end64 + locator + short)
    assert rows(tmp_path / "x.zip") == {"a.png": b"1"}


def test_65_536_members_are_read_though_the_end_counts_none(write):
    path = write(*(Raw(b"%05d.png" % number, b"") for number in range(65_536)), count=0)
    assert open_source(str(path)).names.count == 65_536


@pytest.mark.parametrize("count", [1, 3])
def test_a_directory_of_more_or_fewer_members_than_declared_is_refused(write, count):
    with pytest.raises(SourceError, match=f"its directory has 2 members, and its end says {count}"):
        open_source(str(write(Raw(b"a.png", b"1"), Raw(b"b.png", b"2"), count=count)))


@pytest.mark.parametrize(
    "local", [{"name": b"b.png"}, {"method": 8}, {"size": 3}, {"packed": 3}, {"crc": 1}, {"name": b"a.png/"}]
)
def test_a_member_that_its_directory_contradicts_is_a_row(write, local):
    assert rows(write(Raw(b"a.png", b"one!", local=local), Raw(b"c.png", b"2"))) == {"a.png": "damaged", "c.png": b"2"}


def test_members_of_one_name_are_failed_rows_and_none_has_the_others_bytes(write):
    opened = open_source(str(write(Raw(b"a.png", b"1"), Raw(b"./a.png", b"2"), Raw(b"b.png", b"3"))))
    assert list(zip(names_of(opened), contents_of(opened), strict=True)) == [
        ("a.png", "duplicate"),
        ("a.png", "duplicate"),
        ("b.png", b"3"),
    ]


def test_members_that_overlap_are_rows(write):
    inner = raw_zip([Raw(b"b.png", b"2")])[: 30 + 5 + 1]
    path = write(Raw(b"a.png", inner), Raw(b"b.png", b"2", at=35))
    assert rows(path) == {"a.png": "damaged", "b.png": b"2"}


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"/etc/a.png", "/etc/a.png"),
        (b"C:\\a.png", "C:/a.png"),
        (b"..\\a.png", "../a.png"),
        (b"a/../../b.png", "a/../../b.png"),
        (b"a\0b.png", "a\\x00b.png"),
    ],
)
def test_a_name_that_no_file_here_may_have_is_a_row(write, name, shown):
    assert rows(write(Raw(name, b"1"), Raw(b"z.png", b"2"))) == {shown: "unsafe_name", "z.png": b"2"}


def test_a_symbolic_link_is_the_member_that_it_leads_to(write):
    link, pipe = 0o120777, 0o010644
    path = write(
        Raw(b"cat/a.png", b"1"),
        Raw(b"b.png", b"cat/a.png", mode=link),
        Raw(b"dog/c.png", b"../b.png", mode=link),
        Raw(b"d.png", b"/etc/passwd", mode=link),
        Raw(b"e.png", b"e.png", mode=link),
        Raw(b"f.png", b"", mode=pipe),
    )
    assert rows(path) == {
        "cat/a.png": b"1",
        "b.png": b"1",
        "dog/c.png": b"1",
        "d.png": "not_a_file",
        "e.png": "not_a_file",
        "f.png": "not_a_file",
    }


def test_a_large_member_is_read_whole_and_checked(tmp_path):
    data = os.urandom(9_000_001)
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(tmp_path / "x.zip", "w", method) as archive:
            archive.writestr("a.bmp", data)
        assert rows(tmp_path / "x.zip") == {"a.bmp": data}
