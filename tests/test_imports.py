"""Import boundaries, seen from a fresh process: what a command really loads."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "vae_serve"

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


def test_a_library_without_types_has_stubs_or_is_imported_in_one_module_that_the_table_names():
    overrides = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mypy"]["overrides"]
    (listed,) = (override["module"] for override in overrides if override.get("ignore_missing_imports"))
    untyped = {name.removesuffix(".*") for name in listed}
    imports: dict[str, list[str]] = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        assert "ignore[import" not in file.read_text(encoding="utf-8"), f"{file}: the list is the one place"
        modules = imported(file)
        for library in untyped:
            if any(f"{module}.".startswith(f"{library}.") for module in modules):
                imports.setdefault(library, []).append(str(file.relative_to(PACKAGE)))
    table = re.findall(r"^\| `([\w.]+)` \| `([\w./]+)` \|$", (ROOT / "docs/design/rooms.md").read_text("utf-8"), re.M)
    assert imports == {library: [module] for library, module in table}


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
    """The full names of all that a module imports, within functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=aliases):
                names |= {alias.name for alias in aliases}
            case ast.ImportFrom(module=str() as name, names=aliases, level=0):
                names |= {name} | {f"{name}.{alias.name}" for alias in aliases}
    return names
