"""`serve` against ONNX Runtime called in process, and against any other server of the Open Inference Protocol that runs
already. Prints two markdown tables.

python scripts/benchmarks/serve.py [--seconds S] [--rounds N] [--triton] [--other NAME URL PID]

--triton starts the tests' Triton on the layout of `deploy triton`: the real server, with a backend in Python in place
of its own for ONNX Runtime, which may cost less.

Each load is put on the servers in turn, as often as there are rounds; of each figure the median is shown.

The load comes from wrk (Debian's package), which is installed where that is possible. Bodies are binary tensors. CPU is
what the server's processes used, by /proc; the load generator's is not in it.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime as ort

from vae_serve import deploy
from vae_serve.model import bundle as bundles

sys.path.append(str(Path(__file__).parents[2] / "tests"))
sys.path.append(str(Path(__file__).parents[2] / "tests" / "deploy"))
import triton_server
from object_servers import free_ports

LOADS = ((1, 1), (1, 16), (1, 64), (64, 1), (64, 4))  # rows of a request, callers

# What wrk sends, and what it says at the end: requests, those that failed, and microseconds at two percentiles.
LUA = """
local file = io.open("{body}", "rb")
wrk.body = file:read("*a")
file:close()
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/octet-stream"
wrk.headers["Inference-Header-Content-Length"] = "{header}"
function done(summary, latency)
  local e = summary.errors
  local failed = e.connect + e.read + e.write + e.status + e.timeout
  io.write(string.format("DONE %d %d %d %d %d\\n", summary.requests, failed, summary.duration,
    latency:percentile(50), latency:percentile(99)))
end
"""


class Server(NamedTuple):
    """Something to put load on."""

    name: str
    url: str
    process: int


class Load(NamedTuple):
    """What came of some seconds of load."""

    rate: float
    cpu: float
    """Microseconds of the server's CPU a request."""
    p50: float
    p99: float
    """Microseconds."""
    failed: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=5, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=1, help="measurements of each load, of which the median counts")
    parser.add_argument("--triton", action="store_true", help="the Triton that scripts/test installs, too")
    parser.add_argument("--other", nargs=3, action="append", default=[], metavar=("NAME", "URL", "PID"))
    asked = parser.parse_args()
    install_wrk()
    with tempfile.TemporaryDirectory() as room:
        with ExitStack() as stack:
            servers = [stack.enter_context(started(Path(room)))]
            if asked.triton:
                servers.append(stack.enter_context(triton(Path(room))))
            servers += [Server(name, url.rstrip("/"), int(pid)) for name, url, pid in asked.other]
            table(servers, Path(room), asked.seconds, asked.rounds)
        life(Path(room))


def install_wrk() -> None:
    """Debian's package, where it is missing and we may."""
    if shutil.which("wrk") is None and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "update", "-qq"], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["apt-get", "install", "-y", "-qq", "wrk"], check=True, stdout=subprocess.DEVNULL)
    if shutil.which("wrk") is None:
        sys.exit("the load generator wrk is missing: apt-get install wrk")


