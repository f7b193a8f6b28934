"""The stubs in `typings/` against the libraries that they describe."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TYPINGS = Path(__file__).parent.parent / "typings"

NARROWER = (  # a stub holds what the project uses
    "stub does not have",
    "is not keyword-only",
    "has a default value but stub parameter does not",
    "is a disjoint base at runtime",
    "metaclass differs",
)


@pytest.mark.slow
@pytest.mark.parametrize("library", sorted(path.name for path in TYPINGS.iterdir()))
def test_a_stub_names_only_what_its_library_has(tmp_path, library):
    shutil.copytree(TYPINGS, tmp_path / "typings")
    with (tmp_path / "typings" / library / "__init__.pyi").open("a") as file:
        file.write("\ndef no_such_function() -> None: ...\n")  # so that the check is seen to find something
    done = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", library, "--ignore-missing-stub", "--concise"],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(tmp_path / "typings")},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    wrong = [line for line in done.stdout.splitlines() if not any(words in line for words in NARROWER)]
    assert wrong == [f"{library}.no_such_function is not present at runtime"], done.stdout + done.stderr
