"""`--engine ray` on three nodes in network namespaces of this machine against `inline`, and kills at random.

python scripts/benchmarks/cluster.py [--rows N] [--pictures N] [--rounds R] [--kills K] [--seed S]

Needs root. Both sides are processes of their own, in turn within each round. Rates are of the work span, from the
first commit to the last, over the rows between. The parts are compared by their bytes, each time. The cluster has as
many CPUs as this machine has cores, so that both sides have the same hardware, and its workers are as nice as `inline`:
on a node of their own Ray's niceness of 15 costs nothing.
"""

import argparse
import hashlib
import io
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from vae_serve.cores import cores
from vae_serve.images import mnist
from vae_serve.jobs import packages

sys.path.append(str(Path(__file__).parents[2] / "tests"))
from ray_cluster import ROOT, RayCluster, ray_cluster, why_not


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=600_000, help="rows of the array")
    parser.add_argument("--pictures", type=int, default=240_000, help="PNG files")
    parser.add_argument("--rounds", type=int, default=3, help="of speed; 0 for kills alone")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the kills")
    options = parser.parse_args()
    if reason := why_not():
        sys.exit(reason)
    print(", ".join(f"{name} {version}" for name, version in packages.running().items()))
    with tempfile.TemporaryDirectory() as name, ray_cluster(*([1] * cores()), 0, RAY_worker_niceness="0") as cluster:
        folder = Path(name)
        images = mnist.load("test")[0][..., 0]
        write_pictures(folder / "pictures", images, options.pictures)
        if options.rounds:
            speeds(cluster, folder, images, options)
        if options.kills:
            kill(cluster, folder, options.kills, random.Random(options.seed))


def speeds(cluster: RayCluster, folder: Path, images: np.ndarray, options: argparse.Namespace) -> None:
    """The table."""
    print("\n| source | inline, rows/s | cluster, rows/s | ratio | until the first shard is back |")
    print("|---|---|---|---|---|")
    np.save(folder / "array.npy", np.resize(images, (options.rows, 28, 28)))
    compare(cluster, folder, "array.npy", 32_768, options.rounds)
    compare(cluster, folder, "pictures", 8192, options.rounds)


def write_pictures(folder: Path, images: np.ndarray, count: int) -> None:
    """PNG files of digits, 100 folders of them."""
    files = []
    for image in images[:count]:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        files.append(file.getvalue())
    for label in range(100):
        (folder / str(label)).mkdir(parents=True)
    for number in range(count):
        (folder / str(number % 100) / f"{number:06}.png").write_bytes(files[number % len(files)])


def compare(cluster: RayCluster, folder: Path, source: str, rows: int, rounds: int) -> None:
    """One line of the table."""
    inline, remote, first = [], [], []
    for _ in range(rounds):
        words = ["embed", source, "--rows-per-shard", rows, "-q", "--json", "--out"]
        command = [sys.executable, "-m", "vae_serve", *map(str, words), "inline"]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=True)
        inline.append(span_rate(folder / "inline", rows))
        begun = time.time()
        ran = cluster.run(*words, "ray", "--engine", "ray", "--address", cluster.address, cwd=folder)
        assert ran.returncode == 0, ran.stderr
        assert json.loads(done.stdout)["images"] == json.loads(ran.stdout)["images"]
        remote.append(span_rate(folder / "ray", rows))
        first.append(min(commits(folder / "ray")) - begun)
        assert sums(folder / "inline") == sums(folder / "ray"), "other bytes"
        for out in ("inline", "ray"):
            shutil.rmtree(folder / out)
    here, there = statistics.median(inline), statistics.median(remote)
    print(
        f"| {source} | {here:,.0f} | {there:,.0f} | {there / here:.2f} | {statistics.median(first):.2f} s |", flush=True
    )


def kill(cluster: RayCluster, folder: Path, kills: int, chance: random.Random) -> None:
    """A job, again and again, while something dies at random: a node, a worker, a child of one, the driver."""
    words = ["embed", "pictures", "--rows-per-shard", 512, "-q", "--out", "killed"]
    words += ["--engine", "ray", "--address", cluster.address]
    done = subprocess.run(
        [sys.executable, "-m", "vae_serve", "embed", "pictures", "--rows-per-shard", "512", "-q", "--out", "whole"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    assert done.returncode == 0
    total, dealt = len(sums(folder / "whole")), 0
    while dealt < kills:
        with cluster.start(*words, cwd=folder) as job:
            victim = chance.choice(["node", "worker", "process", "driver"])
            node, at = chance.choice(cluster.nodes[1:-1] or cluster.nodes[:1]), chance.randrange(total)
            while job.poll() is None and len(commits(folder / "killed")) < at:
                time.sleep(0.01)
            if job.poll() is None:
                dealt += 1
                match victim:
                    case "driver":
                        job.kill()
                    case "worker":
                        node.kill("ray::vae-serve")
                    case "process":
                        node.kill("shard_process")
                    case "node" if node.number > 1:
                        node.kill()
            job.communicate()
        if victim == "node" and node.number > 1:
            node.kill()
            node.start()
        if job.returncode == 0:
            assert sums(folder / "killed") == sums(folder / "whole"), "other bytes"
            shutil.rmtree(folder / "killed")
    print(f"\n{dealt} kills at random: equal bytes after each")


def commits(out: Path) -> list[float]:
    """When each shard was there, in seconds since the epoch."""
    return [file.stat().st_mtime for file in out.glob("part-*")]


def span_rate(out: Path, rows: int) -> float:
    """Rows a second between the first and the last commit."""
    times = commits(out)
    return (len(times) - 1) * rows / (max(times) - min(times))


def sums(out: Path) -> dict[str, str]:
    """SHA-256 of each part."""
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in out.glob("part-*")}


if __name__ == "__main__":
    main()
