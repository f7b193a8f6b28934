"""Import boundaries, seen from a fresh process: what a command really loads."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "vae_serve"

HEAVY = {"tensorflow", "keras", "tf2onnx", "onnx", "onnxruntime", "matplotlib", "pyarrow", "PIL", "numpy", "rich"}


def loaded_by(statement: str) -> set[str]:
    """Top-level names in sys.modules after `statement`, in a fresh interpreter."""
    code = f"{statement}\nimport sys, json; print(json.dumps(sorted({{m.split('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_command_line_itself_loads_nothing_heavy():
    assert loaded_by("import vae_serve.cli") & HEAVY == set()


def test_help_loads_nothing_heavy():
    statement = "import contextlib, vae_serve.cli\nwith contextlib.suppress(SystemExit): vae_serve.cli.main(['--help'])"
    assert loaded_by(statement) & HEAVY == set()


@pytest.mark.parametrize("module", ["model.bundle", "model.samplers", "images.mnist", "images.pixels", "model.model"])
def test_the_serving_side_loads_no_training_package(module: str):
    assert loaded_by(f"import vae_serve.{module}") & {"tensorflow", "keras", "tf2onnx", "onnx", "matplotlib"} == set()


@pytest.mark.parametrize(
    ("library", "module"),
    [
        ("onnxruntime", "model/sessions.py"),
        ("imagecodecs", "images/fast.py"),
        ("sklearn", "evaluate/label_figures.py"),
        ("tf2onnx", "exporting/convert/onnx.py"),
        ("ai_edge_litert", "exporting/convert/litert.py"),
    ],
)
def test_a_library_without_types_is_imported_in_one_module(library: str, module: str):
    assert [str(file.relative_to(PACKAGE)) for file in sorted(PACKAGE.rglob("*.py")) if library in imported(file)] == [
        module
    ]


def test_a_local_job_loads_nothing_of_object_stores(tmp_path):
    program = f"""
import json, sys, vae_serve
vae_serve.embed("mnist", out={str(tmp_path / "out")!r})
vae_serve.generate(grid=2, out={str(tmp_path / "plane.png")!r})
print(json.dumps([name for name in sys.modules if "obstore" in name or ".storage.object_" in name or ".lease" in name]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert json.loads(done.stdout) == []


def imported(file: Path) -> set[str]:
    """Top-level names of all packages that a module imports, within functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=aliases):
                names |= {alias.name.split(".")[0] for alias in aliases}
            case ast.ImportFrom(module=str() as name, level=0):
                names.add(name.split(".")[0])
    return names
