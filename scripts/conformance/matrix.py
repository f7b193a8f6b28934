"""A bundle's conformance vectors through every runtime, each in a fresh process with nothing of vae-serve in it.

    python matrix.py [BUNDLE] [--write] [--json]

A runner (run_python.py, run_node.mjs, run_browser.mjs, or a compiled example) gets a folder with a job: `job.json` and
the input rows as raw little-endian files. It leaves the outputs there, `encode-BATCH-INDEX.out` and
`decode-BATCH-0.out`, and prints {"version", "rates"}. The comparison is made here.
"""

import argparse
import importlib.metadata
import importlib.util
import itertools
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))

from vae_serve.deploy import deploy  # noqa: E402  (the path must be set first)
from vae_serve.exporting import snippets  # noqa: E402  (the path must be set first)
from vae_serve.model import bundle, parity  # noqa: E402  (the path must be set first)

BATCHES = (1, 7)
TIMED_BATCH = 64
SECONDS = 1.0

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


@dataclass(frozen=True)
class Row:
    """What came out."""

    runtime: Runtime
    version: str
    largest: dict[tuple[str, int], float]  # (encode | decode, batch) -> largest difference
    within: dict[tuple[str, int], bool]  # whether each of them is tolerated
    rates: dict[str, float]  # images per second at TIMED_BATCH

    @property
    def passed(self) -> bool:
        """Whether every output is within the tolerance of its type."""
        return all(self.within.values())


def _python(module: str, package: str) -> Callable[[Path, Path], Json]:
    def run(job: Path, example: Path) -> Json:
        if importlib.util.find_spec(module) is None:
            raise Unavailable(f"{package} is not installed")
        return _call([sys.executable, HERE / "run_python.py", job, example, package])

    return run


def _node(runner: str) -> Callable[[Path, Path], Json]:
    def run(job: Path, example: Path) -> Json:
        if shutil.which("node") is None or not (ROOT / "node_modules" / "onnxruntime-web").is_dir():
            raise Unavailable("Node or its packages are not installed")
        if runner == "run_browser.mjs" and not browser():
            raise Unavailable("there is no Chromium")
        return _call(["node", HERE / runner, job, example])

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


def _call(words: list[str | Path]) -> Json:
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


def try_runtime(runtime: Runtime, path: Path, seconds: float = SECONDS) -> Row:
    """The conformance vectors of the bundle in `path` through one runtime; speed is not measured in 0 seconds.

    Raises:
        Unavailable: the runtime is not installed, or the bundle lacks the format that it reads.
    """
    if not (path / runtime.reads).is_file():
        raise Unavailable(f"the bundle has no {runtime.reads}")
    manifest = bundle.read_manifest(path / bundle.MANIFEST)
    tolerance = json.loads((path / "conformance" / "conformance.json").read_text())["tolerance"]
    expected: dict[str, list[Array]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        calls: Json = {}
        for name, network, graph in (("encode", "encoder", manifest.encoder), ("decode", "decoder", manifest.decoder)):
            if graph is None:
                raise Unavailable("the bundle has no ONNX files")
            vectors = [
                np.load(path / "conformance" / network / f"{tensor.name}.npy", allow_pickle=False)
                for tensor in (*graph.inputs, *graph.outputs)
            ]
            expected[name] = vectors[1:]
            vectors[0].tofile(Path(scratch, f"{name}.in"))
            calls[name] = {
                "file": f"{name}.in",
                "dtype": str(vectors[0].dtype),
                "shape": vectors[0].shape,
                "output_widths": [output[0].size for output in vectors[1:]],
            }
        job = {
            "bundle": str(path.resolve()),
            "calls": calls,
            "batches": BATCHES,
            "timed_batch": TIMED_BATCH,
            "seconds": seconds,
        }
        job_file = Path(scratch, "job.json")
        job_file.write_text(json.dumps(job))
        result = runtime.run(job_file, EXAMPLES / runtime.example)
        largest, within = {}, {}
        for key in itertools.product(calls, BATCHES):
            name, batch = key
            apart = [
                _difference(one, _read(Path(scratch, f"{name}-{batch}-{index}.out"), one))
                for index, one in enumerate(expected[name])
            ]
            largest[key] = max(apart)
            allowed = [tolerance[str(one.dtype)] for one in expected[name]]
            within[key] = all(one <= limit for one, limit in zip(apart, allowed, strict=True))
    return Row(runtime, result["version"], largest, within, result["rates"])


def _difference(expected: Array, found: Array) -> float:
    if expected.dtype == np.uint8:
        return float(np.abs(found.astype(int) - expected).max())
    return float(parity.difference(expected, found).max())


def _read(file: Path, like: Array) -> Array:
    return np.fromfile(file, like.dtype).reshape(like.shape)


def table(rows: list[Row], missing: dict[str, str]) -> str:
    """The markdown table, what could not be tried, and the machine."""
    head = ["runtime", "version", *(f"{name}, batch {batch}" for name in ("encoder", "decoder") for batch in BATCHES)]
    lines = [[*head, "encodes/s", "decodes/s"], ["---"] * 2 + ["--:"] * 6]
    for row in rows:
        differences = [f"{row.largest[name, batch]:.1e}" for name in ("encode", "decode") for batch in BATCHES]
        rates = [f"{_rounded(row.rates[name]):,}" for name in ("encode", "decode")]
        lines.append([row.runtime.name, row.version, *differences, *rates])
    text = "".join("| " + " | ".join(line) + " |\n" for line in lines)
    text += (
        f"\nLargest difference from the trained Keras model, |found - expected| / max(1, |expected|); allowed are "
        f"{parity.TOLERANCE:g}. Speed at batch {TIMED_BATCH}, the best call of a second, on {os.cpu_count()} cores "
        f"({platform.machine()}) with whatever threads the example asks for.\n"
    )
    return text + "".join(f"\n{name} was not tried: {reason}.\n" for name, reason in missing.items())


def _rounded(rate: float) -> int:
    return int(float(f"{rate:.2g}"))


def write_docs(page: Path, parts: dict[str, str]) -> None:
    """Puts each part between its markers, <!-- NAME --> and <!-- end of NAME -->."""
    text = page.read_text(encoding="utf-8")
    for name, contents in parts.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)"
        pieces = re.split(pattern, text, flags=re.DOTALL)
        if len(pieces) != 4:
            raise ValueError(f"{page} has no part <!-- {name} -->")
        before, begin, end, after = pieces
        text = f"{before}{begin}{contents}{end}{after}"
    page.write_text(text, encoding="utf-8")


