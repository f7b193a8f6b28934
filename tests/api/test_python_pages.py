"""The examples of the API's pages run, in order, with real files; and so do the scripts under examples/."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import vae_serve

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "python.md"


def blocks(page: Path) -> list[str]:
    """The Python of a page."""
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


@pytest.fixture
def place(tmp_path, digit_folder, small_data) -> Path:
    """What the examples find where they run."""
    (tmp_path / "photos").mkdir()
    for number, file in enumerate(sorted(digit_folder.rglob("*.png"))[:40]):
        shutil.copy(file, tmp_path / "photos" / f"{number:02}.png")
    (tmp_path / "photos" / "torn.png").write_bytes(b"")
    shutil.copy(small_data, tmp_path / "digits.npz")
    (tmp_path / "exports").mkdir()
    (tmp_path / "exports" / "mnist").symlink_to(vae_serve.load().bundle.path)
    return tmp_path


def executed(code: str, cwd: Path) -> str:
    """What it prints, as a program of its own."""
    (cwd / "page.py").write_text(code, encoding="utf-8")
    return script(cwd / "page.py", cwd=cwd)


@pytest.mark.slow
def test_the_page_s_examples_run_in_order(place):
    code = blocks(PAGE)
    assert len(code) >= 8
    printed = executed("\n".join(code), place)
    [said] = re.findall(r"print\(error\) +# (.*)", "\n".join(code))
    assert said in printed.splitlines()
    assert "torn.png empty: " in printed
    assert "41 rows, 1 failed: {'empty': 1}" in printed


def test_the_readme_s_example_runs(place):
    [code] = blocks(ROOT / "README.md")
    assert len(code.strip().splitlines()) <= 8
    executed(code, place)
    assert (place / "vectors").is_dir()


def test_the_page_names_all_that_is_public():
    page = PAGE.read_text(encoding="utf-8")
    assert [name for name in vae_serve.__all__ if not re.search(rf"\b{re.escape(name)}\b", page)] == []
    errors = [name for name, value in vars(vae_serve.errors).items() if isinstance(value, type)]
    assert [name for name in errors if name != "ImageError" and f"`{name}`" not in page] == []


def script(file: Path | str, *arguments: object, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "api" / file), *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_latent_plane_s_script_draws_the_plane(tmp_path):
    printed = script("latent_plane.py", cwd=tmp_path)
    assert (tmp_path / "plane.png").exists()
    assert len(re.findall(r"^\d \[", printed, re.M)) == 10


def test_the_search_finds_the_picture_itself_first(digit_folder, tmp_path):
    query = next(digit_folder.glob("7/*.png"))
    printed = script("embed_and_search.py", digit_folder, query, cwd=tmp_path)
    assert "300 rows, 0 failed" in printed
    first = printed.splitlines()[-5].split()
    assert first[0] == f"7/{query.name}"
    assert float(first[-1]) == 0
