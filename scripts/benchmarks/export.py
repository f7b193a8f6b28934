"""What an export is worth, as a markdown table: each architecture in each form against tf2onnx's own graph.

scripts/bench export [--runs FOLDER ...] [--arch conv wide dcgan mlp]
scripts/bench export --whole wide

Weights are those of the given runs, else untrained ones with shaken BatchNorm statistics. Every graph runs in ONNX
Runtime and in OpenVINO on one thread; the sides of a ratio take turns in one process, the best batch of each counts,
and time is the process' own CPU time, so that a busy machine weighs on both alike.

--whole times `vae-serve export`, gate and all, of such an untrained network as a process of its own.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent

from vae_serve.training import backend

backend.start("scripts/bench export")

import keras
import numpy as np
import onnx
import onnxruntime as ort
import tensorflow as tf
import tf2onnx

from vae_serve.exporting import gate
from vae_serve.exporting.build import FORMS, deployed
from vae_serve.exporting.convert.onnx import OPSET, to_onnx
from vae_serve.images import mnist, pixels
from vae_serve.model import parity
from vae_serve.model.manifest import graph_spec
from vae_serve.training import architectures, gate_inputs, record, runs
from vae_serve.training.config import Config

BATCHES = (16, 32, 64, 128, 256)
WEB_BATCHES = (1, 64)  # a page that follows the mouse asks for one
ROUNDS = 9
SECONDS = 0.08  # of one side of one round

Run = Callable[[np.ndarray], object]  # a batch through a network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", nargs="*", default=["conv", "mlp", "wide", "dcgan"])
    parser.add_argument("--runs", nargs="*", type=Path, default=[])
    parser.add_argument("--web", action="store_true", help="in a browser too; wants what scripts/runtimes installs")
    parser.add_argument("--whole", nargs="*", default=[], metavar="ARCH")
    asked = parser.parse_args()
    if asked.whole:
        print("| network | export, wall s | processor s | peak memory, MiB | bundle, MiB |\n|---|---|---|---|---|")
        for name in asked.whole:
            print(_whole(name), flush=True)
        return
    images = mnist.load("test")[0]
    print(
        f"{platform.processor() or platform.machine()}, {_cpu()}, one thread; ONNX Runtime {ort.__version__}, "
        f"OpenVINO {version('openvino')}, "
        f"tf2onnx {tf2onnx.__version__}, TensorFlow {tf.__version__}\n"
    )
    print(
        "| weights | network | form | rows compared | largest difference | nodes | bytes "
        "| ONNX Runtime, images/s (batch) | against plain | OpenVINO, images/s (batch) | against plain |"
        + "".join(f" browser, images/s (batch {batch}) | against plain |" for batch in WEB_BATCHES if asked.web)
    )
    print("|" + "---|" * (11 + 2 * len(WEB_BATCHES) * asked.web))
    for name, encoder, decoder in (*_from_runs(asked.runs), *_shaken(asked.arch if not asked.runs else [])):
        height, width, channels = encoder.inputs[0].shape[1:]
        shape, latent_dim = (height, width, channels), int(decoder.inputs[0].shape[1])
        spec = graph_spec("encoder", "float32", shape, latent_dim)
        _table(name, encoder, spec, gate.rows_within_budget(encoder, pixels.to_model(images)), asked.web)
        z = np.random.default_rng(0).standard_normal((10_000, latent_dim), np.float32)
        _table(
            name,
            decoder,
            graph_spec("decoder", "float32", shape, latent_dim),
            gate.rows_within_budget(decoder, z),
            asked.web,
        )


def _from_runs(paths: list[Path]) -> Iterator[tuple[str, keras.Model, keras.Model]]:
    for path in paths:
        run = runs.load(path)
        yield run.record["name"], run.encoder(), run.decoder()


def _shaken(names: list[str]) -> Iterator[tuple[str, keras.Model, keras.Model]]:
    for name in names:
        keras.utils.set_random_seed(0)
        yield (name, *(shaken(model) for model in architectures.build(name, (28, 28, 1), 2)))


def shaken(model: keras.Model) -> keras.Model:
    """The model with BatchNorms that do something: scales of either sign, shifts, statistics."""
    stream = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            n = layer.gamma.shape[0]
            sign = stream.choice([1, 1, 1, -1], n)
            layer.set_weights(
                [
                    stream.uniform(0.3, 1.7, n) * sign,
                    stream.normal(0, 0.5, n),
                    stream.normal(0.1, 0.3, n),
                    stream.uniform(0.5, 1.5, n),
                ]
            )
    return model


def _whole(name: str) -> str:
    """Exports an untrained network to ONNX and SavedModel as the command does."""
    (_, encoder, decoder), *_ = _shaken([name])
    test = mnist.load("test")[0]
    with tempfile.TemporaryDirectory() as folder:
        run, out = Path(folder, "run"), Path(folder, "bundle")
        run.mkdir()
        encoder.save(run / "encoder.keras")
        decoder.save(run / "decoder.keras")
        contents, note = gate_inputs.packed(gate_inputs.chosen(test))
        (run / gate_inputs.FILE).write_bytes(contents)
        count = {"encoder": encoder.count_params(), "decoder": decoder.count_params()}
        fields = {
            "schema_version": record.SCHEMA_VERSION,
            "name": "run",
            "status": "finished",
            "command": "none: untrained",
            "config": {**asdict(Config(arch=name)), "image_shape": [28, 28, 1]},
            "schedule": {"name": "none", "phases": []},
            "data": {"name": "mnist", "licence": "CC BY-SA 3.0", "test_count": len(test), "sha256": "0" * 64},
            "gate": note,
            "pixels": pixels.PixelRule(28, 28, 1).to_json(),
            "parameters": {**count, "trainable": sum(count.values())},
            "versions": {},
            "metrics": {"test": {}},
        }
        (run / runs.RECORD).write_text(json.dumps(fields))
        words = [sys.executable, "-m", "vae_serve", "export", str(run), "--out", str(out)]
        started = time.monotonic()
        process = subprocess.Popen(words, env={**os.environ, "PYTHONPATH": str(ROOT)})
        _, status, used = os.wait4(process.pid, 0)
        wall = time.monotonic() - started
        if status:
            sys.exit(f"the export of {name} ended with {os.waitstatus_to_exitcode(status)}")
        size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    cpu = used.ru_utime + used.ru_stime
    return f"| {name} | {wall:.0f} | {cpu:.0f} | {used.ru_maxrss / 1024:,.0f} | {size / 2**20:,.0f} |"


def _table(name: str, model: keras.Model, spec: Any, rows: np.ndarray, web: bool) -> None:
    function = tf.function(
        lambda x: dict(zip((o.name for o in spec.outputs), tf.nest.flatten(model(x)), strict=True)),
        input_signature=[tf.TensorSpec([None, *spec.inputs[0].shape[1:]], tf.float32, spec.inputs[0].name)],
    )
    plain, _ = tf2onnx.convert.from_function(function, function.input_signature, opset=OPSET)
    graphs = {"plain": plain.SerializeToString()}
    for form in FORMS[::-1]:
        graphs[form] = to_onnx(deployed(model, form), spec, OPSET, {})
    expected = gate.in_batches(gate.run_keras(model), rows)
    rates = _images_per_second({form: _in_onnxruntime(contents, spec) for form, contents in graphs.items()}, rows)
    others = _images_per_second({form: _in_openvino(contents, spec) for form, contents in graphs.items()}, rows)
    browser = _in_browser(graphs, spec) if web else {}
    for form, contents in graphs.items():
        outputs = gate.in_batches(gate.run_onnx(contents, spec, "full optimisation"), rows)
        apart = max(float(parity.difference(*pair).max()) for pair in zip(expected, outputs, strict=True))
        (rate, batch), (other, other_batch) = rates[form], others[form]
        print(
            f"| {name} | {spec.file.removesuffix('.onnx')} | {form} | {len(rows):,} | {apart:.1e} "
            f"| {len(onnx.load_from_string(contents).graph.node)} | {len(contents):,} | {rate:,.0f} ({batch}) "
            f"| {rate / rates['plain'][0]:.2f} | {other:,.0f} ({other_batch}) | {other / others['plain'][0]:.2f} |"
            + "".join(f" {found[form]:,.0f} | {found[form] / found['plain']:.2f} |" for found in browser.values()),
            flush=True,
        )


def _in_browser(graphs: dict[str, bytes], spec: Any) -> dict[int, dict[str, float]]:
    """Rows a second in ONNX Runtime Web, by batch and form."""
    with tempfile.TemporaryDirectory() as folder:
        for form, contents in graphs.items():
            Path(folder, f"{form}.onnx").write_bytes(contents)
        shape = ",".join(map(str, spec.inputs[0].shape[1:]))
        script = ROOT / "scripts/conformance/time_in_browser.mjs"
        words = ["node", script, folder, spec.inputs[0].name, shape, *WEB_BATCHES]
        found = json.loads(subprocess.run([*map(str, words)], check=True, stdout=subprocess.PIPE).stdout)
    return {batch: {form: found[f"{form}.onnx"][str(batch)] for form in graphs} for batch in WEB_BATCHES}


def _in_onnxruntime(contents: bytes, spec: Any) -> Run:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(contents, options, providers=["CPUExecutionProvider"])
    return lambda rows: session.run(None, {spec.inputs[0].name: rows})


def _in_openvino(contents: bytes, spec: Any) -> Run:
    import openvino as ov

    exact = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    core = ov.Core()
    compiled = core.compile_model(core.read_model(contents), "CPU", exact)
    return lambda rows: compiled({spec.inputs[0].name: rows})


def _images_per_second(sides: dict[str, Run], rows: np.ndarray) -> dict[str, tuple[float, int]]:
    """The best batch's images a second, and that batch, of each side; they take turns."""
    best = dict.fromkeys(sides, (0.0, 0))
    for batch in BATCHES:
        some = rows[:batch]
        seconds: dict[str, list[float]] = {form: [] for form in sides}
        repeats = {form: max(1, int(SECONDS / _seconds(run, some, 2))) for form, run in sides.items()}
        rounds = ROUNDS if all(count > 1 for count in repeats.values()) else 2
        for _ in range(rounds):
            for form, run in sides.items():
                seconds[form].append(_seconds(run, some, repeats[form]))
        for form, taken in seconds.items():
            best[form] = max(best[form], (len(some) / float(np.median(taken)), batch))
    return best


def _seconds(run: Run, rows: np.ndarray, repeats: int) -> float:
    started = time.process_time()
    for _ in range(repeats):
        run(rows)
    return (time.process_time() - started) / repeats


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else "CPU unknown"


if __name__ == "__main__":
    main()
