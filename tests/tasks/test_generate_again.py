"""`vae-serve generate` that was interrupted: the same command goes on, to the same bytes."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import linear_bundle
import numpy as np
import pytest
from interrupting import events_of, interrupted, moments

from vae_serve.images import fast, png_bulk


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return linear_bundle.write(tmp_path_factory.mktemp("exports") / "linear")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.zip", "a.parquet", "a"])
def test_killed_at_any_moment_the_same_command_ends_with_the_same_bytes(vae_serve, bundle, tmp_path, name):
    words = ["generate", "--count", 2_000, "--grid", 10, "--model", bundle, "--workers", 2, "--out"]
    for folder in ("whole", "killed"):
        (tmp_path / folder).mkdir()
    total = events_of(*words, f"whole/{name}", cwd=tmp_path)
    for moment in moments(total, 6):
        killed = interrupted(*words, f"killed/{name}", cwd=tmp_path, at=moment)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        published = (tmp_path / "killed" / name).exists()  # and killed before what it was made in was removed
        again = vae_serve(*words, f"killed/{name}", cwd=tmp_path)
        assert again.returncode == (1 if published else 0), again.stderr
        assert [file.name for file in (tmp_path / "killed").iterdir()] == [name]
        assert contents(tmp_path / "killed" / name) == contents(tmp_path / "whole" / name)
        remove(tmp_path / "killed" / name)


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def contents(path: Path) -> dict[str, bytes]:
    files = path.iterdir() if path.is_dir() else [path]
    return {file.name: file.read_bytes() for file in files}


def test_an_unfinished_job_is_continued_and_another_one_is_refused_with_the_difference(bundle, vae_serve, tmp_path):
    words = ["generate", "--count", 100_000, "--model", bundle, "--out"]
    assert vae_serve(*words, "whole.npy", cwd=tmp_path).returncode == 0
    total = events_of(*words, "counted.npy", cwd=tmp_path)
    stopped = interrupted(*words, "a.npy", cwd=tmp_path, at=total // 2)
    assert stopped.returncode == -signal.SIGKILL
    other = vae_serve(*words, "a.npy", "--seed", 1, cwd=tmp_path)
    assert other.returncode == 1
    assert "points.seed was 0 and is now 1" in other.stderr
    assert "--overwrite" in other.stderr

    made_before = np.load(tmp_path / "a.npy.partial" / ".job" / "pictures.npy", mmap_mode="r+")
    made_before[0] = 99  # a mark in the finished shard, which is still there when that shard was not made again
    made_before.flush()
    assert vae_serve(*words, "a.npy", cwd=tmp_path).returncode == 0
    continued, whole = np.load(tmp_path / "a.npy"), np.load(tmp_path / "whole.npy")
    assert (continued[0] == 99).all()
    assert np.array_equal(continued[1:], whole[1:])
    assert not (tmp_path / "a.npy.partial").exists()


@pytest.mark.skipif(not fast.AVAILABLE, reason="the extra fast is not installed: there is one compressor alone")
def test_a_job_that_another_compressor_began_is_refused_with_the_difference(bundle, tmp_path):
    words = ["generate", "--count", 9000, "--rows-per-shard", 1000, "--model", bundle, "--out"]
    total = events_of(*words, "counted.zip", cwd=tmp_path)
    assert interrupted(*words, "a.zip", cwd=tmp_path, at=total // 2).returncode == -signal.SIGKILL
    without_fast = "import sys; sys.modules['imagecodecs'] = None; from vae_serve.cli import main; main(sys.argv[1:])"
    other = subprocess.run(
        [sys.executable, "-c", without_fast, *map(str, words), "a.zip"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert other.returncode == 1
    assert f"png was '{png_bulk.COMPRESSOR}' and is now 'zlib, level 3'" in other.stderr
