"""`embed` of photographs against plain Pillow scripts and against a scaled decode alone; and how far the pixels of both
pixel rules are apart. Prints markdown tables.

python scripts/benchmarks/photographs.py [--count N] [--rounds R] [--only speed|differences]

The photographs are JPEG files of 1024 x 768, quality 90: four crops, each at its own resolution, of pictures that
scikit-learn and matplotlib bring along. Every side is a process of its own, timed from its start to its end, in turn
within each round, and there the second time that it runs. Medians are compared, of the seconds and of the processor's
time of all its processes, which tells more on a machine that has other work. The bundle is the packaged one, with
either pixel rule in its manifest. Differences are those of the pictures themselves, in levels of 255.
"""

import argparse
import io
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image

from vae_serve.cores import cores
from vae_serve.images.decode import decode
from vae_serve.images.framing import jpeg_scale
from vae_serve.images.pixels import PixelRule
from vae_serve.model import bundle as bundles

WIDTH, HEIGHT = 1024, 768
SIDES = (28, 32, 52, 64, 96, 106, 128, 192, 213)  # of the model's images, in the comparison of pixels
SUBSAMPLINGS = ("4:2:0", "4:2:2", "4:4:4")

PLAIN = """
import sys
from pathlib import Path
import numpy as np
import onnxruntime
from PIL import Image

def pixels(file):
    image = Image.open(file)
    if sys.argv[4] == "draft":
        image.draft("L", (28, 28))
    return np.asarray(image.convert("L").resize((28, 28), Image.Resampling.BILINEAR))

session = onnxruntime.InferenceSession(sys.argv[2])
files = sorted(Path(sys.argv[1]).rglob("*.jpg"))
found = []
for start in range(0, len(files), 64):
    batch = np.stack([pixels(file) for file in files[start : start + 64]])
    found.append(session.run(["z_mean", "z_log_var"], {"image": batch[..., np.newaxis].astype(np.float32) / 255}))
z_mean, z_log_var = (np.concatenate(part) for part in zip(*found))
np.savez(sys.argv[3], z_mean=z_mean, z_log_var=z_log_var)
"""

CEILING = """
import io, os, sys
from PIL import Image

files = sorted(os.path.join(folder, name) for folder, _, names in os.walk(sys.argv[1]) for name in names)
processes, mine = int(sys.argv[2]), 0
for number in range(1, processes):
    if not os.fork():
        mine = number
        break
for name in files[mine::processes]:
    with open(name, "rb") as file:
        image = Image.open(io.BytesIO(file.read()))
    image.draft("L", (28, 28))
    image.load()
if mine:
    os._exit(0)
for _ in range(1, processes):
    os.wait()
"""


