"""The trial of versions covers every Python that TensorFlow has wheels for, from the oldest of this project on."""

import re
from importlib.machinery import SourceFileLoader
from importlib.metadata import metadata
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def trial():
    loader = SourceFileLoader("trial_of_versions", str(ROOT / "scripts" / "test_versions"))
    module = module_from_spec(spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


def test_every_python_of_tensorflow_is_tried():
    pytest.importorskip("tensorflow")
    classifiers = metadata("tensorflow").get_all("Classifier")
    theirs = [found[1] for line in classifiers if (found := re.fullmatch(r".* :: Python :: (3\.\d+)", line))]
    ours = re.search(r'requires-python = ">=3\.(\d+)"', (ROOT / "pyproject.toml").read_text())[1]
    assert list(trial().PYTHONS) == [version for version in theirs if int(version.split(".")[1]) >= int(ours)]


def test_a_row_of_the_record_is_replaced_in_its_place(tmp_path):
    module = trial()
    module.RECORD = tmp_path / "versions.md"
    module.RECORD.write_text("# Versions\n\n| Python | versions | tests |\n|--|--|--|\n\nafter\n")
    for version, end, tests in (
        ("3.12", "newest", "all: b"),
        ("3.11", "newest", "all: old"),
        ("3.12", "oldest", "all: a"),
        ("3.12", "oldest", "without TensorFlow, `-x`: d"),
        ("3.11", "newest", "all: c"),
    ):
        module.record(version, end, {"python": f"{version}.1", "tests": tests, "when": "2026-01-01"})
    lines = module.RECORD.read_text().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| 3.")]
    assert [(row[0], row[1], row[-2]) for row in cells] == [
        ("3.11.1", "newest", "all: c"),
        ("3.12.1", "oldest", "all: a"),
        ("3.12.1", "oldest", "without TensorFlow, `-x`: d"),
        ("3.12.1", "newest", "all: b"),
    ]
    assert lines[-1] == "after"
