"""`embed` against Keras, a plain script and the ceiling of the machine; and its memory. Prints markdown tables.

python scripts/benchmarks/embed.py [--rounds R] [--array N] [--no-keras] [--only files|array|memory]

Every side is a process of its own, timed from its start to its end, in turn within each round, and there the second
time that it runs: whatever comes right after Keras is slower. Medians are compared.
Files are MNIST digits as Pillow writes them. Raw speed of the encoder is that of threads on one session over floats
that are in memory already.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from vae_serve import embed
from vae_serve.cores import cores
from vae_serve.images import fast, mnist
from vae_serve.images.pixels import PixelRule, to_model
from vae_serve.model import bundle as bundles
from vae_serve.model.manifest import graph_spec
from vae_serve.model.model import BATCH
from vae_serve.model.sessions import Session

BATCHES = (64, 128, 256)

KERAS = """
import sys
import keras
import numpy as np
from vae_serve.training.architectures import build

encoder = build("conv", (28, 28, 1), 2)[0]
images = keras.utils.image_dataset_from_directory(
    sys.argv[1], labels=None, color_mode="grayscale", image_size=(28, 28), batch_size=int(sys.argv[4]), shuffle=False
)
z_mean, z_log_var = encoder.predict(images.map(lambda batch: batch / 255), verbose=0)
np.savez(sys.argv[3], z_mean=z_mean, z_log_var=z_log_var)
"""

PLAIN = """
import sys
from pathlib import Path
import numpy as np
import onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession(sys.argv[2])
files = sorted(Path(sys.argv[1]).rglob("*.png"))
found = []
for start in range(0, len(files), 64):
    batch = np.stack([np.asarray(Image.open(file)) for file in files[start : start + 64]])
    found.append(session.run(["z_mean", "z_log_var"], {"image": batch[..., np.newaxis].astype(np.float32) / 255}))
z_mean, z_log_var = (np.concatenate(part) for part in zip(*found))
np.savez(sys.argv[3], z_mean=z_mean, z_log_var=z_log_var)
"""

CEILING = """
import os, sys
if sys.argv[4] == "pillow":
    import io
    import numpy
    from PIL import Image
    decode = lambda data: numpy.asarray(Image.open(io.BytesIO(data)))
else:
    from imagecodecs import spng_decode as decode
files = sorted(os.path.join(folder, name) for folder, _, names in os.walk(sys.argv[1]) for name in names)
processes, mine = int(sys.argv[5]), 0
for number in range(1, processes):
    if not os.fork():
        mine = number
        break
for file in files[mine::processes]:
    opened = os.open(file, os.O_RDONLY)
    data = os.read(opened, 65536)
    os.close(opened)
    decode(data)
if mine:
    os._exit(0)
for _ in range(1, processes):
    os.wait()
"""

# `vae-serve` as if the extra `fast` were not installed
PILLOW_ALONE = "import sys; sys.modules['imagecodecs'] = None; from vae_serve.cli import main; main(sys.argv[1:])"


def main() -> None:
    """Runs what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each side")
    parser.add_argument("--array", type=int, default=600_000, help="pictures of the array")
    parser.add_argument("--no-keras", action="store_true", help="leave the slowest side out")
    parser.add_argument("--only", choices=["files", "array", "memory"])
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as room:
        work = Path(room)
        if asked.only in {None, "files"}:
            for split in ("test", "train"):
                files(work, split, asked.rounds, keras=not asked.no_keras)
        if asked.only in {None, "array"}:
            array(work, asked.array, asked.rounds)
        if asked.only in {None, "memory"}:
            memory(work)


