"""`vae-serve embed` over a folder of hostile files: each is a row that says why, and every other row is untouched."""

import io
import json
import os
import struct
import subprocess
import sys
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import linear_bundle
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent.parent
SHAPE = (28, 28, 1)


def png(image: Image.Image, **options: object) -> bytes:
    room = io.BytesIO()
    image.save(room, "PNG", **options)
    return room.getvalue()


def digit(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, SHAPE).astype(np.uint8)


def good(seed: int) -> bytes:
    return png(Image.fromarray(digit(seed)[:, :, 0]))


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


BOMB = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0))
BOMB += chunk(b"IDAT", b"x") + chunk(b"IEND", b"")

FAILING = {  # file: (contents, kind of error)
    "empty.png": (b"", "empty"),
    "truncated.png": (good(1)[:-100], "truncated"),
    "text.png": (b"Dear model,\n", "not_an_image"),
    "checksum.png": (good(2)[:200] + b"!" + good(2)[201:], "checksum"),
    "bomb.png": (BOMB, "too_large"),
}
LINKED = {
    "loop.png": ("loop.png", "unreadable"),
    "gone.png": ("nowhere", "unreadable"),
    "zero.png": ("/dev/zero", "not_a_file"),
}


@dataclass(frozen=True)
class Done:
    """What came out of one run over the folder."""

    code: int
    stderr: str
    stats: dict
    rows: dict[str, dict]  # by path


@pytest.fixture(scope="module")
def done(vae_serve, tmp_path_factory) -> Done:
    work = tmp_path_factory.mktemp("hostile")
    bundle = linear_bundle.write(work / "exports" / "linear", image_shape=SHAPE)
    folder = work / "pictures"
    folder.mkdir()
    for seed in range(20):
        (folder / f"good{seed:02}.png").write_bytes(good(seed))
    for name, (data, _) in FAILING.items():
        (folder / name).write_bytes(data)
    for name, (target, _) in LINKED.items():
        (folder / name).symlink_to(target)
    os.mkfifo(folder / "pipe.png")
    (folder / "dir.png").mkdir()
    (folder / "really a png.jpg").write_bytes(good(100))
    with open(os.fsencode(folder) + b"/caf\xe9.png", "wb") as file:  # noqa: PTH123  pathlib would refuse the name
        file.write(good(101))
    (folder / "two\nlines.png").write_bytes(good(102))
    exif = Image.Exif()
    exif[0x0112] = 3
    (folder / "turned.png").write_bytes(png(Image.fromarray(digit(103)[::-1, ::-1, 0]), exif=exif))
    frames = [Image.fromarray(digit(seed)[:, :, 0]) for seed in (104, 105)]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    frames[0].save(folder / "moving.webp", save_all=True, append_images=frames[1:], lossless=True)
    Image.fromarray(digit(106)[:, :, 0].astype(np.uint16) * 257).save(folder / "deep.png")
    found = vae_serve("embed", folder, "--model", bundle, "--out", "out", "--workers", 2, "--json", cwd=work)
    table = pq.read_table(work / "out").to_pylist()
    assert len({row["path"] for row in table}) == len(table)
    return Done(found.returncode, found.stderr, json.loads(found.stdout), {row["path"]: row for row in table})


def test_the_job_goes_to_its_end_and_leaves_with_exit_code_3(done):
    assert done.code == 3
    assert len(done.stderr.splitlines()) == 2
    assert done.stats["failed"] == len(FAILING) + len(LINKED) + 1


@pytest.mark.parametrize("name", [*FAILING, *LINKED, "pipe.png"])
def test_it_is_a_row_that_says_why(done, name):
    kind = {**FAILING, **LINKED, "pipe.png": (None, "not_a_file")}[name][1]
    row = done.rows[name]
    assert row["status"] == "failed"
    assert row["error"].startswith(f"{kind}: ")
    assert row["z_mean"] is row["z_log_var"] is row["width"] is row["height"] is None
    assert done.stats["errors"][kind] >= 1


OTHERS = {
    **{f"good{seed:02}.png": digit(seed) for seed in range(20)},
    "really a png.jpg": digit(100),
    "caf\\xe9.png": digit(101),
    "two\nlines.png": digit(102),
    "turned.png": digit(103),
    "moving.gif": digit(104),
    "moving.webp": digit(104),
    "deep.png": digit(106),
}


@pytest.mark.parametrize("name", OTHERS)
def test_every_other_row_has_its_own_vectors(done, name):
    row = done.rows[name]
    assert row["status"] == "ok"
    assert row["z_mean"] == pytest.approx(linear_bundle.encoded(OTHERS[name][np.newaxis])[0], abs=1e-6)


def test_nothing_else_is_a_row(done):
    assert set(done.rows) == {*FAILING, *LINKED, "pipe.png", *OTHERS}


def test_what_was_done_to_pictures_is_counted(done):
    assert done.stats["notes"] == {"animated": 2, "turned": 1}


