"""Tar archives: what is in them is a row, and what cannot be told refuses the archive."""

import bz2
import gzip
import io
import lzma
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from opened import labels, rows

from vae_serve.errors import SourceError
from vae_serve.sources.opening import open_source

BLOCK = 512


def member(name: str, data: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def tar_bytes(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def with_sum(header: bytes) -> bytes:
    """A header with its check sum put right."""
    blank = header[:148] + b" " * 8 + header[156:]
    return blank[:148] + b"%06o\0 " % sum(blank) + blank[156:]


@pytest.fixture
def write(tmp_path):
    def write(data: bytes, name: str = "x.tar") -> Path:
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return write


THREE = {"a.png": b"A" * 600, "b.png": b"B" * 600, "c.png": b"C" * 600}
ARCHIVE = tar_bytes(*(member(name, data) for name, data in THREE.items()))
SECOND = 3 * BLOCK  # where the second header begins
END = 9 * BLOCK


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_all_formats_are_read_with_names_of_any_length_and_alphabet(write, form):
    long = "x" * 90 + "/" + "y" * 90 + ".png"
    data = tar_bytes(member("./a.png", b"1"), member(long, b"2"), member("é/b.png", b"3"), form=form)
    assert rows(write(data)) == {"a.png": b"1", long: b"2", "é/b.png": b"3"}
    assert labels(write(data)) == [None, b"x" * 90, "é".encode()]


@pytest.mark.parametrize("bit", [0, 100 * 8, 124 * 8 + 3, 156 * 8, 257 * 8, 500 * 8])
def test_a_flipped_bit_in_a_header_refuses_the_archive(write, bit):
    data = bytearray(ARCHIVE)
    data[SECOND + bit // 8] ^= 1 << bit % 8
    with pytest.raises(SourceError, match=r"header at byte 1,536 is damaged \(after a\.png\)"):
        open_source(str(write(bytes(data))))


@pytest.mark.parametrize("cut", [0, 1, BLOCK, SECOND, SECOND + 100, SECOND + BLOCK, SECOND + BLOCK + 100, END])
def test_an_archive_cut_anywhere_is_refused(write, cut):
    with pytest.raises(SourceError, match="cut short"):
        open_source(str(write(ARCHIVE[:cut])))


@pytest.mark.parametrize("size", [BLOCK, 2 * BLOCK, 3 * BLOCK])
def test_a_hole_of_zeros_refuses_the_archive(write, size):
    data = ARCHIVE[:SECOND] + bytes(size) + ARCHIVE[SECOND + size :]
    with pytest.raises(SourceError, match="zeros at byte 1,536 are followed by other data"):
        open_source(str(write(data)))


@pytest.mark.parametrize("hole", [slice(512, 1024), slice(600, 640)])
def test_a_hole_in_a_gnu_long_name_refuses_the_archive(write, hole):
    """It is data, which no check sum covers; without it the picture would be one of another name."""
    data = bytearray(tar_bytes(member("x" * 200 + ".png", b"1"), form=tarfile.GNU_FORMAT))
    data[hole] = bytes(hole.stop - hole.start)
    with pytest.raises(SourceError, match=r"the long name before byte .* is damaged"):
        open_source(str(write(bytes(data))))


def test_zeros_to_the_end_that_are_too_many_refuse_the_archive(write):
    with pytest.raises(SourceError, match="may have been received in part"):
        open_source(str(write(ARCHIVE[:SECOND] + bytes(1 << 21))))


def test_an_end_of_one_block_or_of_a_whole_record_is_an_end(write):
    assert rows(write(ARCHIVE[: END + BLOCK])) == THREE
    assert rows(write(ARCHIVE[:END] + bytes(64 * BLOCK))) == THREE


def test_two_archives_in_one_are_refused(write):
    with pytest.raises(SourceError, match="several archives in one"):
        open_source(str(write(ARCHIVE + ARCHIVE)))


PACK = {"x.tar.gz": gzip.compress, "x.tar.bz2": bz2.compress, "x.tar.xz": lzma.compress}


@pytest.mark.parametrize("name", PACK)
def test_a_wrong_check_sum_of_the_compression_refuses_the_archive(write, name):
    packed = bytearray(PACK[name](ARCHIVE))
    at = {"x.tar.gz": -6, "x.tar.bz2": -3, "x.tar.xz": -10}[name]
    packed[at] ^= 1
    with pytest.raises(SourceError, match="data are damaged"):
        open_source(str(write(bytes(packed), name)))


@pytest.mark.parametrize("name", PACK)
def test_compressed_data_may_be_several_streams_but_nothing_else(write, name):
    packed = PACK[name](ARCHIVE[:1000]) + PACK[name](ARCHIVE[1000:])
    assert rows(write(packed, name)) == THREE
    assert rows(write(packed + bytes(8), name)) == THREE
    with pytest.raises(SourceError, match="followed by other data"):
        open_source(str(write(packed + b"more", name)))
    with pytest.raises(SourceError, match="cut short"):
        open_source(str(write(packed[:-4], name)))


def test_the_compression_is_known_by_its_bytes(write):
    assert rows(write(gzip.compress(ARCHIVE), "x.tar")) == THREE
    assert rows(write(ARCHIVE, "x.tar.gz")) == THREE


def test_a_bomb_is_stopped_at_the_limit(write, monkeypatch):
    monkeypatch.setattr("vae_serve.sources.unpacking._LEAST_LIMIT", 1 << 22)
    bomb = tar_bytes(member("a.png", bytes(1 << 23)))
    with pytest.raises(SourceError, match=r"unpacks to more than 4,194,304 bytes .*if it is to be trusted, unpack"):
        open_source(str(write(gzip.compress(bomb), "x.tar.gz")))


def test_links_are_the_members_that_they_lead_to(write):
    hard, soft = tarfile.LNKTYPE, tarfile.SYMTYPE
    data = tar_bytes(
        member("cat/a.png", b"1"),
        member("data.bin", b"2"),
        member("b.png", type=hard, linkname="cat/a.png"),
        member("c.png", type=hard, linkname="./data.bin"),
        member("dog/d.png", type=soft, linkname="../b.png"),
        member("e.png", type=hard, linkname="f.png"),  # which comes later
        member("f.png", b"3"),
        member("g.png", type=soft, linkname="/etc/passwd"),
        member("h.png", type=soft, linkname="h.png"),
        member("i.png", type=tarfile.FIFOTYPE),
        form=tarfile.GNU_FORMAT,
    )
    assert rows(write(data)) == {
        "cat/a.png": b"1",
        "b.png": b"1",
        "c.png": b"2",
        "dog/d.png": b"1",
        "e.png": "not_a_file",
        "f.png": b"3",
        "g.png": "not_a_file",
        "h.png": "not_a_file",
        "i.png": "not_a_file",
    }


@pytest.mark.parametrize("form", ["gnu", "posix", "0.0", "0.1"])
def test_a_sparse_member_is_a_row_and_those_after_it_are_read(tmp_path, form):
    with (tmp_path / "a.png").open("wb") as file:
        for hole in range(30):  # more than the header itself has room for
            file.seek(hole << 16)
            file.write(b"data" * 1024)
    (tmp_path / "b.png").write_bytes(b"after")
    options = ["--format=gnu"] if form == "gnu" else ["--format=posix"]
    options += [] if form in {"gnu", "posix"} else [f"--sparse-version={form}"]
    done = subprocess.run(
        ["tar", *options, "--sparse", "-cf", "x.tar", "a.png", "b.png"], cwd=tmp_path, check=False, capture_output=True
    )
    if done.returncode:
        pytest.skip("this tar has no such option")
    if (tmp_path / "x.tar").stat().st_size > 1 << 20:
        pytest.skip("the file system keeps no holes")
    assert rows(tmp_path / "x.tar") == {"a.png": "unsupported", "b.png": b"after"}


def test_a_nul_in_a_name_leaves_every_row_its_own_bytes(write):
    data = tar_bytes(
        member("a.png", b"1"),
        member("b", b"2", pax_headers={"path": "b.png\0c.png"}),
        member("d.png", b"3"),
    )
    assert rows(write(data)) == {"a.png": b"1", "b.png\\x00c.png": "unsafe_name", "d.png": b"3"}


@pytest.mark.parametrize("mtime", ["1e30", "-1", "nan", "18446744073709551615", "x", "1.5"])
def test_any_time_of_change_is_read(write, mtime):
    assert rows(write(tar_bytes(member("a.png", b"1", pax_headers={"mtime": mtime})))) == {"a.png": b"1"}


def test_a_changed_time_is_another_fingerprint(write):
    before, after = (
        open_source(str(write(tar_bytes(member("a.png", b"1", mtime=time))))).fingerprint() for time in (1, 2)
    )
    assert before != after


def extended(records: bytes, kind: bytes = b"x") -> bytes:
    header = bytearray(member("pax")[0].tobuf(tarfile.USTAR_FORMAT))
    header[124:136] = b"%011o\0" % len(records)
    header[156:157] = kind
    return with_sum(bytes(header)) + records + bytes(-len(records) % BLOCK)


def test_extended_headers_override_name_and_size(write):
    data = extended(b"14 path=b.png\n10 size=3\n")
    header = member("a.png")[0].tobuf(tarfile.USTAR_FORMAT)
    path = write(data + header + b"123" + bytes(509) + bytes(2 * BLOCK))
    assert rows(path) == {"b.png": b"123"}


def test_a_global_header_holds_until_the_end(write):
    header = member("a.png", b"12")[0].tobuf(tarfile.USTAR_FORMAT)
    path = write(extended(b"20 comment=deadbeef\n", b"g") + header + b"12" + bytes(510 + 1024))
    assert rows(path) == {"a.png": b"12"}


@pytest.mark.parametrize(
    "records", [b"11 size=-1\n", b"14 size=1e300\n", b"99 path=b.png\n", b"path=b.png\n", b"13 path=b.png", b"6 a=\n"]
)
def test_a_damaged_extended_header_refuses_the_archive(write, records):
    header = member("a.png", b"12")[0].tobuf(tarfile.USTAR_FORMAT)
    with pytest.raises(SourceError, match="extended header"):
        open_source(str(write(extended(records) + header + b"12" + bytes(510 + 1024))))


@pytest.mark.parametrize(
    ("field", "right"),
    [
        (b"\x80" + bytes(10) + b"\x03", True),
        (b"\xff" * 12, False),
        (b"\xff" * 11 + b"\x00", False),
        (b"-0000000001\0", False),
        (b"\x80" + b"\x7f" * 11, False),
        (b"9" * 11 + b"\0", False),
    ],
)
def test_a_size_is_octal_or_in_base_256_and_never_negative(write, field, right):
    header = bytearray(member("a.png")[0].tobuf(tarfile.USTAR_FORMAT))
    header[124:136] = field
    path = write(with_sum(bytes(header)) + b"123" + bytes(509) + bytes(2 * BLOCK))
    if right:
        assert rows(path) == {"a.png": b"123"}
    else:
        with pytest.raises(SourceError, match="no valid size"):
            open_source(str(path))


def test_a_hard_link_that_declares_its_files_size_takes_none_of_what_follows(write):
    header = bytearray(member("b.png", type=tarfile.LNKTYPE, linkname="a.png")[0].tobuf(tarfile.USTAR_FORMAT))
    header[124:136] = b"%011o\0" % 600
    data = ARCHIVE[:SECOND] + with_sum(bytes(header)) + tar_bytes(member("c.png", b"3"))
    assert rows(write(data)) == {"a.png": THREE["a.png"], "b.png": THREE["a.png"], "c.png": b"3"}


def test_one_volume_of_several_is_refused(write):
    header = bytearray(member("a.png")[0].tobuf(tarfile.GNU_FORMAT))
    header[156:157] = b"M"
    with pytest.raises(SourceError, match="one volume of several"):
        open_source(str(write(with_sum(bytes(header)) + bytes(1024))))


def test_what_does_not_fit_on_the_disk_is_said(write, monkeypatch):
    def full(*_: object, **__: object) -> object:
        raise OSError(28, os.strerror(28))

    path = write(gzip.compress(ARCHIVE), "x.tar.gz")
    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(SourceError, match=r"cannot be unpacked to .*No space left on device.*TMPDIR"):
        open_source(str(path))
