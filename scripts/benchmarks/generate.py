"""`generate` against the raw speed of its decoder, and against the way of the tutorial. Prints two markdown tables.

python scripts/benchmarks/generate.py [--count N] [--rounds R]
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from vae_serve.cores import cores
from vae_serve.model import bundle as bundles
from vae_serve.model import samplers
from vae_serve.model.model import Model
from vae_serve.tasks.generate import generate
from vae_serve.tasks.generate_options import GenerateOptions

BATCHES = (32, 64, 128, 256)
FORMS = {
    ".npy": "an array",
    ".npz": "arrays with z",
    ".zip": "a zip of PNG",
    "": "a folder of PNG",
    ".parquet": "Parquet",
}
PNG_PART = 5  # the forms with PNG files are made of a fifth of the pictures

# Keras is imported, the decoder loaded, and `predict` called for each of the 225 cells, as in the tutorial.
TUTORIAL = """
import sys
import keras
import numpy as np
from PIL import Image

decoder = keras.models.load_model(sys.argv[1])
n, size = 15, 28
figure = np.zeros((size * n, size * n))
grid_x, grid_y = np.linspace(-4, 4, n), np.linspace(-4, 4, n)[::-1]
for i, yi in enumerate(grid_y):
    for j, xi in enumerate(grid_x):
        digit = decoder.predict(np.array([[xi, yi]]), verbose=0)[0].reshape(size, size)
        figure[i * size : (i + 1) * size, j * size : (j + 1) * size] = digit
Image.fromarray((figure * 255).astype(np.uint8)).save(sys.argv[2])
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200_000, help="pictures of one measurement")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each side, one after the other in turn")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as room:
        bulk(Path(room), asked.count, asked.rounds)
        grid(Path(room), asked.rounds)


def bulk(room: Path, count: int, rounds: int) -> None:
    bundle = bundles.load(bundles.find(None))
    models = {batch: Model(bundle, threads=1, batch=batch) for batch in BATCHES}
    raw: dict[int, list[float]] = {batch: [] for batch in BATCHES}
    made: dict[str, list[float]] = {suffix: [] for suffix in FORMS}
    ratios: list[float] = []
    for number in range(rounds):
        for batch in BATCHES:
            raw[batch].append(count / seconds(lambda batch=batch: decode_only(models[batch], count, batch)))
        for suffix in FORMS:
            some = count if suffix in (".npy", ".npz") else count // PNG_PART
            options = GenerateOptions(count=some, out=room / f"{number}{suffix}", workers=cores())
            made[suffix].append(some / seconds(lambda options=options: generate(bundle, options)))
        ratios.append(made[".npy"][-1] / max(rates[-1] for rates in raw.values()))
    best = max(raw, key=lambda batch: statistics.median(raw[batch]))
    ceiling = statistics.median(raw[best])
    print(f"\n### generate: pictures per second ({bundle.manifest.name}, {count:,} pictures, medians of {rounds})\n")
    print("| what | pictures/s | of the ceiling |\n|---|---:|---:|")
    print(f"| raw decoder, {cores()} threads, one session, best batch ({best}), no output | {ceiling:,.0f} | 100 % |")
    for suffix, name in FORMS.items():
        rate = statistics.median(made[suffix])
        share = statistics.median(ratios) if suffix == ".npy" else rate / ceiling
        print(f"| generate to {name} ({suffix or 'no suffix'}) | {rate:,.0f} | {share:.0%} |")
    spread = f"{min(ratios):.0%} to {max(ratios):.0%}"
    print(f"\nThe array's share is the median of the rounds' own ratios, which went from {spread}; the aim is 85 %.")


def decode_only(model: Model, count: int, batch: int) -> None:
    """The decoder alone: as many threads as cores, one session, the same points again and again, results dropped."""
    z = samplers.sample_prior(0, 0, samplers.DRAW_BLOCK, model.latent_dim)

    def work(number: int) -> None:
        for start in range(0, count // cores(), batch):
            at = start % (len(z) - batch + 1)
            model.decode(z[at : at + batch])

    with ThreadPoolExecutor(cores()) as threads:
        list(threads.map(work, range(cores())))


def grid(room: Path, rounds: int) -> None:
    from vae_serve.training.architectures import build

    _, decoder = build("conv", (28, 28, 1), 2)  # its weights do not matter for the time
    decoder.save(room / "decoder.keras")
    ours = [sys.executable, "-m", "vae_serve", "generate", "--grid", "15", "--overwrite", "-q", "--out", "ours.png"]
    tutorial = [sys.executable, "-c", TUTORIAL, "decoder.keras", "tutorial.png"]
    ours_seconds, tutorial_seconds = [], []
    for number in range(rounds):
        ours_seconds.append(seconds(lambda: run(ours, room)))
        if number < 3:  # of some ten seconds each
            tutorial_seconds.append(seconds(lambda: run(tutorial, room)))
    mine, theirs = statistics.median(ours_seconds), statistics.median(tutorial_seconds)
    print("\n### generate --grid 15: whole processes\n")
    print("| what | seconds | |\n|---|---:|---:|")
    print(f"| import Keras, load the decoder, `predict` per cell | {theirs:.2f} | 1 |")
    print(f"| `vae-serve generate --grid 15` | {mine:.2f} | {theirs / mine:.0f} times faster; the aim is 40 |")


def run(command: list[str], room: Path) -> None:
    subprocess.run(command, cwd=room, check=True, capture_output=True)


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
