"""`vae-serve embed` over a folder of hostile files: each is a row that says why, and every other row is untouched."""

import io
import json
import os
import struct
import subprocess
import sys
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


# A decoder that dies as a faulty library would: the process is gone in the middle of a picture.
DEADLY = """
import os, signal, sys
from vae_serve.images import decode

before = decode.Decoder.__call__
def call(self, data):
    if data == b"deadly" or (data == b"deadly once" and not os.path.exists("died")):
        open("died", "w").close()
        os.kill(os.getpid(), signal.SIGSEGV)
    return before(self, data)
decode.Decoder.__call__ = call

from vae_serve.cli import main
main(sys.argv[1:])
"""


def test_a_picture_that_crashes_the_decoder_is_a_row_and_a_process_that_died_by_chance_is_none(tmp_path):
    bundle = linear_bundle.write(tmp_path / "exports" / "linear", image_shape=SHAPE)
    (tmp_path / "pictures").mkdir()
    for seed in range(60):
        (tmp_path / "pictures" / f"{seed:02}.png").write_bytes(good(seed))
    (tmp_path / "pictures" / "20.png").write_bytes(b"deadly")
    (tmp_path / "pictures" / "40.png").write_bytes(b"deadly once")
    words = ["embed", "pictures", "--model", bundle, "--out", "out", "--rows-per-shard", "8", "--workers", "2", "-q"]
    ran = run(sys.executable, "-c", DEADLY, *words, cwd=tmp_path)
    assert ran.returncode == 3, ran.stderr
    rows = {row["path"]: row for row in pq.read_table(tmp_path / "out").to_pylist()}
    assert rows["20.png"]["error"] == "crashed: the decoder crashed at it twice (SIGSEGV)"
    assert rows["40.png"]["error"].startswith("not_an_image: ")
    for seed in set(range(60)) - {20, 40}:
        expected = linear_bundle.encoded(digit(seed)[np.newaxis])[0]
        assert rows[f"{seed:02}.png"]["z_mean"] == pytest.approx(expected, abs=1e-6)
