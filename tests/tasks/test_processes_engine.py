"""Shards in processes of their own: the rows are those of one process, whatever dies, and nothing is left behind."""

import os
import signal
import subprocess
import sys
import tarfile
import time
from contextlib import suppress
from pathlib import Path

import linear_bundle
import numpy as np
import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace
from PIL import Image

from vae_serve.errors import EngineError, SourceError
from vae_serve.images.pixels import PixelRule
from vae_serve.model import bundle as bundles
from vae_serve.sources import sent
from vae_serve.sources.opening import open_source
from vae_serve.tasks.embed import EmbedOptions, embed

ROOT = Path(__file__).parents[2]
SHAPE = (6, 5, 1)
SHARDS = 40
OPTIONS = EmbedOptions(workers=2, rows_per_shard=4, engine="processes")

# A decoder that fails as a faulty library would, in whatever process it is.
DEADLY = """
import os, signal
from vae_serve.images import decode

before = decode.Decoder.__call__
def call(self, data):
    if data == b"deadly":
        os.kill(os.getpid(), signal.SIGSEGV)
    if data == b"exits":
        os._exit(7)
    if data == b"hoards":
        bytearray(2 << 30)
    return before(self, data)
decode.Decoder.__call__ = call
"""


@pytest.fixture(scope="module")
def bundle_folder(tmp_path_factory) -> Path:
    return linear_bundle.write(tmp_path_factory.mktemp("exports") / "linear")


@pytest.fixture(scope="module")
def bundle(bundle_folder) -> bundles.Bundle:
    return bundles.load(bundle_folder)


@pytest.fixture
def pictures(tmp_path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    images = np.random.default_rng(3).integers(0, 256, (4 * SHARDS, *SHAPE[:2]), np.uint8)
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number:03}.png")
    return folder


def parts(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.glob("part-*"))}


def shard_processes(parent: int) -> list[int]:
    """The processes that make shards for this one."""
    return children(parent, b"shard_process")


