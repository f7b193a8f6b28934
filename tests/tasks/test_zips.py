"""What the standard library reads back."""

import io
import zipfile

from vae_serve.results import zips

RUNS = [zips.record("a.png", b"first") + zips.record("b.png", b""), zips.record("c.png", b"third" * 1000)]


def test_zipfile_reads_back_every_file_and_finds_no_damage():
    file = io.BytesIO()
    zips.write(file, lambda: RUNS)
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == {
            "a.png": b"first",
            "b.png": b"",
            "c.png": b"third" * 1000,
        }


def test_an_archive_of_more_files_than_16_bits_count():
    file = io.BytesIO()
    zips.write(file, lambda: (zips.record(f"{index}", b"x") for index in range(70_000)))
    with zipfile.ZipFile(file) as archive:
        assert archive.namelist() == [f"{index}" for index in range(70_000)]
        assert archive.read("69999") == b"x"


def test_files_beyond_four_gigabytes(tmp_path):
    with (tmp_path / "far.zip").open("wb") as file:
        file.seek(5 << 30)  # a hole: an archive may have something before it
        zips.write(file, lambda: RUNS)
    with zipfile.ZipFile(tmp_path / "far.zip") as archive:
        assert archive.testzip() is None
        assert archive.getinfo("a.png").header_offset == 5 << 30
        assert archive.read("c.png") == b"third" * 1000


def test_a_changed_byte_is_found():
    file = io.BytesIO()
    zips.write(file, lambda: RUNS)
    damaged = file.getvalue().replace(b"first", b"fjrst")
    with zipfile.ZipFile(io.BytesIO(damaged)) as archive:
        assert archive.testzip() == "a.png"
