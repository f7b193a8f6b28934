"""Sources and latents by the command line: exit codes and sentences."""

import io
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image


@pytest.fixture
def picture(digits, tmp_path) -> Path:
    (tmp_path / "cat").mkdir()
    Image.fromarray(digits[0, :, :, 0]).save(tmp_path / "cat" / "1.png")
    return tmp_path / "cat" / "1.png"


def table(folder: Path) -> list[dict[str, object]]:
    return pq.read_table(folder / "part-00000.parquet").to_pylist()


def test_the_documented_find_labels_by_the_first_folder(picture, tmp_path):
    line = f"find . -name '*.png' | {sys.executable} -m vae_serve embed - --out vectors"
    done = subprocess.run(
        ["sh", "-c", line], cwd=tmp_path, env={"PYTHONPATH": ":".join(sys.path)}, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [(row["path"], row["label"]) for row in table(tmp_path / "vectors")] == [("./cat/1.png", "cat")]


def test_a_link_in_a_tar_has_the_vector_of_its_member(vae_serve, picture, tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(picture, "cat/1.png")
        link = tarfile.TarInfo("dog/2.png")
        link.type, link.linkname = tarfile.LNKTYPE, "cat/1.png"
        archive.addfile(link, io.BytesIO())
    assert vae_serve("embed", "x.tar", "--out", "a", cwd=tmp_path).returncode == 0
    assert vae_serve("embed", "cat/1.png", "--out", "b", cwd=tmp_path).returncode == 0
    first, second = table(tmp_path / "a")
    assert first["z_mean"] == second["z_mean"] == table(tmp_path / "b")[0]["z_mean"]
    assert (first["label"], second["label"]) == ("cat", "dog")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["embed", "", "--out", "v"], 2, "the source is an empty word"),
        (["embed", "mnist", "--out", "v"], 2, "say ./mnist for the folder"),
        (["embed", "cat", "--out", "v", "--seed", "-1"], 2, "--seed -1 is not in 0..2^64-1"),
        (["embed", "cat", "--out", "v", "--shard", f"1/{'9' * 5000}"], 2, "give I/N"),
        (["generate", "--latents", "z.npy", "--out", "o.npy"], 1, "finite, and as a float32 too"),
        (["embed", "pipe.zip", "--out", "v"], 1, "pipe.zip cannot be read: it is a pipe"),
    ],
)
def test_what_cannot_be_meant_is_said_in_a_sentence(vae_serve, picture, tmp_path, words, code, said):
    (tmp_path / "mnist").mkdir()
    subprocess.run(["mkfifo", "pipe.zip"], cwd=tmp_path, check=True)
    np.save(tmp_path / "z.npy", np.array([[1e300, 0]]))
    done = vae_serve(*words, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_npz_of_generate_is_read_by_generate(vae_serve, tmp_path):
    assert vae_serve("generate", "--count", 3, "--out", "a.npz", cwd=tmp_path).returncode == 0
    assert vae_serve("generate", "--latents", "a.npz", "--out", "b.npy", cwd=tmp_path).returncode == 0
    assert np.array_equal(np.load(tmp_path / "a.npz")["pictures"], np.load(tmp_path / "b.npy"))