@contextmanager
def started(room: Path) -> Iterator[Server]:
    """The service over the packaged bundle."""
    words = ["serve", "--model", str(bundles.packaged_bundle()), "--port", "0", "--json", "--quiet"]
    process = subprocess.Popen([sys.executable, "-m", "vae_serve", *words], cwd=room, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        told = ""
        while not told.endswith("}\n"):
            told += process.stdout.readline() or sys.exit("the service did not start")
        yield Server("vae-serve", json.loads(told)["url"], process.pid)
    finally:
        process.terminate()
        process.wait()


@contextmanager
def triton(room: Path) -> Iterator[Server]:
    """Triton over the layout of the packaged bundle."""
    if reason := triton_server.missing():
        sys.exit(reason)
    deploy.deploy(bundles.packaged_bundle(), "triton", room / "layout")
    ports = free_ports(3)
    with (room / "triton.log").open("wb") as log:
        command = triton_server.triton_command(room / "layout", room, ports)
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{ports[0]}"
        ready = ["curl", "-sf", f"{url}/v2/health/ready"]
        while subprocess.run(ready, check=False, stdout=subprocess.DEVNULL).returncode:
            if process.poll() is not None:
                sys.exit((room / "triton.log").read_text()[-3000:])
            time.sleep(0.1)
        yield Server("Triton", url, process.pid)
    finally:
        process.terminate()
        process.wait()


def table(servers: list[Server], room: Path, seconds: int, rounds: int) -> None:
    """Every load on every server, one after the other, beside the network called in process."""
    print("\n| load | server | requests/s | CPU us a request | of it the network | p50 ms | p99 ms | failed |")
    print("|---|---|--:|--:|--:|--:|--:|--:|")
    for role, rows, callers in [(role, *load) for role in ("encoder", "decoder") for load in LOADS]:
        raws, loads = [], []
        for _ in range(rounds):
            raws.append(in_process(role, rows))
            loads.append([load(server, room, role, rows, callers, seconds) for server in servers])
        raw = statistics.median(raws)
        called = f"{role}, {rows} row{'s' * (rows > 1)}, {callers} caller{'s' * (callers > 1)}"
        print(f"| {called} | ONNX Runtime in process | {1e6 / raw:,.0f} | {raw:,.0f} | 100 % | | | |")
        for server, measured in zip(servers, zip(*loads, strict=True), strict=True):
            found = Load(*map(statistics.median, zip(*measured, strict=True)))
            found = found._replace(failed=sum(one.failed for one in measured))
            share = f"{found.rate * raw / 1e6:.0%} of one core" if rows > 1 else f"{raw / found.cpu:.0%}"
            times = f"{found.p50 / 1000:.2f} | {found.p99 / 1000:.2f} | {found.failed}"
            print(
                f"| {called} | {server.name} | {found.rate:,.0f} | {found.cpu:,.0f} | {share} | {times} |", flush=True
            )


def given(role: str, rows: int) -> tuple[str, np.ndarray]:
    """Name and values of an input."""
    random = np.random.default_rng(0)
    if role == "encoder":
        return "image", random.random((rows, 28, 28, 1), np.float32)
    return "z", random.standard_normal((rows, 2)).astype(np.float32)


def in_process(role: str, rows: int) -> float:
    """Microseconds of CPU that a call of the network takes on one thread: the median of many, after a warm-up."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(bundles.packaged_bundle() / f"{role}.onnx", options)
    name, values = given(role, rows)
    times = []
    for _ in range(2000 // rows + 100):
        begun = time.thread_time()
        session.run(None, {name: values})
        times.append(time.thread_time() - begun)
    return statistics.median(times[20:]) * 1e6


def load(server: Server, room: Path, role: str, rows: int, callers: int, seconds: int) -> Load:
    """wrk's load on one network."""
    name, values = given(role, rows)
    contents = values.tobytes()
    tensor = {
        "name": name,
        "shape": values.shape,
        "datatype": "FP32",
        "parameters": {"binary_data_size": len(contents)},
    }
    header = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    body, script = room / "body", room / "load.lua"
    body.write_bytes(header + contents)
    script.write_text(LUA.format(body=body, header=len(header)))
    where = f"{server.url}/v2/models/mnist_{role}/infer"
    wrk = ["wrk", "-t1", f"-c{callers}", "-s", str(script), where]
    subprocess.run([*wrk, "-d1s"], check=True, capture_output=True)
    before = cpu(server.process)
    done = subprocess.run([*wrk, f"-d{seconds}s"], check=True, capture_output=True, text=True).stdout
    used = cpu(server.process) - before
    numbers = re.search(r"DONE (\d+) (\d+) (\d+) (\d+) (\d+)", done)
    assert numbers, done
    requests, failed, duration, p50, p99 = map(int, numbers.groups())
    return Load(requests / duration * 1e6, used / requests * 1e6, p50, p99, failed)


def cpu(process: int) -> float:
    """Seconds of CPU that a process and its children have used."""
    total = 0.0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(") ")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if process in (int(folder.name), int(fields[1])):
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def life(room: Path) -> None:
    """How long the start takes, and what an idle service holds."""
    seconds, memory = [], []
    for _ in range(5):
        begun = time.perf_counter()
        with started(room) as server:
            subprocess.run(["curl", "-sf", f"{server.url}/v2/health/ready"], check=True, stdout=subprocess.DEVNULL)
            seconds.append(time.perf_counter() - begun)
            status = Path(f"/proc/{server.process}/status").read_text()
            memory.append(int(status.partition("VmRSS:")[2].split()[0]) / 1024)
    print("\n| | median of 5 | worst |\n|---|--:|--:|")
    print(f"| from the command to the first answer, s | {statistics.median(seconds):.2f} | {max(seconds):.2f} |")
    print(f"| memory of an idle service (RSS), MB | {statistics.median(memory):.0f} | {max(memory):.0f} |")


if __name__ == "__main__":
    main()
