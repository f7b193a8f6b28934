"""`--engine ray` on three nodes in network namespaces of this machine against `inline`, and kills at random.

python scripts/benchmarks/cluster.py [--rows N] [--pictures N] [--rounds R] [--kills K] [--seed S]
python scripts/benchmarks/cluster.py --equality [--rows N] [--pictures N]

Needs root. Both sides are processes of their own, in turn within each round. Rates are of the work span, from the
first commit to the last, over the rows between. The parts are compared by their bytes, each time. The cluster has as
many CPUs as this machine has cores, so that both sides have the same hardware, and its workers are as nice as `inline`:
on a node of their own Ray's niceness of 15 costs nothing.

When the cluster was joined and the first task began is told by Ray: the start of the job in its table, and the first
`task:execute` of its timeline, both after the command's start: medians, and the best round in brackets, which is nearer
to that of a quiet machine. Beside it stands, from the same rounds, when the first task began of a program of four lines
that joins the cluster and calls an empty function: less is not to be had from Ray.

`--equality` compares bytes alone, on three nodes that all make shards: of each kind of source (the array; the pictures
in a folder, in a zip, and below a prefix in SeaweedFS), and of what `generate` makes.
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
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from vae_serve.cores import cores
from vae_serve.images import mnist
from vae_serve.jobs import packages

sys.path.append(str(Path(__file__).parents[2] / "tests"))
from object_servers import ObjectServer, started_seaweed
from ray_cluster import ROOT, RayCluster, ray_cluster, why_not

EQUAL_SHARD = 8192  # rows of a shard where bytes are compared

TOLD_AT_ONCE = {"RAY_task_events_report_interval_ms": "100"}  # workers end with their job, and with them what is untold

TOLD = """
import json, logging, sys
import ray
from ray._private import state

ray.init(sys.argv[1], log_to_driver=False, logging_level=logging.ERROR)
begun = float(sys.argv[2])
jobs = [job["StartTime"] / 1e3 for job in state.jobs()]
tasks = [event["ts"] / 1e6 for event in ray.timeline() if event["cat"] == "task:execute"]
print(json.dumps([min(time for time in times if time > begun) for times in (jobs, tasks)]))
"""

HELLO = """
import logging, sys
import ray

ray.init(sys.argv[1], log_to_driver=False, logging_level=logging.ERROR)
ray.get(ray.remote(lambda: None).remote())
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=600_000, help="rows of the array")
    parser.add_argument("--pictures", type=int, default=240_000, help="PNG files")
    parser.add_argument("--rounds", type=int, default=3, help="of speed; 0 for kills alone")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the kills")
    parser.add_argument("--equality", action="store_true", help="compare each kind of source once, and no more")
    options = parser.parse_args()
    if reason := why_not():
        sys.exit(reason)
    print(", ".join(f"{name} {version}" for name, version in packages.running().items()))
    images = mnist.load("test")[0][..., 0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "array.npy", np.resize(images, (options.rows, 28, 28)))
        write_pictures(folder / "pictures", images, options.pictures)
        if options.equality:
            equality(folder, options.pictures)
            return
        with ray_cluster(*([1] * cores()), 0, RAY_worker_niceness="0", **TOLD_AT_ONCE) as cluster:
            if options.rounds:
                speeds(cluster, folder, options.rounds)
            if options.kills:
                kill(cluster, folder, options.kills, random.Random(options.seed))


def speeds(cluster: RayCluster, folder: Path, rounds: int) -> None:
    """The table."""
    print(
        "\n| source | inline, rows/s | cluster, rows/s | ratio "
        "| joined after | first task after | first shard after | first task of an empty program after |"
    )
    print("|---|---|---|---|---|---|---|---|")
    compare(cluster, folder, "array.npy", 32_768, rounds)
    compare(cluster, folder, "pictures", 8192, rounds)


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
    inline, ray, moments = [], [], []
    for _ in range(rounds):
        words = ["embed", source, "--rows-per-shard", rows, "--json", "--out"]
        done = local(folder, *words, "inline")
        inline.append(span_rate(folder / "inline", rows))
        begun = time.time()
        assert json.loads(remote(cluster, folder, *words, "ray"))["images"] == json.loads(done)["images"]
        ray.append(span_rate(folder / "ray", rows))
        moments.append([moment - begun for moment in (*told_by_ray(cluster, begun), min(commits(folder / "ray")))])
        moments[-1].append(empty_program(cluster))
        require_same(folder / "inline", folder / "ray")
        for out in ("inline", "ray"):
            shutil.rmtree(folder / out)
    here, there = statistics.median(inline), statistics.median(ray)
    after = " | ".join(f"{statistics.median(times):.2f} s ({min(times):.2f})" for times in zip(*moments, strict=True))
    print(f"| {source} | {here:,.0f} | {there:,.0f} | {there / here:.2f} | {after} |", flush=True)


