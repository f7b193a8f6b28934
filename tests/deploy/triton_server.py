"""A real Triton Inference Server on loopback, started by the very line of the README that `deploy triton` writes.

It is PyPI's nvidia-pytriton, which scripts/triton installs in an environment beside the tests' own. Its only backend
runs Python; `triton_backend.py` stands in for the ONNX Runtime backend that the layout names.
"""

import importlib.metadata
import os
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from object_servers import running

VENV = Path(sys.prefix).with_name(f"{Path(sys.prefix).name}-triton")
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
PACKAGES = VENV / "lib" / f"python{VERSION}" / "site-packages"
BACKEND = Path(__file__).with_name("triton_backend.py")


class Addresses(NamedTuple):
    """Where a server answers, each as HOST:PORT."""

    http: str
    grpc: str
    metrics: str


def require_triton() -> None:
    """Skips the test where there is no Triton."""
    if reason := missing():
        pytest.skip(reason)


def missing() -> str | None:
    """Why no Triton can be started here: none is installed, or one with another ONNX Runtime than the tests'."""
    made_from = VENV / ".made-from"
    runtime = f"onnxruntime=={importlib.metadata.version('onnxruntime')}"
    if not made_from.is_file() or runtime not in made_from.read_text().split():
        return "there is no Triton here (scripts/test installs it, where PyPI has nvidia-pytriton for this Python)"
    if _libpython() is None:
        return f"Triton's backend needs this Python as a library, libpython{VERSION}.so.1.0, which is not here"
    return None


@contextmanager
def triton(layout: Path, folder: Path, *options: str) -> Iterator[Addresses]:
    """Triton over a folder that `deploy triton` wrote, while the block runs; it keeps its files in `folder`."""
    with running(
        "tritonserver", lambda ports: triton_command(layout, folder, ports, *options), 3, _is_ready, folder
    ) as ports:
        yield Addresses(*(f"127.0.0.1:{port}" for port in ports))


def triton_command(layout: Path, folder: Path, ports: Sequence[int], *options: str) -> list[str]:
    """The command that starts Triton over a layout, at three ports of loopback, with its backends in `folder`."""
    backends = _backends(folder / "backends")
    libraries = f"{_libpython()}:{PACKAGES / 'nvidia_pytriton.libs'}"
    program, *words = start_line(layout)
    assert program == "tritonserver"
    kinds = zip(("http", "grpc", "metrics"), ports, strict=True)
    return [
        # the backend's processes are those of the first python on PATH, whatever PYTHONPATH says
        *("env", "-u", "PYTHONPATH", f"PATH={VENV / 'bin'}:{os.environ['PATH']}", f"LD_LIBRARY_PATH={libraries}"),
        *(str(PACKAGES / "pytriton" / "tritonserver" / "bin" / program), *words),
        *(f"--backend-directory={backends}", *(f"--{kind}-port={port}" for kind, port in kinds), *options),
    ]


def start_line(layout: Path) -> list[str]:
    """The words of the line in a layout's README that starts the server, in that folder."""
    lines = (layout / "README.md").read_text().replace("\\\n", "").splitlines()
    [line] = [line for line in lines if line.startswith("    tritonserver ")]
    return shlex.split(line.replace("$PWD", str(layout)))


def _backends(folder: Path) -> Path:
    """A folder of backends. Triton refuses one that is a link to elsewhere, so that these are copies."""
    installed = PACKAGES / "pytriton" / "tritonserver"
    if folder.exists():  # an attempt at other ports came before
        return folder
    shutil.copytree(installed / "backends" / "python", folder / "python")
    shutil.copy(installed / "python_backend_stubs" / VERSION / "triton_python_backend_stub", folder / "python")
    (folder / "onnxruntime").mkdir()
    shutil.copy(BACKEND, folder / "onnxruntime" / "model.py")
    return folder


def _libpython() -> Path | None:
    """The folder with this Python as a shared library."""
    folder = Path(sysconfig.get_config_var("LIBDIR"))
    places = (folder, folder / str(sysconfig.get_config_var("MULTIARCH")))
    return next((place for place in places if (place / f"libpython{VERSION}.so.1.0").exists()), None)


def _is_ready(ports: Sequence[int]) -> bool:
    """Whether the server and every model of it are ready."""
    import tritonclient.http

    try:
        with tritonclient.http.InferenceServerClient(f"127.0.0.1:{ports[0]}") as client:
            return bool(client.is_server_ready())
    except OSError:
        return False