def files(work: Path, split: mnist.Split, rounds: int, keras: bool) -> None:
    """Whole processes over PNG files."""
    images, labels = mnist.load(split)
    folder = write_digits(work / split, images, labels)
    encoder = str(bundles.find(None) / "encoder.onnx")
    scratch = str(work / "found.npz")
    sides: dict[str, list[str]] = {
        "embed": vae_serve(folder, work / "out"),
        "embed, Pillow alone": [sys.executable, "-c", PILLOW_ALONE, *vae_serve(folder, work / "out")[3:]],
        "plain script, Pillow + ONNX Runtime": [sys.executable, "-c", PLAIN, str(folder), encoder, scratch],
        "ceiling, read and decode": [sys.executable, "-c", CEILING, str(folder), "", "", "fast", str(cores())],
        "ceiling, read and decode with Pillow": [
            sys.executable,
            "-c",
            CEILING,
            str(folder),
            "",
            "",
            "pillow",
            str(cores()),
        ],
    }
    if not fast.AVAILABLE:
        del sides["ceiling, read and decode"], sides["embed, Pillow alone"]
    if keras:
        for batch in (32, 256, 1024):
            sides[f"Keras, batch {batch}"] = [sys.executable, "-c", KERAS, str(folder), "", scratch, str(batch)]
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, command in sides.items():
            whole_process(command, work / "out")  # does not count: what ran before it would
            taken[name].append(whole_process(command, work / "out"))
    medians = {name: statistics.median(times) for name, times in taken.items()}
    best_keras = min((seconds for name, seconds in medians.items() if name.startswith("Keras")), default=None)
    print(f"\n### embed: {len(images):,} PNG files, whole process, medians of {rounds}\n")
    print("| what | seconds | pictures/s | embed takes |\n|---|---:|---:|---:|")
    for name, seconds in medians.items():
        print(f"| {name} | {seconds:.2f} | {len(images) / seconds:,.0f} | 1/{seconds / medians['embed']:.2f} of it |")
    print()
    if best_keras is not None:
        print(f"- {best_keras / medians['embed']:.1f} times Keras at its best")
    print(f"- {medians['plain script, Pillow + ONNX Runtime'] / medians['embed']:.2f} times the plain script")
    if fast.AVAILABLE:
        print(f"- {medians['ceiling, read and decode'] / medians['embed']:.0%} of the ceiling")
        alone = medians["ceiling, read and decode with Pillow"] / medians["embed, Pillow alone"]
        print(f"- with Pillow alone {alone:.0%} of Pillow's ceiling")
    shutil.rmtree(folder)


def write_digits(folder: Path, images: np.ndarray, labels: np.ndarray) -> Path:
    """7/00000.png, 2/00001.png, ..."""
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        file = folder / str(label) / f"{row:05}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[:, :, 0]).save(file)
    os.sync()  # what is still to be written would be written beneath the first measurements
    return folder


def vae_serve(source: Path, out: Path) -> list[str]:
    """The command as typed."""
    model = str(bundles.find(None))
    return [sys.executable, "-m", "vae_serve", "embed", str(source), "--model", model, "--out", str(out), "-q"]


def whole_process(command: list[str], out: Path) -> float:
    """Seconds from start to end; the result is cleared away."""
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - begun
    shutil.rmtree(out, ignore_errors=True)
    return seconds


