"""The runtimes of the table, and how a job goes through each: in a fresh process with nothing of vae-serve in it.

A runner (run_python.py, run_node.mjs, run_browser.mjs, or a compiled example) gets a folder with a job: `job.json` and
the input rows as raw little-endian files. It leaves the outputs there, `encode-BATCH-INDEX.out` and
`decode-BATCH-0.out`, and prints {"version", "rates"}.
"""

import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

Array = np.ndarray[Any, np.dtype[Any]]
Json = dict[str, Any]


class Unavailable(Exception):
    """Why a runtime cannot be tried here."""


@dataclass(frozen=True)
class Runtime:
    """One row of the table."""

    name: str
    example: str  # file in examples/
    reads: str  # the file of the bundle that it needs, for the encoder
    run: Callable[[Path, Path], Json]  # (job file, example) -> {"version", "rates"}
    command: str  # how the example is started or built, for the docs


def _python(module: str, package: str) -> Callable[[Path, Path], Json]:
    def run(job: Path, example: Path) -> Json:
        if importlib.util.find_spec(module) is None:
            raise Unavailable(f"{package} is not installed")
        return run_apart([sys.executable, HERE / "run_python.py", job, example, package])

    return run


def _node(runner: str) -> Callable[[Path, Path], Json]:
    def run(job: Path, example: Path) -> Json:
        if shutil.which("node") is None or not (ROOT / "node_modules" / "onnxruntime-web").is_dir():
            raise Unavailable("Node or its packages are not installed")
        if runner == "run_browser.mjs" and not browser():
            raise Unavailable("there is no Chromium")
        return run_apart(["node", HERE / runner, job, example])

    return run


def browser() -> str | None:
    """The Chromium to use: what CHROMIUM names, else Debian's."""
    return os.environ.get("CHROMIUM") or shutil.which("chromium")


def build_cpp(example: Path, program: Path) -> None:
    """Compiles the OpenVINO example against the headers and libraries of the installed wheel.

    Raises:
        Unavailable: there is no compiler or no OpenVINO.
    """
    if shutil.which("g++") is None or importlib.util.find_spec("openvino") is None:
        raise Unavailable("g++ or openvino is not installed")
    wheel = Path(str(importlib.metadata.distribution("openvino").locate_file("openvino")))
    [library] = (wheel / "libs").glob("libopenvino.so*")
    include, path = f"-I{wheel / 'include'}", f"-Wl,-rpath,{wheel / 'libs'}"
    words: list[str | Path] = ["g++", "-std=c++17", "-O2", include, example, library, path, "-o", program]
    subprocess.run(words, check=True)


def _cpp(job_file: Path, example: Path) -> Json:
    program = job_file.parent / "program"
    build_cpp(example, program)
    job = json.loads(job_file.read_text())
    rates = {}
    for name, call in job["calls"].items():
        rows = np.fromfile(job_file.parent / call["file"], call["dtype"]).reshape(call["shape"])
        model = Path(job["bundle"], {"encode": "encoder.onnx", "decode": "decoder.onnx"}[name])

        def run(rows: Path, batch: int, model: Path = model) -> Array:
            left = job_file.parent / "outputs"
            with rows.open("rb") as stdin, left.open("wb") as stdout:
                subprocess.run([program, model, str(batch)], stdin=stdin, stdout=stdout, check=True, timeout=300)
            return np.fromfile(left, np.float32)

        widths = call["output_widths"]
        for batch in job["batches"]:
            found, at = run(job_file.parent / call["file"], batch), 0
            parts: list[list[Array]] = [[] for _ in widths]
            for start in range(0, len(rows), batch):  # the outputs of a batch follow one another
                for part, width in zip(parts, widths, strict=True):
                    size = min(batch, len(rows) - start) * width
                    part.append(found[at : at + size])
                    at += size
            for index, part in enumerate(parts):
                np.concatenate(part).tofile(job_file.parent / f"{name}-{batch}-{index}.out")
        if job["seconds"]:
            rates[name] = _rate_of_program(lambda many: run(many, job["timed_batch"]), rows, job_file.parent)
    return {"version": importlib.metadata.version("openvino"), "rates": rates}


def _rate_of_program(run: Callable[[Path], Array], rows: Array, folder: Path) -> float:
    """Images per second once it runs: what a long input takes more than a short one, reading and writing included."""

    def seconds(copies: int) -> float:
        file = folder / "many"
        np.tile(rows, (copies, *[1] * (rows.ndim - 1))).tofile(file)
        times = []
        for _ in range(3):
            started = time.perf_counter()
            run(file)
            times.append(time.perf_counter() - started)
        return min(times)

    few, many = 20, 2000
    return (many - few) * len(rows) / max(seconds(many) - seconds(few), 1e-9)


def run_apart(words: list[str | Path]) -> Json:
    """What a runner prints last, in a process that does not find vae-serve by PYTHONPATH."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(words, capture_output=True, text=True, timeout=600, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, words))} failed:\n{done.stderr[-3000:]}")
    result: Json = json.loads(done.stdout.splitlines()[-1])
    return result


RUNTIMES = (
    Runtime(
        "ONNX Runtime",
        "onnxruntime_python.py",
        "encoder.onnx",
        _python("onnxruntime", "onnxruntime"),
        "python examples/onnxruntime_python.py BUNDLE",
    ),
    Runtime(
        "ONNX Runtime in Node",
        "onnxruntime_node.mjs",
        "encoder.onnx",
        _node("run_node.mjs"),
        "npm install --ignore-scripts onnxruntime-node && node examples/onnxruntime_node.mjs BUNDLE",
    ),
    Runtime(
        "ONNX Runtime in a browser",
        "onnxruntime_web.html",
        "encoder.onnx",
        _node("run_browser.mjs"),
        "served with the bundle as bundle/ and onnxruntime-web's dist/ beside it",
    ),
    Runtime(
        "OpenVINO",
        "openvino_python.py",
        "encoder.onnx",
        _python("openvino", "openvino"),
        "python examples/openvino_python.py BUNDLE",
    ),
    Runtime(
        "OpenVINO in C++",
        "openvino_cpp.cpp",
        "encoder.onnx",
        _cpp,
        "g++ -std=c++17 -O2 -I$OV/include examples/openvino_cpp.cpp $OV/libs/libopenvino.so.* -Wl,-rpath,$OV/libs "
        '(OV=$(python -c "import openvino; print(openvino.__path__[0])"))',
    ),
    Runtime(
        "OpenCV DNN",
        "opencv_dnn.py",
        "encoder.onnx",
        _python("cv2", "opencv-python-headless"),
        "python examples/opencv_dnn.py BUNDLE",
    ),
    Runtime(
        "onnx reference evaluator",
        "onnx_reference.py",
        "encoder.onnx",
        _python("onnx", "onnx"),
        "python examples/onnx_reference.py BUNDLE",
    ),
    Runtime(
        "TensorFlow SavedModel",
        "tensorflow_savedmodel.py",
        "saved_model/encoder/1/saved_model.pb",
        _python("tensorflow", "tensorflow"),
        "python examples/tensorflow_savedmodel.py BUNDLE",
    ),
    Runtime(
        "LiteRT",
        "litert.py",
        "encoder.tflite",
        _python("ai_edge_litert", "ai-edge-litert"),
        "python examples/litert.py BUNDLE",
    ),
)
