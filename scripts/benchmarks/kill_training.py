"""Kills a training at random moments, resumes it, and compares its weights with those of an undisturbed one.

scripts/bench kill_training [KILLS] [SEED]. Ends with exit code 1 where a single bit differs.
"""

import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))


def start(folder, *words):
    command = [sys.executable, "-m", "vae_serve", "train", "--quiet", *map(str, words)]
    return subprocess.Popen(command, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE)


def weights(run):
    import keras

    networks = [keras.models.load_model(run / f"{name}.keras") for name in ("encoder", "decoder")]
    return b"".join(weight.tobytes() for network in networks for weight in network.get_weights())


def main():
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    when = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = ("--epochs", 2 * kills, "--data", folder / "some.npz")
        import numpy as np

        from vae_serve.images import mnist

        np.savez(options[-1], x_train=mnist.load("train")[0][:4000], x_test=mnist.load("test")[0][:500])
        began = time.monotonic()
        whole = start(folder, *options, "--out", "whole")
        said = whole.communicate()[1]
        if whole.returncode:
            sys.exit(said.decode())
        undisturbed = time.monotonic() - began
        run, done = folder / "run", 0
        process = start(folder, *options, "--out", "run")
        while process.poll() is None and done < kills:
            seen = sorted(run.glob("checkpoints/*.json"))
            while sorted(run.glob("checkpoints/*.json")) == seen and process.poll() is None:
                time.sleep(0.01)  # at least one epoch for each kill, so that it comes to an end
            time.sleep(when.uniform(0, 1.0))
            process.kill()
            process.wait()
            done += process.returncode == -9
            reached = max((int(file.stem[5:]) for file in run.glob("checkpoints/*.json")), default=0)
            print(f"kill {done}: last checkpoint at step {reached}", flush=True)
            process = start(folder, "--resume", "--out", "run")
        said = process.communicate()[1]
        if process.returncode:
            sys.exit(said.decode())
        same = weights(run) == weights(folder / "whole")
        print(f"{done} kills; weights {'byte-equal' if same else 'DIFFER'}; undisturbed it takes {undisturbed:.0f} s")
        sys.exit(not same)


if __name__ == "__main__":
    main()
