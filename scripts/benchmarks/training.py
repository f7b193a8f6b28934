"""Seconds an epoch of the small model, against Keras' default `fit` of the same model, turn by turn.

python scripts/benchmarks/training.py [--rounds R] [--peers] [--large]

Prints markdown tables. An epoch is 48,000 images, 128 a step; all take the same network, loss and Adam. A round is a
third of an epoch of each; shown are the fastest and the median of all. The time to the first step is that of a fresh
`vae-serve train`.

`--peers` has PyTorch and JAX take their turns too (`training_peers.py`), in an environment of their own, .venv-peers,
which is made where it is missing (6 GB on Linux, where PyPI has PyTorch with CUDA). `--large` adds what `wide` and
`dcgan` do in a few steps each.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

from vae_serve.training import backend

ROOT = Path(__file__).resolve().parent.parent.parent
STEPS, BATCH, EPOCH = 125, 128, 375
LARGE_STEPS = 4  # of `wide` and `dcgan`: one takes seconds
PEERS_MADE_OF = ("torch>=2.9,<3", "jax>=0.8,<1", "numpy>=2.1,<3", "setuptools<81")  # torch.compile imports setuptools


SIDES = {
    "fit": "Keras `fit`, its defaults",
    "batch": "vae-serve, batch statistics (`--schedule tutorial`)",
    "moving": "vae-serve, moving statistics (`best` from its second epoch on)",
}
PEERS = {
    "torch-compiled": "PyTorch, `torch.compile`",
    "torch": "PyTorch, channels last",
    "jax": "JAX, `jit` of a `scan`",
}


def side(name, arch="conv", count=STEPS):
    """A process of its own, since devices are set up once in each: `count` steps for each line that it reads."""
    backend.start("scripts/bench training")
    import keras
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
    networks = build(arch, (28, 28, 1), 2)
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
            loop.train(images, order, 0, count)

    else:
        part = to_model(pixels[: count * BATCH])

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


def peers_python() -> Path:
    """The environment of the peers' packages, made where it is missing."""
    folder = ROOT / ".venv-peers"
    stamp = folder / ".made-from"
    if not stamp.exists() or stamp.read_text() != "\n".join(PEERS_MADE_OF):
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        pip = [str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--only-binary", ":all:", *PEERS_MADE_OF], check=True)
        stamp.write_text("\n".join(PEERS_MADE_OF))
    return folder / "bin" / "python"


def turns(commands, rounds):
    """Seconds of each command's part in each round, after one in which others still compile."""
    processes = {
        name: subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        for name, command in commands.items()
    }
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds + 1):
        for name, process in processes.items():
            process.stdin.write("again\n")
            taken[name].append(float(process.stdout.readline()))
    for process in processes.values():
        process.communicate()
    return {name: seconds[1:] for name, seconds in taken.items()}


def small(rounds, peers):
    """The table of `conv`."""
    titles = {**SIDES, **(PEERS if peers else {})}
    against = {"fit": "Keras", **({"torch-compiled": "compiled PyTorch"} if peers else {})}
    with tempfile.TemporaryDirectory() as folder:
        commands = {name: [sys.executable, __file__, "--side", name] for name in SIDES}
        if peers:
            from vae_serve.images import mnist

            images = Path(folder, "images.npy")
            np.save(images, mnist.load("train")[0][:48_000, ..., 0])
            program = Path(__file__).with_name("training_peers.py")
            python = peers_python()
            for name in PEERS:
                commands[name] = [str(python), str(program), name, str(images), str(STEPS), str(BATCH)]
        taken = turns(commands, rounds)
    heads = "".join(f" times as fast as {title} (median of rounds) |" for title in against.values())
    print(f"| one epoch of `conv`, 48,000 images | fastest, s | median, s |{heads}")
    print("|---|--:|--:|" + "--:|" * len(against))
    for name, seconds in taken.items():
        epoch = [each * EPOCH / STEPS for each in seconds]
        ratios = [
            statistics.median(other / own for other, own in zip(taken[peer], seconds, strict=True)) for peer in against
        ]
        cells = "".join(f" {ratio:.2f} |" for ratio in ratios)
        print(f"| {titles[name]} | {min(epoch):.2f} | {statistics.median(epoch):.2f} |{cells}", flush=True)


def large(rounds):
    """The table of the networks that are a hundred times as large."""
    print("\n| network | images a second, median | an epoch of 48,000 images |\n|---|--:|--:|")
    for arch in ("wide", "dcgan"):
        command = [sys.executable, __file__, "--side", "moving", "--arch", arch, "--steps", str(LARGE_STEPS)]
        rate = LARGE_STEPS * BATCH / statistics.median(turns({arch: command}, rounds)[arch])
        print(f"| `{arch}` | {rate:.1f} | {48_000 / rate / 60:.0f} min |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--peers", action="store_true", help="PyTorch and JAX too")
    parser.add_argument("--large", action="store_true", help="`wide` and `dcgan` too")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--arch", default="conv", help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, default=STEPS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        side(options.side, options.arch, options.steps)
        return
    small(options.rounds, options.peers)
    if options.large:
        large(min(options.rounds, 3))
    ready, stepped = to_first_step()
    print(f"\nFrom the command: {ready:.1f} s until the first step begins, {stepped:.1f} s until it is done and saved.")
    cores = len(os.sched_getaffinity(0))
    about = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in about if "model name" in line), "?")
    print(
        f"\n{cpu}, {cores} cores, load {os.getloadavg()[0]:.1f}; Python {platform.python_version()}, "
        f"TensorFlow {version('tensorflow')}, Keras {version('keras')}; {options.rounds} rounds, turn by turn."
    )


if __name__ == "__main__":
    main()
