"""A program of a few lines over the API: it runs, and strict type checkers have nothing to say."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "program.py"
ROOT = PROGRAM.parent.parent.parent

USES = """
from pathlib import Path
from typing import assert_type

import numpy as np
import numpy.typing as npt

import vae_serve
from vae_serve import errors

images: npt.NDArray[np.uint8] = np.zeros((2, 28, 28), np.uint8)
model = vae_serve.load(Path("exports/mnist"), threads=1)
z_mean, z_log_var = model.encode(images)
assert_type(z_mean, npt.NDArray[np.float32])
assert_type(model.decode(z_mean), npt.NDArray[np.float32])
assert_type(model.decode(z_mean, "uint8"), npt.NDArray[np.uint8])
assert_type(model.image_shape, tuple[int, int, int])
assert_type(vae_serve.embed(images, out="vectors"), vae_serve.EmbedSummary)
assert_type(vae_serve.export("runs/x"), vae_serve.ExportSummary)
assert_type(vae_serve.export(check=True), vae_serve.ExportCheck)
assert_type(vae_serve.reconstruct("photos", model).failed, int)
assert_type(vae_serve.generate(latents=z_mean, out=Path("x.npy")).pictures, int)
assert_type(vae_serve.__version__, str)


def progress(done: int, total: int | None = None, /, **figures: float | str) -> None:
    print(done, total, figures)


try:
    for batch in vae_serve.embed("photos", outputs=["z"], progress=progress, note=print):
        print(len(batch), batch.to_pylist()[0]["path"])
except errors.VaeServeError as error:
    print(error)
"""

WRONG = """
import vae_serve

vae_serve.embed("photos", out="v", format="xml")
vae_serve.embed("photos", format="npy")
vae_serve.embed("photos", outputs=["z_man"])
vae_serve.generate(grid="15")
vae_serve.train("mnist", arch="convv")
vae_serve.nothing
"""


def checked(checker: str, file: Path, cwd: Path) -> "subprocess.CompletedProcess[str]":
    """What a type checker in its strict mode says of a file."""
    if checker == "pyright":
        (cwd / "pyrightconfig.json").write_text(
            json.dumps({"typeCheckingMode": "strict", "include": [str(file)], "extraPaths": [str(ROOT)]})
        )
        words = ["pyright", "--pythonpath", sys.executable, "-p", str(cwd)]
    else:
        words = ["mypy", "--strict", str(file)]
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=cwd,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.mark.slow
def test_the_program_does_what_the_three_commands_do(small_data, tmp_path):
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(small_data)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "500 rows, 0 failed; plane-15x15.png; (3, 2)"
    assert {file.name for file in tmp_path.iterdir()} == {"runs", "exports", "vectors", "plane-15x15.png"}


@pytest.mark.slow
@pytest.mark.parametrize("checker", ["pyright", "mypy"])
def test_strict_type_checkers_accept_the_program_and_all_that_is_public(tmp_path, checker):
    (tmp_path / "uses.py").write_text(USES)
    for file in (PROGRAM, tmp_path / "uses.py"):
        done = checked(checker, file, tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("checker", ["pyright", "mypy"])
def test_strict_type_checkers_find_each_wrong_call(tmp_path, checker):
    (tmp_path / "wrong.py").write_text(WRONG)
    done = checked(checker, tmp_path / "wrong.py", tmp_path)
    lines = {number for number in range(3, 12) if f"wrong.py:{number}:" in done.stdout}
    assert lines == {4, 5, 6, 7, 8, 9}, done.stdout