def children(parent: int, words: bytes = b"") -> list[int]:
    """The processes that this one has started, with these words in their command."""
    numbers = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status, command = (folder / "stat").read_text(), (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if int(status.rpartition(")")[2].split()[1]) == parent and words in command:
            numbers.append(int(folder.name))
    return numbers


def run(source: Path, bundle: bundles.Bundle, out: Path, options: EmbedOptions = OPTIONS, report=lambda *_, **__: None):
    return embed(open_source(str(source)), bundle, PixelRule.from_json(bundle.manifest.pixels), out, options, report)


def test_a_process_that_is_killed_is_replaced_and_its_shard_made_again(pictures, bundle, tmp_path):
    killed: list[int] = []

    def kill(done, *_, **__):
        # One at a time, with shards made in between: while a new process starts, there may be none to kill.
        running = shard_processes(os.getpid())
        if running and len(killed) < 3 and done >= 16 * (len(killed) + 1):
            os.kill(running[0], signal.SIGKILL)
            killed.append(running[0])

    run(pictures, bundle, tmp_path / "there", report=kill)
    run(pictures, bundle, tmp_path / "here", replace(OPTIONS, engine="inline"))
    assert len(set(killed)) == 3
    assert len(parts(tmp_path / "here")) == SHARDS
    assert parts(tmp_path / "there") == parts(tmp_path / "here")
    assert not shard_processes(os.getpid())


def test_a_process_whose_decoders_are_ended_is_replaced_and_its_shard_made_again(pictures, bundle, tmp_path):
    killed: set[int] = set()

    def kill(done, *_, **__):
        servers = [child for process in shard_processes(os.getpid()) for child in children(process)]
        supervisors = [child for server in servers for child in children(server)]
        if len(killed) < 3 and done >= 16 * (len(killed) + 1):
            for supervisor in supervisors[:1]:
                for process in (supervisor, *children(supervisor)):
                    with suppress(ProcessLookupError):
                        os.kill(process, signal.SIGKILL)
                killed.add(supervisor)

    run(pictures, bundle, tmp_path / "there", report=kill)
    run(pictures, bundle, tmp_path / "here", replace(OPTIONS, engine="inline"))
    assert killed
    assert parts(tmp_path / "there") == parts(tmp_path / "here")
    assert not shard_processes(os.getpid())


def test_a_shard_at_which_three_processes_end_is_named_and_what_is_done_stays(pictures, bundle, tmp_path):
    def kill_all(*_, **__):
        for process in shard_processes(os.getpid()):
            os.kill(process, signal.SIGKILL)

    with pytest.raises(EngineError, match=r"3 processes have ended \(SIGKILL\) while they made shard \d+, rows"):
        run(pictures, bundle, tmp_path / "there", report=kill_all)
    assert not shard_processes(os.getpid())
    run(pictures, bundle, tmp_path / "there")
    run(pictures, bundle, tmp_path / "here", replace(OPTIONS, engine="inline"))
    assert parts(tmp_path / "there") == parts(tmp_path / "here")


def test_what_stops_the_job_ends_the_processes(pictures, bundle, tmp_path):
    class Stop(Exception):
        pass

    def stop(done, *_, **__):
        if done:
            raise Stop

    with pytest.raises(Stop):
        run(pictures, bundle, tmp_path / "out", report=stop)
    assert not shard_processes(os.getpid())
    assert 0 < len(parts(tmp_path / "out")) < SHARDS


def test_a_decoder_that_crashes_gives_the_same_row_as_in_one_process(pictures, bundle_folder, tmp_path):
    for name, contents in (("005.png", b"deadly"), ("007.png", b"exits"), ("100.png", b"hoards")):
        (pictures / name).write_bytes(contents)
    (tmp_path / "deadly").mkdir()
    (tmp_path / "deadly" / "sitecustomize.py").write_text(DEADLY)
    for engine in ("inline", "processes"):
        words = ["embed", "pictures", "--model", str(bundle_folder), "--rows-per-shard", "40", "-q", "--out", engine]
        ran = subprocess.run(
            [sys.executable, "-m", "vae_serve", *words, "--engine", engine, "--workers", "2"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": f"{tmp_path / 'deadly'}:{ROOT}"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (ran.returncode, ran.stderr) == (3, "")
    rows = {row["path"]: row["error"] for row in pq.read_table(tmp_path / "processes").to_pylist() if row["error"]}
    assert rows == {
        "005.png": "crashed: the decoder crashed at it twice (SIGSEGV)",
        "007.png": "crashed: the decoder crashed at it twice (exit status 7)",
        "100.png": "too_large: decoding it takes more memory than a decoding process may have",
    }
    assert parts(tmp_path / "processes") == parts(tmp_path / "inline")


def test_a_decoder_is_kept_from_shard_to_shard_and_replaced_where_it_crashes(pictures, bundle_folder, bundle, tmp_path):
    (pictures / "050.png").write_bytes(b"exits")
    (tmp_path / "noted").mkdir()
    note = f"""
begin = decode.Decoder.__init__
def note(self, rule):
    with open({str(tmp_path / "decoders")!r}, "a") as file:
        print(os.getpid(), file=file)
    begin(self, rule)
decode.Decoder.__init__ = note
"""
    (tmp_path / "noted" / "sitecustomize.py").write_text(DEADLY + note)
    words = ["embed", "pictures", "--model", str(bundle_folder), "--rows-per-shard", "4", "-q", "--out", "out"]
    ran = subprocess.run(
        [sys.executable, "-m", "vae_serve", *words, "--engine", "processes", "--workers", "1"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path / 'noted'}:{ROOT}"},
        timeout=120,
        check=False,
    )
    assert ran.returncode == 3
    errors = [row["path"] for row in pq.read_table(tmp_path / "out").to_pylist() if row["error"]]
    assert (errors, len(parts(tmp_path / "out"))) == (["050.png"], SHARDS)
    assert len(set((tmp_path / "decoders").read_text().split())) == 3  # the first, and one after each crash


def test_ctrl_c_ends_all_and_the_same_command_goes_on(pictures, bundle_folder, bundle, tmp_path):
    words = ["embed", "pictures", "--model", str(bundle_folder), "--rows-per-shard", "4", "-q", "--out", "out"]
    command = [sys.executable, "-m", "vae_serve", *words, "--engine", "processes", "--workers", "2"]
    where = {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": str(ROOT)}}
    with subprocess.Popen(command, **where, stderr=subprocess.PIPE) as job:
        while not parts(tmp_path / "out"):
            assert job.poll() is None
            time.sleep(0.001)
        makers = shard_processes(job.pid)
        job.send_signal(signal.SIGINT)
        assert job.wait(timeout=60) == 130
    assert makers
    assert not [maker for maker in makers if Path(f"/proc/{maker}").exists()]
    assert len(parts(tmp_path / "out")) < SHARDS
    assert subprocess.run(command, **where, timeout=120, check=False).returncode == 0
    run(pictures, bundle, tmp_path / "here", replace(OPTIONS, engine="inline"))
    assert parts(tmp_path / "out") == parts(tmp_path / "here")


def test_pictures_of_a_compressed_archive_are_sent_and_what_is_too_large_for_that_is_refused(
    pictures, bundle, tmp_path, monkeypatch
):
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as archive:
        archive.add(pictures, "pictures")
    monkeypatch.setattr(sent, "LARGEST", 300)
    with pytest.raises(SourceError, match=r"x\.tar\.gz is compressed.* carries 300: unpack it.*--rows-per-shard [12]$"):
        run(tmp_path / "x.tar.gz", bundle, tmp_path / "out", replace(OPTIONS, rows_per_shard=80))
    assert not parts(tmp_path / "out")


def test_a_model_that_cannot_be_run_is_refused_as_in_one_process(pictures, bundle, tmp_path):
    source = tmp_path / "x.npy"
    np.save(source, np.zeros((8, *SHAPE), np.uint8))

    def replace_it(*_, **__):
        np.save(source, np.zeros((9, *SHAPE), np.uint8))

    with pytest.raises(SourceError, match=r"x\.npy has changed since the job began"):
        run(source, bundle, tmp_path / "out", report=replace_it)
    assert not shard_processes(os.getpid())
