"""Picture files in, vectors out; points in, pictures out."""

import io
import struct
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from serving import MNIST, serving

from vae_serve.images.pixels import to_bytes
from vae_serve.model.model import Model


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.load(MNIST)


@pytest.fixture(scope="module")
def picture(digit_folder: Path) -> bytes:
    return (digit_folder / "7" / "00000.png").read_bytes()


def opened(answer) -> np.ndarray:
    """The pixels of a PNG that came back."""
    assert (answer.status, answer.headers["content-type"]) == (200, "image/png"), answer.body
    return np.asarray(Image.open(io.BytesIO(answer.body)))


def test_a_picture_file_gives_the_vectors_that_embed_gives(service, digit_folder, vae_serve, tmp_path):
    import pyarrow.parquet as pq

    done = vae_serve("embed", digit_folder, "--model", MNIST, "--out", tmp_path / "vectors", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = pq.read_table(tmp_path / "vectors").to_pylist()[:40]
    for row in rows:
        found = service.post("/v1/encode", (digit_folder / row["path"]).read_bytes()).json
        for name in ("z_mean", "z_log_var"):
            assert np.array(found[name], np.float32).tobytes() == np.array(row[name], np.float32).tobytes()
        assert (found["width"], found["height"]) == (row["width"], row["height"])


def test_a_large_photo_is_brought_to_the_models_size_by_its_rule(service, model):
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8))
    file = io.BytesIO()
    photo.save(file, "JPEG")
    found = service.post("/v1/encode", file.getvalue(), {"Content-Type": "image/jpeg"}).json
    assert (found["width"], found["height"], found["model"]) == (400, 300, "mnist_encoder")
    assert len(found["z_mean"]) == model.latent_dim


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width: int, height: int, data: bytes, depth: int = 8, colour: int = 0) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("damage", "status", "kind"),
    [
        (lambda data: b"", 422, "empty"),
        (lambda data: b"no picture", 422, "not_an_image"),
        (lambda data: data[: len(data) // 2], 422, "truncated"),
        (lambda data: data[:60] + bytes([data[60] ^ 1]) + data[61:], 422, "checksum"),
        (lambda data: png_of(28, 28, b"nothing"), 422, "damaged"),
        (lambda data: png_of(5000, 5000, zlib.compress(bytes(5001 * 5000))), 413, "too_large"),
        (lambda data: b"%PDF-1.7", 422, "not_an_image"),
    ],
)
def test_a_picture_of_every_failing_kind_is_one_sentence_with_its_kind(service, picture, damage, status, kind):
    for path in ("/v1/encode", "/v1/reconstruct"):
        answer = service.post(path, damage(picture))
        assert (answer.status, answer.json["kind"]) == (status, kind), answer.body
        assert set(answer.json) == {"error", "kind"}
        assert "\n" not in answer.json["error"]


def test_a_picture_that_declares_more_pixels_than_are_decoded_takes_no_memory(service):
    """25 million pixels in 24 KB: what a decoder would make of it takes 100 MB and more."""
    bomb = png_of(5000, 5000, zlib.compress(bytes(15001 * 5000), 9), colour=2)
    assert len(bomb) < 100_000
    answer = service.post("/v1/encode", bomb)
    assert (answer.status, answer.json["kind"]) == (413, "too_large")
    assert "16,000,000" in answer.json["error"]


def test_a_file_beyond_its_limit_is_refused_unread(service):
    answer = service.post("/v1/encode", bytes((16 << 20) + 1))
    assert answer.status == 413
    assert "16,777,216 bytes" in answer.json["error"]


@pytest.mark.parametrize("media", ["multipart/form-data; boundary=x", "application/json"])
def test_a_form_or_json_in_the_place_of_a_file_is_told_how_to_send_one(service, picture, media):
    answer = service.post("/v1/encode", picture, {"Content-Type": media})
    assert answer.status == 415
    assert "--data-binary @picture.png" in answer.json["error"]


def test_a_reconstruction_is_what_the_decoder_makes_of_the_mean(service, picture, model):
    image = np.asarray(Image.open(io.BytesIO(picture)))[np.newaxis]
    shown = to_bytes(model.decode(model.encode(image)[0]))[0, :, :, 0]
    assert (opened(service.post("/v1/reconstruct", picture)) == shown).all()
    both = opened(service.post("/v1/reconstruct?beside=true", picture))
    assert (both == np.concatenate([image[0], shown], axis=1)).all()
    assert service.post("/v1/reconstruct?beside=1", picture).status == 400


def test_a_point_is_decoded_to_a_png(service, model):
    shown = opened(service.get("/v1/decode.png?z=0.5,-1.25"))
    assert (shown == to_bytes(model.decode([[0.5, -1.25]]))[0, :, :, 0]).all()


def test_the_plane_is_the_one_that_generate_draws(service, vae_serve, tmp_path):
    for query, words in (
        ("", ["--grid", 15]),
        ("?side=5&span=2.5&slice=1,0", ["--grid", 5, "--span", 2.5, "--slice", "1,0"]),
        ("?side=4&quantiles=true", ["--grid", 4, "--quantiles"]),
    ):
        done = vae_serve("generate", *words, "--model", MNIST, "--out", "plane.png", "--overwrite", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert service.get(f"/v1/grid.png{query}").body == (tmp_path / "plane.png").read_bytes()


@pytest.mark.parametrize(
    "query",
    [
        *(
            "decode.png",
            "decode.png?z=",
            "decode.png?z=1",
            "decode.png?z=1,2,3",
            "decode.png?z=a,b",
            "decode.png?z=nan,0",
        ),
        *(
            "decode.png?z=inf,0",
            "decode.png?z=1e30,0",
            "decode.png?z=1_0,0",
            "decode.png?z=%D9%A1,0",
            "decode.png?y=1,2",
        ),
        *("grid.png?side=0", "grid.png?side=65", "grid.png?side=-1", "grid.png?side=x", "grid.png?side=%C2%B2"),
        *("grid.png?span=0", "grid.png?span=-4", "grid.png?span=nan", "grid.png?span=1&quantiles=true"),
        *(
            "grid.png?slice=0,0",
            "grid.png?slice=0,2",
            "grid.png?slice=1",
            "grid.png?slice=-1,0",
            "grid.png?quantiles=1",
        ),
    ],
)
def test_parameters_that_make_no_picture_are_one_sentence(service, query):
    answer = service.get(f"/v1/{query}")
    assert (answer.status, list(answer.json)) == (400, ["error"])


CRASHING = """
import os, sys
from vae_serve.images import decode
from vae_serve.serve import picture_process

whole = decode.Decoder.__call__

def hostile(self, data):
    if data == b"crash":
        os.kill(os.getpid(), 11)
    if data == b"hang":
        while True: pass
    if data == b"grow":
        keep = bytearray(2 << 30)
    if data == b"exit":
        os._exit(0)
    return whole(self, data)

decode.Decoder.__call__ = hostile
picture_process.main()
"""


@pytest.fixture
def hostile(tmp_path):
    """A service whose decoder has faults that real files have brought about in real decoders.

    The process that decodes is the real one, started by another program: in the place of Python is one that gives the
    decoder its faults first.
    """
    (tmp_path / "faults.py").write_text(CRASHING)
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nshift 3\nexec {sys.executable} {tmp_path}/faults.py "$@"\n')
    python.chmod(0o755)
    program = tmp_path / "started.py"
    program.write_text(
        "import sys\n"
        "from vae_serve.serve import picture_pool\n"
        f"class system: executable = {str(python)!r}\n"
        "picture_pool.sys = system\n"
        "from vae_serve.__main__ import run\n"
        "run()\n"
    )
    with serving("--model", MNIST, "--workers", 2, "--picture-timeout", 1, cwd=tmp_path, program=(str(program),)) as it:
        yield it


@pytest.mark.parametrize(
    ("data", "status", "kind"),
    [(b"crash", 422, "crashed"), (b"exit", 422, "crashed"), (b"hang", 422, "timeout"), (b"grow", 413, "too_large")],
)
def test_what_a_picture_does_to_its_decoder_happens_to_no_other_request(hostile, picture, data, status, kind):
    right = hostile.post("/v1/encode", picture).json
    answers = []
    callers = [threading.Thread(target=lambda: answers.append(hostile.post("/v1/encode", data))) for _ in range(4)]
    for caller in callers:
        caller.start()
    health = hostile.get("/v2/health/ready")
    for caller in callers:
        caller.join()
    assert health.status == 200
    assert [(answer.status, answer.json["kind"]) for answer in answers] == [(status, kind)] * 4
    assert hostile.post("/v1/encode", picture).json == right
