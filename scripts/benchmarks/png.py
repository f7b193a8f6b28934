"""What packs the lines of a small PNG file fastest, and how small. Prints a markdown table.

python scripts/benchmarks/png.py [--count N] [--rounds R]
"""

import argparse
import statistics
import time
import zlib
from collections.abc import Callable

import imagecodecs
import numpy as np

from vae_serve.model import bundle as bundles
from vae_serve.model.model import Model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000, help="pictures, draws of the packaged model")
    parser.add_argument("--rounds", type=int, default=9, help="measurements of each, one after the other in turn")
    chosen = parser.parse_args()
    model = Model(bundles.load(bundles.find(None)))
    images = model.decode(model.sample(chosen.count), "uint8")
    lines = [bytes(each) for each in np.pad(images[..., 0], ((0, 0), (0, 0), (1, 0)))]
    ways: dict[str, tuple[Callable[..., bytes | bytearray], int]] = {
        f"zlib {zlib.ZLIB_RUNTIME_VERSION}, level {level}": (zlib.compress, level) for level in (1, 3, 6)
    }
    for name, pack in (("zlibng", imagecodecs.zlibng_encode), ("deflate", imagecodecs.deflate_encode)):
        version = getattr(imagecodecs, f"{name}_version")()
        ways |= {f"{version}, level {level}": (pack, level) for level in (1, 3, 6)}
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(chosen.rounds):
        for name, (pack, level) in ways.items():
            begun = time.process_time()
            for each in lines:
                pack(each, level)
            took[name].append((time.process_time() - begun) / len(lines) * 1e6)
    print(f"### PNG: {chosen.count:,} pictures of {images.shape[1]} x {images.shape[2]}, medians of {chosen.rounds}\n")
    print("| packed by | us of CPU a picture | bytes |\n|---|--:|--:|")
    for name, (pack, level) in ways.items():
        size = statistics.mean(len(pack(each, level)) for each in lines)
        print(f"| {name} | {statistics.median(took[name]):.1f} | {size:.0f} |")


if __name__ == "__main__":
    main()