def array(work: Path, count: int, rounds: int) -> None:
    """From a .npy file to Parquet, against the encoder alone."""
    path = work / "digits.npy"
    images = mnist.load("train")[0]
    write_array(path, images, count)
    bundle = bundles.load(bundles.find(None))
    rule = PixelRule.from_json(bundle.manifest.pixels)
    specs = [graph_spec("encoder", kind, rule.shape, bundle.manifest.latent_dim) for kind in ("float32", "uint8")]
    network, of_bytes = (Session(bundle.graphs[spec.file], spec, spec.file) for spec in specs)
    some = images[:20_000]
    floats = to_model(some)
    raw: dict[int, list[float]] = {batch: [] for batch in BATCHES}
    made: list[float] = []
    ratios: list[float] = []
    from_bytes: dict[str, list[float]] = {"NumPy": [], "DequantizeLinear": []}
    for _ in range(rounds):
        for batch in BATCHES:
            raw[batch].append(count / seconds(lambda batch=batch: encode_only(network, floats, count, batch)))
        from_bytes["NumPy"].append(
            count / seconds(lambda: encode_only(lambda rows: network(to_model(rows)), some, count, BATCH["encoder"]))
        )
        from_bytes["DequantizeLinear"].append(
            count / seconds(lambda: encode_only(of_bytes, some, count, BATCH["encoder"]))
        )
        made.append(count / seconds(lambda: embed(path, str(bundle.path), out=work / "out")))
        shutil.rmtree(work / "out")
        ratios.append(made[-1] / max(rates[-1] for rates in raw.values()))
    process = whole_process(vae_serve(path, work / "out"), work / "out")
    best = max(raw, key=lambda batch: statistics.median(raw[batch]))
    print(f"\n### embed: an array of {count:,} pictures, medians of {rounds}\n")
    print("| what | pictures/s | of the ceiling |\n|---|---:|---:|")
    ceiling = statistics.median(raw[best])
    print(
        f"| raw encoder, {cores()} threads, one session, best batch ({best}), no input or output | {ceiling:,.0f} | |"
    )
    for how, rates in from_bytes.items():
        rate = statistics.median(rates)
        print(f"| bytes in memory, made floats by {how} | {rate:,.0f} | {rate / ceiling:.0%} |")
    print(f"| .npy to Parquet | {statistics.median(made):,.0f} | {statistics.median(ratios):.0%} |")
    print(f"| the same as a whole process | {count / process:,.0f} | {count / process / ceiling:.0%} |")
    path.unlink()


def write_array(path: Path, images: np.ndarray, count: int) -> None:
    """The pictures over and over, as .npy."""
    room = np.lib.format.open_memmap(path, "w+", np.uint8, (count, *images.shape[1:]))
    for start in range(0, count, len(images)):
        room[start : start + len(images)] = images[: count - start]


def seconds(work: Callable[[], object]) -> float:
    """How long a call takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def encode_only(encoder: Callable[[np.ndarray], object], pixels: np.ndarray, count: int, batch: int) -> None:
    """So many pictures through the encoder, on all cores."""

    def lane(_: int) -> None:
        for at in range(count // batch // cores()):
            start = at * batch % (len(pixels) - batch)
            encoder(pixels[start : start + batch])

    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(lane, range(cores())))


def memory(work: Path) -> None:
    """Peak memory of all processes of one job, for ten times the pictures."""
    images, labels = mnist.load("test")
    few = write_digits(work / "few" / "0", images, labels).parent
    many = work / "many"
    for copy in range(20):
        shutil.copytree(few / "0", many / str(copy), copy_function=os.link)
    shutil.copytree(few / "0", few / "1", copy_function=os.link)
    for name, count in (("small.npy", 100_000), ("large.npy", 1_000_000)):
        write_array(work / name, images, count)
    print("\n### embed: peak memory of all its processes together (PSS)\n")
    print("| source | a tenth | all | grown by |\n|---|---:|---:|---:|")
    for what, small, large in (
        ("200,000 files", few, many),
        ("array of 1,000,000", work / "small.npy", work / "large.npy"),
    ):
        peaks = [peak_memory(vae_serve(source, work / "out")) for source in (small, large)]
        print(f"| {what} | {peaks[0]:.0f} MB | {peaks[1]:.0f} MB | {peaks[1] - peaks[0]:+.0f} MB |")


def peak_memory(command: list[str]) -> float:
    """MB; shared pages count once, looked at every 20 ms."""
    out = Path(command[command.index("--out") + 1])
    process = subprocess.Popen(command)
    peak = 0.0
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.02):
            peak = max(peak, sum(map(pss, [process.pid, *children(process.pid)])))

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    done.set()
    watcher.join()
    shutil.rmtree(out, ignore_errors=True)
    if code:
        sys.exit(f"{' '.join(command)} ended with {code}")
    return peak


def pss(process: int) -> float:
    """Proportional set size in MB; 0 for a process that is gone."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:"))


def children(process: int) -> list[int]:
    """The processes that it has forked off, and theirs."""
    try:
        own = [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except OSError:
        return []
    return own + [other for child in own for other in children(child)]


if __name__ == "__main__":
    main()
