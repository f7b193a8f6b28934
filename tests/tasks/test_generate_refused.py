"""What `vae-serve generate` refuses, each in one sentence with the reason."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import linear_bundle
import numpy as np
import pytest

from vae_serve import cli

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return linear_bundle.write(tmp_path_factory.mktemp("exports") / "linear")


def refused(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """One sentence with these words, and this exit code."""
    assert done.returncode == code, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    for word in words:
        assert word in done.stderr


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    """The command line in this process, in tmp_path: as good as a fresh one where nothing but a refusal comes out."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        with pytest.raises(SystemExit) as left:
            cli.main([str(word) for word in words])
        return subprocess.CompletedProcess(words, left.value.code, *capsys.readouterr())

    return run


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--count", 0], "--count 0"),
        (["--count", 10**15], "1,000,000,000,000,000 pictures are more than one job takes"),
        (["--count", 5, "--seed", -1], "--seed -1"),
        (["--count", 5, "--out", "a.png"], "a.png"),
        (["--count", 5, "--out", "a.jpg"], "a.jpg"),
        (["--count", 5, "--latents", "x.npy"], "--count and --latents"),
        (["--count", 5, "--axes"], "--axes is for the latent plane"),
        (["--count", 5, "--span", 2], "--span is for the latent plane"),
        (["--grid", 5, "--span", 2, "--quantiles"], "--span and --quantiles"),
        (["--grid", 5, "--span", -2], "--span -2.0"),
        (["--grid", 5, "--span", "nan"], "--span nan"),
        (["--grid", 5, "--slice", "0"], "--slice 0"),
        (["--grid", 5, "--slice", "0,2"], "--slice 0,2"),
        (["--grid", 5, "--slice", "1,1"], "--slice 1,1"),
        (["--grid", 5, "--axes", "--out", "a.npy"], "--axes is for one picture"),
        (["--interpolate", "a.png", "b.png", "--steps", 1], "--steps 1"),
        (["--interpolate", "a.png", "b.png", "--grid", 3], "--grid and --interpolate"),
        (["--grid", 5, "--workers", 0], "--workers 0"),
        (["--grid", 5, "--shard", "1/2"], "--shard is for many pictures"),
        (["--count", 2, "--shard", "1/5"], "--shard 1/5 of 2 pictures is none"),
        (["--count", 2, "--shard", "3/2"], "--shard 3/2: give I/N"),
    ],
)
def test_options_that_make_no_sense_are_wrong_usage(here, bundle, tmp_path, words, said):
    refused(here("generate", *words, "--model", bundle), 2, said)
    assert list(tmp_path.iterdir()) == []


def points_file(folder: Path, name: str, value: object) -> None:
    if isinstance(value, str):
        (folder / name).write_text(value)
    elif isinstance(value, bytes):
        (folder / name).write_bytes(value)
    elif value is not None:
        np.save(folder / name, value, allow_pickle=True)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("gone.npy", None, "is not there"),
        ("nan.npy", np.float32([[0, 0], [np.nan, 0]]), "point 1"),
        ("shape.npy", np.zeros((3, 5), np.float32), "5 dimensions"),
        ("flat.npy", np.zeros(3, np.float32), "shape (3,)"),
        ("empty.npy", np.zeros((0, 2), np.float32), "no points"),
        ("object.npy", np.array([[0, print]], object), "never unpickled"),
        ("text.npy", "no array", "neither a .npy nor a .npz file"),
        ("words.csv", "0,1\n0,one\n", "line 2"),
        ("short.csv", "0,1\n0\n", "line 2"),
        ("names.csv", "path,label\na,1\n", "header"),
        ("broken.parquet", b"PAR1 and no more", "broken.parquet"),
        ("points.txt", "0 1", ".npy, .npz, .csv, .parquet"),
    ],
)
def test_points_that_cannot_be_used_are_refused_by_file_and_reason(here, bundle, tmp_path, name, value, said):
    points_file(tmp_path, name, value)
    refused(here("generate", "--latents", name, "--model", bundle), 1, name, said)


def test_a_picture_that_cannot_be_read_ends_an_interpolation(vae_serve, bundle, tmp_path):
    (tmp_path / "a.png").write_text("no picture")
    words = ["generate", "--interpolate", "a.png", "a.png", "--model", bundle]
    refused(vae_serve(*words, cwd=tmp_path), 1, "a.png")


# Nothing is read-only to root, unless it gives that power away.
AS_ANYBODY = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []


@pytest.mark.skipif(bool(AS_ANYBODY) and not shutil.which("setpriv"), reason="root, and no setpriv (util-linux)")
@pytest.mark.parametrize("words", [["--grid", 3], ["--count", 3], ["--count", 3, "--out", "a.npy"]])
def test_a_read_only_folder_is_said_to_be_one(bundle, tmp_path, words):
    room = tmp_path / "room"
    room.mkdir(mode=0o500)
    command = [*AS_ANYBODY, sys.executable, "-m", "vae_serve", "generate", *map(str, words), "--model", str(bundle)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=room, env=env, capture_output=True, text=True, check=False)
    refused(done, 1, str(room), "cannot be written")


def test_a_file_where_a_folder_should_be_is_named(here, bundle, tmp_path):
    (tmp_path / "notes").write_text("")
    for words in (["--grid", 3, "--out", "notes/a.png"], ["--count", 3, "--out", "notes/a.zip"]):
        refused(here("generate", *words, "--model", bundle), 1, "the folder notes cannot be made")


def test_an_array_larger_than_the_disk_is_refused_before_any_work(vae_serve, tmp_path):
    bundle = linear_bundle.write(tmp_path / "large", image_shape=(64, 64, 3))
    done = vae_serve("generate", "--count", 10**9, "--out", "a.npy", "--model", bundle, cwd=tmp_path)
    refused(done, 1, "would take 12,288,000,000,000 bytes")
    assert [file.name for file in tmp_path.iterdir()] == ["large"]


def test_a_disk_that_is_full_names_the_file(vae_serve, bundle, tmp_path):
    # /dev/full cannot be a folder; a limit on file size gives the same refusal from the kernel
    command = f"ulimit -f 10; exec {sys.executable} -m vae_serve generate --count 20000 --out a.zip --model {bundle}"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    refused(done, 1, "a.zip", "run the same command again")
    assert vae_serve("generate", "--count", 20000, "--out", "a.zip", "--model", bundle, cwd=tmp_path).returncode == 0
    assert [file.name for file in tmp_path.iterdir()] == ["a.zip"]


def test_a_bundle_without_onnx_says_how_to_get_it(vae_serve, bundle, tmp_path):
    manifest = json.loads((bundle / "manifest.json").read_text())
    (tmp_path / "bare").mkdir()
    bare = {**manifest, "graphs": [], "files": []}
    (tmp_path / "bare" / "manifest.json").write_text(json.dumps(bare))
    refused(vae_serve("generate", "--grid", 3, "--model", "bare", cwd=tmp_path), 1, "bare", "vae-serve export")