def run(*words: object, cwd: Path) -> "subprocess.CompletedProcess[str]":
    """A command in a process whose Python or whose privileges are not the usual ones."""
    return subprocess.run(
        [*map(str, words)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_file_without_permission_is_a_row(tmp_path):
    bundle = linear_bundle.write(tmp_path / "exports" / "linear", image_shape=SHAPE)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(good(1))
    (tmp_path / "pictures" / "a.png").chmod(0)
    # nothing is unreadable to root, unless it gives up that privilege
    unprivileged = () if os.geteuid() else ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")
    words = ("-m", "vae_serve", "embed", "pictures", "--model", bundle, "--out", "out")
    ran = run(*unprivileged, sys.executable, *words, cwd=tmp_path)
    assert ran.returncode == 3, ran.stderr
    assert pq.read_table(tmp_path / "out")["error"][0].as_py() == "unreadable: it cannot be read: Permission denied"


def test_max_errors_stops_early_and_says_so(vae_serve, tmp_path):
    bundle = linear_bundle.write(tmp_path / "exports" / "linear", image_shape=SHAPE)
    (tmp_path / "pictures").mkdir()
    for number in range(50):
        (tmp_path / "pictures" / f"{number}.png").write_bytes(b"")
    command = ("embed", "pictures", "--model", bundle, "--out", "out", "--max-errors", 10, "-q")
    ran = vae_serve(*command, "--rows-per-shard", 20, cwd=tmp_path)
    assert ran.returncode == 1
    assert "more than --max-errors 10" in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_float_arrays_with_nan_or_beyond_0_to_1_fail_by_the_row(vae_serve, tmp_path):
    bundle = linear_bundle.write(tmp_path / "exports" / "linear", image_shape=SHAPE)
    images = np.stack([digit(seed) for seed in range(4)]).astype(np.float32) / 255
    images[1, 3, 3], images[2, 0, 0] = np.nan, 1.5
    np.save(tmp_path / "x.npy", images)
    ran = vae_serve("embed", "x.npy", "--model", bundle, "--out", "out", cwd=tmp_path)
    assert ran.returncode == 3
    rows = pq.read_table(tmp_path / "out").to_pylist()
    assert [row["error"] and row["error"].split(":")[0] for row in rows] == [None, "not_finite", "range", None]
    for seed in (0, 3):
        expected = linear_bundle.encoded(digit(seed)[np.newaxis])[0]
        assert rows[seed]["z_mean"] == pytest.approx(expected, abs=1e-6)


def test_an_array_of_another_shape_is_refused_with_both(vae_serve, tmp_path):
    bundle = linear_bundle.write(tmp_path / "exports" / "linear", image_shape=SHAPE)
    np.save(tmp_path / "x.npy", np.zeros((3, 32, 32), np.uint8))
    ran = vae_serve("embed", "x.npy", "--model", bundle, "--out", "out", "-q", cwd=tmp_path)
    assert ran.returncode == 1
    assert ran.stderr == ("vae-serve: error: x.npy holds pictures of shape (32, 32, 1); the model takes (28, 28, 1)\n")


# A decoder that fails as a faulty library would: the process is gone in the middle of a picture, or it raises.
DEADLY = """
import os, signal, sys
from vae_serve.images import decode

before = decode.Decoder.__call__
def call(self, data):
    if data == b"deadly" or (data == b"deadly once" and not os.path.exists("died")):
        open("died", "w").close()
        os.kill(os.getpid(), signal.SIGSEGV)
    if data == b"exits":
        os._exit(7)
    if data == b"memory":
        raise MemoryError
    if data == b"hoards":
        bytearray(2 << 30)
    if data == b"raises":
        raise ZeroDivisionError("x")
    return before(self, data)
decode.Decoder.__call__ = call

from vae_serve.cli import main
main(sys.argv[1:])
"""


def pictures(folder: Path, count: int) -> Path:
    """A folder of good pictures."""
    folder.mkdir()
    for seed in range(count):
        (folder / f"{seed:02}.png").write_bytes(good(seed))
    return folder


def assert_good(rows: dict[str, dict], but: set[int], count: int) -> None:
    for seed in set(range(count)) - but:
        expected = linear_bundle.encoded(digit(seed)[np.newaxis])[0]
        assert rows[f"{seed:02}.png"]["z_mean"] == pytest.approx(expected, abs=1e-6)


def test_a_picture_that_crashes_the_decoder_is_a_row_and_a_process_that_died_by_chance_is_none(tmp_path):
    bundle = linear_bundle.write(tmp_path / "exports" / "linear", image_shape=SHAPE)
    pictures(tmp_path / "pictures", 60)
    (tmp_path / "pictures" / "20.png").write_bytes(b"deadly")
    (tmp_path / "pictures" / "40.png").write_bytes(b"deadly once")
    words = ["embed", "pictures", "--model", bundle, "--out", "out", "--rows-per-shard", "8", "--workers", "2", "-q"]
    ran = run(sys.executable, "-c", DEADLY, *words, cwd=tmp_path)
    assert ran.returncode == 3, ran.stderr
    rows = {row["path"]: row for row in pq.read_table(tmp_path / "out").to_pylist()}
    assert rows["20.png"]["error"] == "crashed: the decoder crashed at it twice (SIGSEGV)"
    assert rows["40.png"]["error"].startswith("not_an_image: ")
    assert_good(rows, {20, 40}, 60)


@pytest.mark.parametrize("command", ["embed", "reconstruct"])
@pytest.mark.parametrize("count", [1, 4])
def test_however_few_pictures_there_are_no_fault_of_the_decoder_ends_the_job(tmp_path, command, count):
    bundle = linear_bundle.write(tmp_path / "exports" / "linear", image_shape=SHAPE)
    pictures(tmp_path / "pictures", count)
    faults = {
        b"deadly": "crashed: the decoder crashed at it twice (SIGSEGV)",
        b"exits": "crashed: the decoder crashed at it twice (exit status 7)",
        b"memory": "too_large: decoding it takes more memory than a decoding process may have",
        b"hoards": "too_large: decoding it takes more memory than a decoding process may have",
        b"raises": "damaged: it cannot be decoded: ZeroDivisionError: x",
    }
    for at, (contents, error) in enumerate(faults.items()):
        (tmp_path / "pictures" / "00.png").write_bytes(contents)
        out = tmp_path / f"out{at}"
        ran = run(
            sys.executable, "-c", DEADLY, command, "pictures", "--model", bundle, "--out", out, "-q", cwd=tmp_path
        )
        assert ran.returncode == 3, ran.stderr
        assert "Traceback" not in ran.stderr
        table = out if command == "embed" else out / "errors.parquet"
        rows = {row["path"]: row for row in pq.read_table(table).to_pylist()}
        assert len(rows) == count
        assert rows["00.png"]["error"] == error
        if command == "embed":
            assert_good(rows, {0}, count)


def slow() -> bytes:
    """A picture within all limits that takes many times the time limit of the tests to decode."""
    packing = zlib.compressobj(1)
    lines = [packing.compress(bytes(9_001 * 99)) for _ in range(100)]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 9_000, 9_900, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"".join([*lines, packing.flush()])) + chunk(b"IEND", b"")


@pytest.mark.parametrize("command", ["embed", "reconstruct"])
@pytest.mark.parametrize("others", [0, 30])
def test_a_picture_that_takes_longer_than_its_time_is_a_row(vae_serve, tmp_path, command, others):
    bundle = linear_bundle.write(tmp_path / "exports" / "linear", image_shape=SHAPE)
    pictures(tmp_path / "pictures", others)  # decoded the quick way, to which the limit does not apply
    for name in ("05a.png", "zz.png"):
        (tmp_path / "pictures" / name).write_bytes(slow())
    words = (command, "pictures", "--model", bundle, "--out", "out", "--picture-timeout", 0.005)
    ran = vae_serve(*words, cwd=tmp_path)
    assert ran.returncode == 3, ran.stderr
    table = tmp_path / "out" if command == "embed" else tmp_path / "out" / "errors.parquet"
    rows = {row["path"]: row for row in pq.read_table(table).to_pylist()}
    failed = {path: row["error"] for path, row in rows.items() if row["status"] == "failed"}
    assert failed == dict.fromkeys(("05a.png", "zz.png"), "timeout: decoding it took more than 0.005 s")
    assert len(rows) == others + 2
    if command == "embed":
        assert_good(rows, set(), others)


@pytest.mark.parametrize("seconds", ["0", "-1", "nan"])
def test_a_time_limit_that_is_none_is_refused(vae_serve, tmp_path, seconds):
    bundle = linear_bundle.write(tmp_path / "exports" / "linear", image_shape=SHAPE)
    pictures(tmp_path / "pictures", 1)
    for command in ("embed", "reconstruct"):
        words = (command, "pictures", "--model", bundle, "--out", "out", f"--picture-timeout={seconds}")
        ran = vae_serve(*words, cwd=tmp_path)
        assert ran.returncode == 2
        assert f"--picture-timeout {seconds}: give seconds above 0" in ran.stderr


@pytest.mark.parametrize("source", ["pictures", "pictures.zip"])
@pytest.mark.parametrize("command", ["embed", "reconstruct"])
def test_a_picture_cut_at_any_byte_is_a_row(vae_serve, tmp_path, source, command):
    bundle = linear_bundle.write(tmp_path / "exports" / "linear", image_shape=SHAPE)
    folder = pictures(tmp_path / "pictures", 2)
    for length in range(100):
        (folder / f"cut{length:03}.png").write_bytes(good(1)[:length])
    if source.endswith(".zip"):
        with zipfile.ZipFile(tmp_path / source, "w") as archive:
            for file in sorted(folder.iterdir()):
                archive.write(file, file.name)
    ran = vae_serve(command, source, "--model", bundle, "--out", "out", cwd=tmp_path)
    assert ran.returncode == 3, ran.stderr
    table = tmp_path / "out" if command == "embed" else tmp_path / "out" / "errors.parquet"
    rows = pq.read_table(table).to_pylist()
    kinds = [row["error"].split(":")[0] for row in rows if row["path"].startswith("cut")]
    assert kinds == ["empty", *["not_an_image"] * 7, *["truncated"] * 92]
    assert [row["path"] for row in rows if row["status"] == "ok"] == ["00.png", "01.png"]
