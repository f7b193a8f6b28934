"""Import boundaries, seen from a fresh process: what a command really loads."""

import json
import subprocess
import sys

import pytest

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
