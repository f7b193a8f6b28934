"""The shipped networks with fewer bits: what is gained in speed and lost in figures. Prints a markdown table.

python scripts/benchmarks/precision.py [--images N] [--rounds R]

Each kind is run on one thread, in batches that are best for float32 (encoder 128, decoder 64), in turn within each
round; the ratio is of medians. int8 is ONNX Runtime's own static quantisation, one scale for each channel, calibrated
on training images; bfloat16 is OpenVINO's, from the same file, and is fast on processors with AMX alone. OpenVINO gets
batches of one size, which it compiles for. Losses: the change of the negative ELBO in nats an image over the test
images when this network alone is replaced, and the largest difference of any output.
"""

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import openvino
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, quantize_static

from vae_serve.evaluate import metrics
from vae_serve.images import mnist
from vae_serve.images.pixels import to_model

Array = npt.NDArray[np.float32]
Run = Callable[[Array], list[Array]]

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "exports" / "mnist"
BATCH = {"encoder": 128, "decoder": 64}
CALIBRATION, SEED = 1000, 0
CALLS = 20  # of one measurement


class _Rows(CalibrationDataReader):
    """Batches to calibrate on."""

    def __init__(self, name: str, rows: Array) -> None:
        self._batches = iter([{name: rows[start : start + 100]} for start in range(0, len(rows), 100)])

    def get_next(self) -> dict[str, Array] | None:
        """The next one."""
        return next(self._batches, None)


def onnx_runtime(file: Path) -> Run:
    """An ONNX file on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda rows: session.run(None, {name: rows})


def open_vino(file: Path, precision: str, batch: int) -> Run:
    """The same in OpenVINO, compiled for batches of one size; smaller ones are filled up."""
    settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": precision}
    core = openvino.Core()
    model = core.read_model(str(file))
    model.reshape([batch, *model.inputs[0].get_partial_shape()[1:]])
    compiled = core.compile_model(model, "CPU", settings)
    request = compiled.create_infer_request()

    def run(rows: Array) -> list[Array]:
        whole = rows if len(rows) == batch else np.concatenate([rows, np.repeat(rows[:1], batch - len(rows), axis=0)])
        results = request.infer([whole], share_inputs=True)
        return [np.array(results[output][: len(rows)]) for output in compiled.outputs]

    return run


def quantised(role: str, rows: Array, folder: Path) -> Path:
    """The network in int8, calibrated on rows."""
    file = folder / f"{role}.int8.onnx"
    quantize_static(
        BUNDLE / f"{role}.onnx",
        file,
        _Rows({"encoder": "image", "decoder": "z"}[role], rows),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        calibrate_method=CalibrationMethod.MinMax,
    )
    return file


def whole(run: Run, rows: Array, batch: int) -> list[Array]:
    """All rows in batches."""
    parts = [run(rows[start : start + batch]) for start in range(0, len(rows), batch)]
    return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]


def measure(kinds: dict[str, Run], rows: Array, rounds: int) -> dict[str, float]:
    """Seconds of CALLS calls of each kind, medians of rounds in which they take turns."""
    taken: dict[str, list[float]] = {name: [] for name in kinds}
    for number in range(rounds + 1):
        for name, run in kinds.items():
            began = time.perf_counter()
            for _ in range(CALLS):
                run(rows)
            if number:  # the first one warms up
                taken[name].append(time.perf_counter() - began)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000, help="test images for the losses")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    test = mnist.load("test")[0][: options.images]
    training = to_model(mnist.load("train")[0][:CALIBRATION])
    floats = {role: onnx_runtime(BUNDLE / f"{role}.onnx") for role in BATCH}

    def nats(**other: Run) -> float:
        run = {**floats, **other}

        def encode(images: Array) -> tuple[Array, Array]:
            mean, log_var = whole(run["encoder"], images, BATCH["encoder"])
            return mean, log_var

        def decode(z: Array) -> Array:
            return whole(run["decoder"], z, BATCH["decoder"])[0]

        figures = metrics.elbo(encode, decode, test, draws=1, seed=SEED)
        return float(np.mean(figures.reconstruction + figures.kl))

    before = nats()
    points = whole(floats["encoder"], training, BATCH["encoder"])[0]
    inputs = {"encoder": to_model(test[: BATCH["encoder"]]), "decoder": points[: BATCH["decoder"]]}
    print("| network | run by | times as fast | nats an image, change | largest difference |")
    print("|---|---|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as name:
        for role, rows in (("encoder", training), ("decoder", points)):
            kinds = {
                "ONNX Runtime, float32": floats[role],
                "ONNX Runtime, int8": onnx_runtime(quantised(role, rows, Path(name))),
                "OpenVINO, float32": open_vino(BUNDLE / f"{role}.onnx", "f32", BATCH[role]),
                "OpenVINO, bfloat16": open_vino(BUNDLE / f"{role}.onnx", "bf16", BATCH[role]),
            }
            seconds = measure(kinds, inputs[role], options.rounds)
            sample = to_model(test) if role == "encoder" else points
            expected = whole(floats[role], sample, BATCH[role])
            for kind, run in kinds.items():
                ratio = seconds["ONNX Runtime, float32"] / seconds[kind]
                found = whole(run, sample, BATCH[role])
                largest = max(float(np.abs(a - b).max()) for a, b in zip(found, expected, strict=True))
                change = nats(**{role: run}) - before
                print(f"| {role} | {kind} | {ratio:.2f} | {change:+.4f} | {largest:.2g} |", flush=True)
    about = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    amx = "with" if " amx_bf16" in about else "without"
    print(
        f"\n{len(test):,} images, negative ELBO {before:.3f}; a processor {amx} AMX for bfloat16; Python "
        f"{platform.python_version()}, ONNX Runtime {version('onnxruntime')}, OpenVINO {version('openvino')}; "
        f"{options.rounds} rounds of {CALLS} calls."
    )


if __name__ == "__main__":
    main()
