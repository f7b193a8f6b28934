"""Seconds an epoch of the small model, against Keras' default `fit` of the same model, turn by turn.

python scripts/benchmarks/training.py [ROUNDS]. Prints a markdown table. An epoch is 48,000 images, 128 a step; all take
the same network, loss and Adam. A round is a third of an epoch of each; shown are the fastest and the median of all.
The time to the first step is that of a fresh `vae-serve train`.
"""

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from vae_serve.training import backend

ROOT = Path(__file__).resolve().parent.parent.parent
STEPS, BATCH, EPOCH = 125, 128, 375


SIDES = {
    "fit": "Keras `fit`, its defaults",
    "batch": "vae-serve, batch statistics (`--schedule tutorial`)",
    "moving": "vae-serve, moving statistics (`best` from its second epoch on)",
}


def side(name):
    """A process of its own, since devices are set up once in each: STEPS steps for each line that it reads."""
    backend.start("scripts/bench training")
    import keras
    import numpy as np
    import tensorflow as tf

    from vae_serve.cores import cores
    from vae_serve.images import mnist
    from vae_serve.images.pixels import to_model
    from vae_serve.training import devices, fit, kernels
    from vae_serve.training.architectures import build
    from vae_serve.training.loop import Loop
    from vae_serve.training.model import VariationalAutoencoder

    moving, ours = name == "moving", name != "fit"
    strategy = devices.choose("cpu", "float32", apart=moving) if ours else tf.distribute.get_strategy()
    keras.utils.set_random_seed(0)
    networks = build("conv", (28, 28, 1), 2)
    if ours:
        networks = kernels.fused(networks[0]), kernels.fused(networks[1])
    vae = VariationalAutoencoder(*networks, parts=cores() if moving else 1)
    vae.batch_statistics = not moving
    vae.compile((kernels.FusedAdam if ours else keras.optimizers.Adam)(1e-3))
    vae(np.zeros((1, 28, 28, 1), np.float32))
    vae.optimizer.build(vae.trainable_variables)
    pixels = mnist.load("train")[0]
    if ours:
        images, order = tf.constant(pixels), tf.constant(fit.data_order(0, 0, 48_000))
        loop = Loop(vae, BATCH, strategy, xla=False)

        def steps():
            loop.train(images, order, 0, STEPS)

    else:
        part = to_model(pixels[: STEPS * BATCH])

        def steps():
            vae.fit(part, batch_size=BATCH, epochs=1, verbose=0)

    steps()  # compiles
    for _ in sys.stdin:
        began = time.perf_counter()
        steps()
        print(time.perf_counter() - began, flush=True)


def to_first_step():
    """Seconds from the command until the first step begins, and until it is done and saved."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        words = [sys.executable, "-m", "vae_serve", "train", "--quiet", "--out", str(run)]
        began = time.monotonic()
        process = subprocess.Popen(
            words, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE
        )
        while not list(run.glob("checkpoints/*.json")):
            time.sleep(0.01)
        ready = time.monotonic() - began
        process.send_signal(2)  # saves after the step that is under way: the first one
        while len(list(run.glob("checkpoints/*.json"))) < 2:
            time.sleep(0.01)
        stepped = time.monotonic() - began
        process.wait()
        return ready, stepped


def main():
    if sys.argv[1:] and sys.argv[1] in SIDES:
        side(sys.argv[1])
        return
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    processes = {
        name: subprocess.Popen(
            [sys.executable, __file__, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        for name in SIDES
    }
    taken: dict[str, list[float]] = {name: [] for name in SIDES}
    for _ in range(rounds + 1):
        for name, process in processes.items():
            process.stdin.write("again\n")
            taken[name].append(float(process.stdout.readline()) * EPOCH / STEPS)
    for process in processes.values():
        process.communicate()
    taken = {name: seconds[1:] for name, seconds in taken.items()}  # in the first round others were still compiling
    print("| one epoch of `conv`, 48,000 images | fastest, s | median, s | times as fast (median of rounds) |")
    print("|---|---|---|---|")
    for name, seconds in taken.items():
        ratio = statistics.median(other / own for other, own in zip(taken["fit"], seconds, strict=True))
        print(f"| {SIDES[name]} | {min(seconds):.2f} | {statistics.median(seconds):.2f} | {ratio:.2f} |")
    ready, stepped = to_first_step()
    print(f"\nFrom the command: {ready:.1f} s until the first step begins, {stepped:.1f} s until it is done and saved.")
    cores = len(os.sched_getaffinity(0))
    about = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in about if "model name" in line), "?")
    print(
        f"\n{cpu}, {cores} cores, load {os.getloadavg()[0]:.1f}; Python {platform.python_version()}, "
        f"TensorFlow {version('tensorflow')}, Keras {version('keras')}; {rounds} rounds, turn by turn."
    )


if __name__ == "__main__":
    main()
