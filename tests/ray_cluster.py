"""A real Ray cluster of some nodes on this machine: each in a network namespace of its own, with a temporary folder of
its own, joined by a bridge. Nodes can be killed, their links cut, and all of it is taken down at the end.

It needs root and `ip` (Debian: iproute2); `why_not` says what is missing. Detection of failures is shortened.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

ROOT = Path(__file__).parent.parent
PORT = 6379
ATTEMPTS = 3  # to start a node
STORE = 80 << 20  # bytes of each node's object store, the least that Ray takes

# As Ray reads them on every node and in the process that connects: seconds in place of minutes.
QUICK = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "6",
    "RAY_grpc_client_keepalive_time_ms": "2000",
    "RAY_grpc_client_keepalive_timeout_ms": "2000",
}
QUIET = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_enable_open_telemetry": "0",
}


# Waits until nobody holds its standard input any more.
_REMOVE = """
cat > /dev/null
home=$1 bridge=$2; shift 2
for space in "$@"; do
  while pids=$(ip netns pids "$space") && [ -n "$pids" ]; do kill -9 $pids; sleep 0.1; done
  ip netns del "$space"
done
ip link del "$bridge"
rm -rf "$home"
"""


def why_not() -> str | None:
    """Why no cluster can be made here; None where one can."""
    if not shutil.which("ip"):
        return "network namespaces need the command ip (Debian: iproute2)"
    if not (Path(sys.executable).parent / "ray").exists():
        return "Ray is not installed: pip install 'vae-serve[ray]'"
    name = f"vs{os.getpid()}x"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"network namespaces cannot be made here ({made.stderr.strip()}); they need root"
    _ip("netns", "del", name)
    return None


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], capture_output=True, check=True)


class Node:
    """One machine of the cluster."""

    def __init__(self, cluster: "RayCluster", number: int, cpus: int) -> None:
        self.cluster, self.number, self.cpus = cluster, number, cpus
        self.ip = f"{cluster.net}.{number}"
        self.space, self.link = f"{cluster.name}n{number}", f"{cluster.name}v{number}"
        self.temp = cluster.home / str(number)
        _ip("netns", "add", self.space)
        _ip("link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", self.space)
        _ip("link", "set", self.link, "master", cluster.bridge, "up")
        _ip("-n", self.space, "addr", "add", f"{self.ip}/24", "dev", "eth0")
        _ip("-n", self.space, "link", "set", "eth0", "up")
        _ip("-n", self.space, "link", "set", "lo", "up")

    def start(self, hidden: Path | None = None, **env: str) -> None:
        """Starts Ray here; node 1 is the head. A `hidden` folder is empty here."""
        head = ["--head", "--port", str(PORT), "--include-dashboard", "false"]
        joins = head if self.number == 1 else ["--address", self.cluster.address]
        words = [
            *("ray", "start", *joins, "--node-ip-address", self.ip, "--num-cpus", str(self.cpus)),
            *("--temp-dir", str(self.temp), "--object-store-memory", str(STORE), "--disable-usage-stats"),
        ]
        if hidden:  # `ip netns exec` has a mount namespace of its own
            words = ["sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', str(hidden), *words]
        said = self.temp.with_suffix(".log")
        for _ in range(ATTEMPTS):  # Ray gives a node half a minute to be known to its head, which a busy machine passes
            with said.open("wb") as log:  # not a pipe: Ray's processes keep it open
                done = subprocess.run(
                    self.command(*words), env=self.cluster.env(**env), stdout=log, stderr=log, timeout=120, check=False
                )
            if not done.returncode:
                return
            self.kill()
        raise RuntimeError(said.read_text())

    def command(self, *words: object) -> list[str]:
        """Words that run here."""
        return ["ip", "netns", "exec", self.space, *map(str, words)]

    def processes(self, word: str = "") -> list[int]:
        """Those that run here and have a word in their command line."""
        told = subprocess.run(["ip", "netns", "pids", self.space], capture_output=True, text=True, check=False)
        found = []
        for process in map(int, told.stdout.split()):
            with suppress(OSError):
                if word.encode() in Path(f"/proc/{process}/cmdline").read_bytes():
                    found.append(process)
        return found

    def kill(self, word: str = "") -> None:
        """`kill -9` of all that has a word in its command line, once; without one of all, until nothing is left."""
        while left := [process for process in self.processes(word) if not _is_zombie(process)]:
            for process in left:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            while not all(map(_is_zombie, left)):
                time.sleep(0.01)
            if word:
                return

    def cut(self) -> None:
        """The cable is pulled."""
        _ip("link", "set", self.link, "down")

    def mend(self) -> None:
        """The cable is back."""
        _ip("link", "set", self.link, "up")


class RayCluster:
    """The nodes; commands run on the first one."""

    def __init__(self, cpus: tuple[int, ...], name: str, env: dict[str, str]) -> None:
        self.name, self._env = f"{name}{os.getpid()}", env
        number = zlib.crc32(self.name.encode())
        self.net = f"10.{number % 200 + 20}.{number // 200 % 250}"
        self.bridge, self.host = f"{self.name}b", f"{self.net}.254"  # where the nodes reach this machine
        self.address = f"{self.net}.1:{PORT}"
        self.home = Path(tempfile.mkdtemp(prefix=self.name, dir="/tmp"))  # short: Ray puts sockets below it
        spaces = " ".join(f"{self.name}n{number}" for number, _ in enumerate(cpus, 1))
        self._remover = subprocess.Popen(
            ["sh", "-c", _REMOVE, "sh", str(self.home), self.bridge, *spaces.split()],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        _ip("link", "add", self.bridge, "type", "bridge")
        _ip("link", "set", self.bridge, "up")
        _ip("addr", "add", f"{self.host}/24", "dev", self.bridge)
        self.nodes: list[Node] = []

    def join(self, cpus: tuple[int, ...], env: Mapping[str, str]) -> None:
        """Starts the nodes, with more environment."""
        self._env.update(env)
        for number, count in enumerate(cpus, 1):
            self.nodes.append(Node(self, number, count))
            self.nodes[-1].start()  # one after the other: at once they take each other's ports

    def env(self, **more: str) -> dict[str, str]:
        """The environment of all that runs in the cluster."""
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
            **QUICK,
            **QUIET,
            "HOME": str(self.home),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            **self._env,
            **more,
        }

    def start(self, *words: object, cwd: Path, **env: str) -> "subprocess.Popen[str]":
        """`vae-serve WORDS` on the first node."""
        return subprocess.Popen(
            self.nodes[0].command(sys.executable, "-m", "vae_serve", *words),
            cwd=cwd,
            env=self.env(**env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: object, cwd: Path, timeout: float = 240, **env: str) -> "subprocess.CompletedProcess[str]":
        """The same, to its end."""
        with self.start(*words, cwd=cwd, **env) as job:
            try:
                out, said = job.communicate(timeout=timeout)
            finally:
                job.kill()
        return subprocess.CompletedProcess(job.args, job.returncode, out, said)

    def left_over(self) -> list[int]:
        """Processes of ours on any node after the job's end; Ray takes some seconds to end them."""
        for _ in range(200):
            left = [process for node in self.nodes for process in node.processes("vae_serve.jobs")]
            if not left:
                return []
            time.sleep(0.1)
        return left

    def remove(self) -> None:
        """Takes all of it down. A process of its own does so, also where this one is killed."""
        self._remover.communicate()


@contextmanager
def ray_cluster(
    *cpus: int,
    name: str = "vs",
    served: Callable[[str], AbstractContextManager[Mapping[str, str]]] | None = None,
    **env: str,
) -> Iterator[RayCluster]:
    """A cluster with so many CPUs on each node, and more environment. Two at once have other names.

    `served`: a server at this machine's address in the cluster, and the environment of those who use it.
    """
    cluster = RayCluster(cpus, name, env)
    try:
        with served(cluster.host) if served else nullcontext({}) as more:
            cluster.join(cpus, more)
            yield cluster
    finally:
        cluster.remove()


def _is_zombie(process: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True