def main() -> None:
    """Runs what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000, help="photographs")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each side")
    parser.add_argument("--only", choices=["speed", "differences"])
    asked = parser.parse_args()
    if asked.only in {None, "speed"}:
        with tempfile.TemporaryDirectory() as room:
            speed(Path(room), asked.count, asked.rounds)
    if asked.only in {None, "differences"}:
        differences()


def pictures() -> list[Image.Image]:
    """Of installed packages: a palace, a flower, a person; 640 x 427 twice, 512 x 600."""
    learn, plot = files("sklearn") / "datasets/images", files("matplotlib") / "mpl-data/sample_data"
    found = [learn / "china.jpg", learn / "flower.jpg", plot / "grace_hopper.jpg"]
    return [Image.open(io.BytesIO(file.read_bytes())).convert("RGB") for file in found]


def write_photographs(folder: Path, count: int) -> Path:
    """0/00000.jpg, 1/00001.jpg, ..., always the same."""
    chance, originals = np.random.default_rng(0), pictures()
    for number in range(count):
        sheet = Image.new("RGB", (WIDTH, HEIGHT))
        for left in (0, WIDTH // 2):
            for top in (0, HEIGHT // 2):
                original = originals[chance.integers(len(originals))]
                x = int(chance.integers(original.width - WIDTH // 2 + 1))
                y = int(chance.integers(original.height - HEIGHT // 2 + 1))
                part = original.crop((x, y, x + WIDTH // 2, y + HEIGHT // 2))
                if chance.integers(2):
                    part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
                sheet.paste(part, (left, top))
        file = folder / str(number % 10) / f"{number:05}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(file, quality=90)
    os.sync()
    return folder


def speed(work: Path, count: int, rounds: int) -> None:
    """Whole processes over files."""
    folder = write_photographs(work / "photographs", count)
    size = sum(file.stat().st_size for file in folder.rglob("*.jpg")) / count
    encoder, scratch, out = str(bundles.find(None) / "encoder.onnx"), str(work / "found.npz"), work / "out"
    python = [sys.executable, "-c"]
    words = ["-m", "vae_serve", "embed", str(folder), "--out", str(out), "-q", "--model"]
    sides = {
        "embed, scaled decoding": [sys.executable, *words, str(with_scaled_decoding(work / "bundle"))],
        "embed, whole decoding": [sys.executable, *words, str(bundles.find(None))],
        "plain script, Pillow + ONNX Runtime": [*python, PLAIN, str(folder), encoder, scratch, "whole"],
        "the same with `Image.draft`": [*python, PLAIN, str(folder), encoder, scratch, "draft"],
        "scaled decode alone, all cores": [*python, CEILING, str(folder), str(cores())],
        "scaled decode alone, one core": [*python, CEILING, str(folder), "1"],
    }
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, command in sides.items():
            whole_process(command, out)  # does not count: what ran before it would
            taken[name].append(whole_process(command, out))
    medians, busy = (
        {name: statistics.median(times[at] for times in measured) for name, measured in taken.items()} for at in (0, 1)
    )
    ours = medians["embed, scaled decoding"]
    print(
        f"\n### embed: {count:,} JPEG files of {WIDTH} x {HEIGHT}, {size / 1000:.0f} KB each, "
        f"whole process, medians of {rounds}\n"
    )
    print("| what | seconds | pictures/s | embed takes | CPU seconds |\n|---|---:|---:|---:|---:|")
    for name, seconds in medians.items():
        print(f"| {name} | {seconds:.2f} | {count / seconds:,.0f} | 1/{seconds / ours:.2f} of it | {busy[name]:.2f} |")
    print()
    for share, what in ((medians, "as fast as"), (busy, "less CPU than")):
        plain, draft, alone = (
            share[name] / share["embed, scaled decoding"]
            for name in (
                "plain script, Pillow + ONNX Runtime",
                "the same with `Image.draft`",
                "scaled decode alone, all cores",
            )
        )
        print(f"- {plain:.2f} times {what} the plain script, {draft:.2f} times {what} that with `draft`")
        print(f"- {alone:.0%} of a scaled decode alone on as many cores, by {'time' if share is medians else 'CPU'}")


def whole_process(command: list[str], out: Path) -> tuple[float, float]:
    """Seconds from start to end, and of all cores together; the result is cleared away."""
    begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    shutil.rmtree(out, ignore_errors=True)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def with_scaled_decoding(folder: Path) -> Path:
    """The packaged bundle with the other pixel rule."""
    shutil.copytree(bundles.find(None), folder)
    file = folder / bundles.MANIFEST
    manifest = json.loads(file.read_text(encoding="utf-8"))
    manifest["pixels"]["decode"] = "scaled"
    file.write_text(json.dumps(manifest), encoding="utf-8")
    return folder


@dataclass
class Difference:
    """How far the pixels of two ways of decoding some pictures are apart."""

    levels: np.ndarray  # of all pixels and channels

    def __str__(self) -> str:
        high = np.percentile(self.levels, 99)
        return f"{self.levels.mean():.2f} | {high:.0f} | {self.levels.max()}"


def differences() -> None:
    """Between the two rules, for models of several sizes."""
    photographs = {subsampling: [encoded(image, subsampling) for image in pictures()] for subsampling in SUBSAMPLINGS}
    print(f"\n### Scaled against whole decoding: levels of 255, {len(pictures())} photographs at their own size\n")
    print("| model | scales | subsampling | mean | 99 % | largest |\n|---|---|---|---:|---:|---:|")
    for channels, subsamplings in ((1, ("4:2:0",)), (3, SUBSAMPLINGS)):
        for side in SIDES:
            for subsampling in subsamplings:
                rules = [PixelRule(side, side, channels, decode=how) for how in ("whole", "scaled")]
                found, scales = [], set()
                for data in photographs[subsampling]:
                    whole, scaled = (decode(data, rule) for rule in rules)
                    found.append(np.abs(whole.pixels.astype(int) - scaled.pixels).ravel())
                    scales.add(jpeg_scale(whole.size, rules[1]))
                names = ", ".join(f"1/{scale}" for scale in sorted(scales))
                print(
                    f"| {side} x {side} x {channels} | {names} | {subsampling} | {Difference(np.concatenate(found))} |"
                )


def encoded(image: Image.Image, subsampling: str) -> bytes:
    """As a JPEG file."""
    room = io.BytesIO()
    image.save(room, "JPEG", quality=95, subsampling=subsampling)
    return room.getvalue()


if __name__ == "__main__":
    main()