def told_by_ray(cluster: RayCluster, begun: float) -> list[float]:
    """When the first job after `begun` was known to the cluster, and when its first task began to run."""
    joined, first_task = json.loads(on_head(cluster, TOLD, str(begun)).splitlines()[-1])
    return [joined, first_task]


def empty_program(cluster: RayCluster) -> float:
    """Seconds from the start of a program that does nothing else until its first task runs."""
    begun = time.time()
    on_head(cluster, HELLO)
    return told_by_ray(cluster, begun)[1] - begun


def on_head(cluster: RayCluster, program: str, *words: str) -> str:
    """What a Python program prints that is given the cluster's address, on its first node."""
    command = cluster.nodes[0].command(sys.executable, "-c", program, cluster.address, *words)
    return subprocess.run(command, env=cluster.env(), stdout=subprocess.PIPE, text=True, check=True).stdout


def equality(folder: Path, images: int) -> None:
    """Each kind of source on three nodes that make shards, against this machine."""
    servers: list[ObjectServer] = []

    @contextmanager
    def served(host: str) -> Iterator[dict[str, str]]:
        with started_seaweed(folder, host) as server:
            server.make_bucket("bench")
            servers.append(server)
            yield server.environment("reader")

    files = sorted((folder / "pictures").rglob("*.png"))
    with zipfile.ZipFile(folder / "pictures.zip", "w") as archive:
        for file in files:
            archive.write(file, file.relative_to(folder / "pictures"))
    print("\n| source | shards | SHA-256 |\n|---|---|---|")
    with ray_cluster(1, 1, 1, served=served) as cluster:
        client = servers[0].client("bench")
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda file: client.put(str(file.relative_to(folder)), file.read_bytes()), files))
        for source in ("array.npy", "pictures", "pictures.zip", "s3://bench/pictures"):
            here = folder / f"local-{source.removeprefix('s3://bench/')}"
            if not here.exists():  # that of the folder is that of the objects
                local(folder, "embed", source, "--rows-per-shard", EQUAL_SHARD, "--out", here)
            remote(cluster, folder, "embed", source, "--rows-per-shard", EQUAL_SHARD, "--out", "there")
            require_same(here, folder / "there")
            print(f"| embed {source} | {len(sums(here))} | equal |", flush=True)
            shutil.rmtree(folder / "there")
        for name in ("made.npy", "made.zip"):
            words = ["generate", "--count", images, "--rows-per-shard", EQUAL_SHARD, "--out"]
            local(folder, *words, f"local-{name}")
            remote(cluster, folder, *words, name)
            require_same(folder / f"local-{name}", folder / name)
            print(f"| generate {name} | {-(-images // EQUAL_SHARD)} | equal |", flush=True)


def local(folder: Path, *words: object) -> str:
    """A command on this machine. Returns its standard output."""
    command = [sys.executable, "-m", "vae_serve", *map(str, words), "-q"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout


def remote(cluster: RayCluster, folder: Path, *words: object) -> str:
    """The same on the cluster."""
    ran = cluster.run(*words, "-q", "--engine", "ray", "--address", cluster.address, cwd=folder, timeout=600)
    if ran.returncode:
        sys.exit(ran.stderr)
    return ran.stdout


def kill(cluster: RayCluster, folder: Path, kills: int, chance: random.Random) -> None:
    """A job, again and again, while something dies at random: a node, a worker, a child of one, the driver."""
    words = ["embed", "pictures", "--rows-per-shard", 512, "-q", "--out", "killed"]
    words += ["--engine", "ray", "--address", cluster.address]
    local(folder, "embed", "pictures", "--rows-per-shard", 512, "--out", "whole")
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
            require_same(folder / "whole", folder / "killed")
            shutil.rmtree(folder / "killed")
    print(f"\n{dealt} kills at random: equal bytes after each")


def commits(out: Path) -> list[float]:
    """When each shard was there, in seconds since the epoch."""
    return [file.stat().st_mtime for file in out.glob("part-*")]


def span_rate(out: Path, rows: int) -> float:
    """Rows a second between the first and the last commit."""
    times = commits(out)
    return (len(times) - 1) * rows / (max(times) - min(times))


def require_same(here: Path, there: Path) -> None:
    """Ends the benchmark where two results have other bytes."""
    if sums(here) != sums(there):
        sys.exit(f"{there.name} has other bytes than {here.name}")


def sums(out: Path) -> dict[str, str]:
    """SHA-256 of each part of a folder, or of a file."""
    files = {file.name: file for file in out.glob("part-*")} if out.is_dir() else {"": out}
    return {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in files.items()}


if __name__ == "__main__":
    main()
