"""A bundle to spoil, and a manifest that fits whatever was done to it."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vae_serve.errors import BundleError
from vae_serve.model import bundle
from vae_serve.model.verify import verify

PACKAGED = bundle.find(None, exports=Path("nowhere"))


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes the fields of a manifest, by no rule but JSON's."""
    file = folder / bundle.MANIFEST
    fields = json.loads(file.read_text(encoding="utf-8"))
    change(fields)
    file.write_text(json.dumps(fields), encoding="utf-8")


def sign(folder: Path) -> Path:
    """Writes sizes and hashes anew, so that what is refused then is the thing itself."""

    def change(fields: dict[str, Any]) -> None:
        files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name != bundle.MANIFEST)
        fields["files"] = [
            {
                "path": file.relative_to(folder).as_posix(),
                "bytes": file.stat().st_size,
                "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            }
            for file in files
        ]

    edit_manifest(folder, change)
    return folder


def as_schema_1(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of a manifest as version 0.1 wrote them, which knew no encoder of bytes beside that of floats."""
    graphs = {graph["role"]: graph for graph in fields["graphs"] if graph["variant"] == "float32"}
    old = {name: value for name, value in fields.items() if name not in ("graphs", "signature_pixels")}
    old["schema_version"] = 1
    for role, graph in graphs.items():
        old[role] = {name: graph[name] for name in ("file", "inputs", "outputs")}
    reports = [*fields["parity"]["reports"], *(report for graph in graphs.values() for report in graph["parity"])]
    old["parity"] = {**fields["parity"], "reports": reports}
    old["files"] = [entry for entry in fields["files"] if entry["path"] != "encoder.uint8.onnx"]
    return json.loads(json.dumps(old))


def make_schema_1(folder: Path) -> Path:
    """Makes a bundle one that version 0.1 could have written."""
    fields = json.loads((folder / bundle.MANIFEST).read_text(encoding="utf-8"))
    (folder / bundle.MANIFEST).write_text(json.dumps(as_schema_1(fields)), encoding="utf-8")
    (folder / "encoder.uint8.onnx").unlink()
    return folder


def refused(folder: Path, *words: str) -> None:
    """A bundle is refused, with these words in the sentence."""
    with pytest.raises(BundleError) as caught:
        verify(folder)
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)


@pytest.fixture
def stranger(tmp_path: Path) -> Path:
    """A sound bundle, the packaged one, to be spoiled."""
    return Path(shutil.copytree(PACKAGED, tmp_path / "stranger"))


@pytest.fixture
def signed() -> Callable[[Path], Path]:
    """See `sign`."""
    return sign
