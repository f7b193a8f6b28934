"""The service in a process of its own, and callers of it: whole requests, and bytes on a bare connection."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).parents[2]
MNIST = ROOT / "exports" / "mnist"
PATIENCE = 60.0  # seconds for what takes a fraction of one on a machine that does nothing else


class Reply(NamedTuple):
    """An answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Service:
    """A running service."""

    def __init__(self, process: "subprocess.Popen[bytes]", told: dict[str, Any], lines: list[str]) -> None:
        self.process, self.told, self.lines = process, told, lines
        self.url: str = told["url"]
        host, port = self.url.removeprefix("http://").rsplit(":", 1)
        self.address = host, int(port)

    @property
    def at(self) -> str:
        """Host and port."""
        return "{}:{}".format(*self.address)

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Reply:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection(*self.address, timeout=PATIENCE)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def get(self, path: str, headers: dict[str, str] | None = None) -> Reply:
        """A GET."""
        return self.ask("GET", path, headers=headers)

    def post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> Reply:
        """A POST: bytes as they are, anything else as JSON."""
        contents = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.ask("POST", path, contents, headers or {})

    def infer(self, model: str, record: Any, headers: dict[str, str] | None = None) -> Reply:
        """An infer request in JSON."""
        return self.post(f"/v2/models/{model}/infer", record, headers)

    def connect(self) -> socket.socket:
        """A bare connection."""
        return socket.create_connection(self.address, timeout=PATIENCE)

    def said(self, words: str) -> None:
        """Waits until a line on stderr has these words."""
        wait_for(lambda: any(words in line for line in self.lines), f"{words!r} in {self.lines}")

    def signal(self, number: int) -> None:
        """Sends a signal."""
        self.process.send_signal(number)

    def end(self) -> int:
        """Ends it as a container's runtime does, and says with which code."""
        self.signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)


def wait_for(holds: Callable[[], bool], what: str) -> None:
    """Waits until something holds."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.01)


@contextmanager
def serving(
    *words: object, cwd: Path, program: tuple[str, ...] = ("-m", "vae_serve"), stdout: Any = None
) -> Iterator[Service]:
    """`vae-serve serve WORDS` at a port that is free, ended at the end."""
    command = [sys.executable, *program, "serve", "--port", "0", "--json", *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    lines: list[str] = []
    reader = threading.Thread(target=_read, args=(process.stderr, lines))
    reader.start()
    try:
        text = b""
        while not text.endswith(b"}\n"):
            line = process.stdout.readline()
            assert line, f"it ended with {process.wait()}: {lines}"
            text += line
        yield Service(process, json.loads(text), lines)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        reader.join()
        process.stderr.close()


def _read(stream: Any, lines: list[str]) -> None:
    for line in stream:
        lines.append(line.decode(errors="replace").rstrip("\n"))


def tensor(name: str, values: np.ndarray, datatype: str = "FP32", **more: Any) -> dict[str, Any]:
    """An input with its numbers."""
    return {"name": name, "shape": list(values.shape), "datatype": datatype, "data": values.ravel().tolist(), **more}


def binary(name: str, values: np.ndarray, datatype: str = "FP32", **more: Any) -> tuple[bytes, dict[str, str]]:
    """The body of a request with the input's bytes, and its header fields."""
    contents = values.tobytes()
    size = {"binary_data_size": len(contents)}
    described = {"name": name, "shape": list(values.shape), "datatype": datatype, "parameters": size}
    header = json.dumps({"inputs": [described], **more}).encode()
    return header + contents, {"Inference-Header-Content-Length": str(len(header))}


def read_all(connection: socket.socket) -> bytes:
    """What comes until the other side closes."""
    parts = []
    while part := connection.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)