def examples() -> str:
    """Every example with its title and how it is started, as markdown."""
    parts = []
    for runtime in RUNTIMES:
        parts.append(f"### {runtime.name}\n\n`{runtime.command}`\n\n{snippets.fenced(EXAMPLES / runtime.example)}")
    return "\n".join(parts)


def page(path: Path, pictures: Path) -> str:
    """How long the page of `vae-serve deploy web` takes to load and decode, a sentence; screenshots go to `pictures`.

    Raises:
        Unavailable: there is no browser.
    """
    if browser() is None:
        raise Unavailable("there is no Chromium")
    with tempfile.TemporaryDirectory() as scratch:
        deploy(path, "web", Path(scratch, "web"))
        seen = _call(["node", HERE / "page.mjs", Path(scratch, "web"), pictures])
    return (
        f"Measured by `scripts/runtimes` from a server on the same machine, Chromium {seen['chromium']}: first picture "
        f"{seen['first_picture_ms'] / 1000:.1f} s after the page was asked for; while dragging, "
        f"{seen['decode_ms']['median']:.1f} ms a digit at the median of {seen['decode_ms']['count']}; "
        f"{seen['bytes'] / 1e6:.1f} MB fetched in all. The self-check's largest difference: "
        f"{max(float(row[2]) for row in seen['check']['rows']):.1e}.\n"
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", nargs="?", type=Path, default=ROOT / "exports" / "mnist")
    parser.add_argument("--write", action="store_true", help="put table and examples into docs/runtimes.md")
    asked = parser.parse_args()
    rows: list[Row] = []
    missing: dict[str, str] = {}
    for runtime in RUNTIMES:
        print(f"{runtime.name} ...", file=sys.stderr, flush=True)
        try:
            rows.append(try_runtime(runtime, asked.bundle))
        except Unavailable as reason:
            missing[runtime.name] = str(reason)
    text = table(rows, missing)
    print(text)
    if asked.write:
        parts = {"table": text, "examples": examples(), "page": page(asked.bundle, ROOT / "docs" / "pictures")}
        write_docs(ROOT / "docs" / "runtimes.md", parts)
    if failed := [row.runtime.name for row in rows if not row.passed]:
        sys.exit(f"beyond the tolerance: {', '.join(failed)}")


if __name__ == "__main__":
    main()
