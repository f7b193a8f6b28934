"""`serve` under full load for some minutes, with callers who reset, trickle, send half bodies, gzip bombs and hostile
pictures among the others. Fails where a well-behaved caller gets anything but the right bits, where memory grows, or
where descriptors, processes or requests are left behind. Prints one markdown table.

python scripts/benchmarks/soak.py [--minutes M]
"""

import argparse
import gzip
import http.client
import io
import json
import random
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from vae_serve.images import mnist, png
from vae_serve.model import bundle as bundles
from vae_serve.model.model import Model

GOOD = 6  # well-behaved callers at once
PAUSE = 0.1  # seconds at most between two bad callers of a kind, who would else take all cores of the load's side
LOOK_SECONDS = 1.0  # between two looks at memory and descriptors
GROWTH = 48.0  # MB that memory may have grown from the first third to the last: what allocators keep, not what is lost
LONG = 180.0  # seconds from which on growth is told from the start
MOST = 600.0  # MB at any time
PATIENCE = 90.0  # seconds until every deadline of the service has run out
DECODER, ENCODER = "/v2/models/mnist_decoder/infer", "/v2/models/mnist_encoder/infer"


class Soak:
    """What all callers share."""

    def __init__(self, address: tuple[str, int], ends: float) -> None:
        self.address, self.ends = address, ends
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        model = Model.load(bundles.packaged_bundle(), threads=1)
        self.images = mnist.load("test")[0][:512]
        self.z, self.z_log_var = model.encode(self.images)
        self.decoded = model.decode(self.z)

    def on(self) -> bool:
        """Whether it goes on."""
        return time.monotonic() < self.ends and len(self.wrong) < 10

    def connection(self) -> http.client.HTTPConnection:
        """A new one."""
        return http.client.HTTPConnection(*self.address, timeout=120)

    def bare(self) -> socket.socket:
        """A new one, for bytes."""
        return socket.create_connection(self.address, timeout=30)


def good(soak: Soak, seed: int) -> None:
    """Asks for odd numbers of rows, on one connection, and compares every bit. A 503 is an answer, too."""
    chance = random.Random(seed)
    connection = soak.connection()
    while soak.on():
        try:
            start = chance.randrange(400)
            stop = start + chance.choice((1, 1, 1, 2, 7, 64, 100))
            kind = chance.choice(("encode", "decode", "picture"))
            if kind == "picture":
                connection.request("POST", "/v1/encode", png.encode(soak.images[start]))
            else:
                name, rows = ("image", soak.images) if kind == "encode" else ("z", soak.z)
                body, header = packed(name, rows[start:stop])
                connection.request("POST", ENCODER if kind == "encode" else DECODER, body, header)
            answer = connection.getresponse()
            contents = answer.read()
        except OSError as error:
            soak.wrong.append(f"{kind}: {error!r}")
            connection = soak.connection()
            continue
        soak.counts[f"{kind} {answer.status}"] += 1
        if answer.status == 200 and not right(soak, kind, start, stop, contents, answer.headers):
            soak.wrong.append(f"{kind} {start}..{stop}: other bits")
        elif answer.status not in (200, 503):
            soak.wrong.append(f"{kind}: {answer.status} {contents[:200]!r}")
    connection.close()


def packed(name: str, rows: np.ndarray) -> tuple[bytes, dict[str, str]]:
    """A request with binary tensors."""
    contents = rows.tobytes()
    datatype = "UINT8" if rows.dtype == np.uint8 else "FP32"
    size = {"binary_data_size": len(contents)}
    tensor = {"name": name, "shape": rows.shape, "datatype": datatype, "parameters": size}
    header = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return header + contents, {"Inference-Header-Content-Length": str(len(header))}


def right(soak: Soak, kind: str, start: int, stop: int, contents: bytes, headers: http.client.HTTPMessage) -> bool:
    """Whether an answer is the right one, to the bit."""
    if kind == "picture":
        vectors = json.loads(contents)
        found = np.array([vectors["z_mean"], vectors["z_log_var"]], np.float32)
        return found.tobytes() == np.stack([soak.z[start], soak.z_log_var[start]]).tobytes()
    whole = contents[int(headers["Inference-Header-Content-Length"]) :]
    if kind == "encode":
        return whole == soak.z[start:stop].tobytes() + soak.z_log_var[start:stop].tobytes()
    return whole == soak.decoded[start:stop].tobytes()


def head(length: int, more: str = "") -> bytes:
    """The head of a request that declares a body."""
    return f"POST {DECODER} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n{more}\r\n".encode()


def resets(soak: Soak, chance: random.Random) -> None:
    """Goes away in the middle, without a farewell."""
    with soak.bare() as connection:
        body = packed("z", soak.z[:64])[0]
        connection.sendall((head(len(body)) + body)[: chance.randrange(len(body))])
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def trickles(soak: Soak, chance: random.Random) -> None:
    """A header that never ends."""
    with soak.bare() as connection:
        connection.sendall(b"GET /v2 HTTP/1.1\r\n")
        while soak.on():
            connection.sendall(b"X-A: b\r\n")
            time.sleep(0.3)


def half_bodies(soak: Soak, chance: random.Random) -> None:
    """Declares more than it sends, and waits."""
    with soak.bare() as connection:
        connection.sendall(head(1 << 20) + bytes(chance.randrange(1 << 18)))
        connection.settimeout(chance.random() * 3)
        connection.recv(1000)


def bombs(soak: Soak, chance: random.Random) -> None:
    """300 MB in 300 KB."""
    ask(soak, DECODER, BOMB, {"Content-Encoding": "gzip"}, (413, 503))


def declares(soak: Soak, chance: random.Random) -> None:
    """Ten gigabytes, of which none come."""
    with soak.bare() as connection:
        connection.sendall(head(10**10, "Expect: 100-continue\r\n"))
        connection.recv(1000)


def unread(soak: Soak, chance: random.Random) -> None:
    """Asks for megabytes and reads none."""
    with soak.bare() as connection:
        body, header = packed("z", np.tile(soak.z, (8, 1)))
        connection.sendall(head(len(body), "".join(f"{name}: {value}\r\n" for name, value in header.items())) + body)
        time.sleep(chance.random())


def pictures(soak: Soak, chance: random.Random) -> None:
    """Files that decoders choke on."""
    file = chance.choice(HOSTILE)
    cut = chance.randrange(len(file)) if chance.random() < 0.5 else len(file)
    ask(soak, "/v1/encode", file[:cut], {}, (413, 422, 503, 200))


def nonsense(soak: Soak, chance: random.Random) -> None:
    """No HTTP, no JSON."""
    with soak.bare() as connection:
        connection.sendall(chance.randbytes(chance.randrange(1, 4000)))
        connection.settimeout(1)
        connection.recv(1000)
    ask(soak, DECODER, chance.randbytes(1000), {}, (400, 503))


HARM: tuple[Callable[[Soak, random.Random], None], ...] = (
    resets,
    trickles,
    half_bodies,
    bombs,
    declares,
    unread,
    pictures,
    nonsense,
)


def ask(soak: Soak, path: str, body: bytes, headers: dict[str, str], expected: tuple[int, ...]) -> None:
    """A whole request whose status must be one of some."""
    connection = soak.connection()
    connection.request("POST", path, body, headers)
    answer = connection.getresponse()
    contents = answer.read()
    connection.close()
    if answer.status not in expected:
        soak.wrong.append(f"{path}: {answer.status} {contents[:200]!r}")


def chunk(kind: bytes, data: bytes) -> bytes:
    """Of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def large_png(side: int) -> bytes:
    """Black, RGB."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes((3 * side + 1) * side), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def hostile_files() -> list[bytes]:
    """Bombs within and beyond the limit of pixels, many scans, and noise under known names."""
    from PIL import Image

    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (600, 600, 3), np.uint8))
    files = [large_png(4000), large_png(9000)]
    for kind in ("JPEG", "WEBP", "TIFF", "GIF", "AVIF"):
        file = io.BytesIO()
        noise.save(file, kind, **({"progressive": True} if kind == "JPEG" else {}))
        files.append(file.getvalue())
    return [*files, *(file[:20] + np.random.default_rng(1).bytes(5000) for file in files)]


def harm(soak: Soak, work: Callable[[Soak, random.Random], None], seed: int) -> None:
    """One kind of bad caller, over and over."""
    chance = random.Random(seed)
    while soak.on():
        with suppress(OSError, http.client.HTTPException):  # it is refused, reset, or tired of waiting
            work(soak, chance)
        soak.counts[work.__name__] += 1
        time.sleep(chance.random() * PAUSE)


def resident(process: int) -> float:
    """Megabytes."""
    return int(Path(f"/proc/{process}/status").read_text().partition("VmRSS:")[2].split()[0]) / 1024


def descriptors(process: int) -> int:
    """Open files."""
    return len(list(Path(f"/proc/{process}/fd").iterdir()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    seconds = parser.parse_args().minutes * 60
    words = ["serve", "--model", str(bundles.packaged_bundle()), "--port", "0", "--json", "--picture-timeout", "3"]
    with tempfile.TemporaryDirectory() as room, (Path(room) / "said").open("w+") as said:
        command = [sys.executable, "-m", "vae_serve", *words]
        process = subprocess.Popen(command, cwd=room, stdout=subprocess.PIPE, stderr=said, text=True)
        try:
            assert process.stdout is not None
            told = ""
            while not told.endswith("}\n"):
                told += process.stdout.readline() or sys.exit("the service did not start")
            host, port = json.loads(told)["url"].removeprefix("http://").rsplit(":", 1)
            run(process, (host, int(port)), seconds)
            process.terminate()
            code = process.wait(60)
            said.seek(0)
            lines = said.read()
            if code or "error" in lines or "Traceback" in lines:
                sys.exit(f"it ended with {code}, and said: {lines[-4000:]}")
        finally:
            process.kill()
            process.wait()


def run(process: "subprocess.Popen[str]", address: tuple[str, int], seconds: float) -> None:
    """The load, what is seen of it, and what it has left behind."""
    soak = Soak(address, time.monotonic() + seconds)
    quiet = warmed(soak, process.pid)
    soak.ends = time.monotonic() + seconds
    callers = [threading.Thread(target=good, args=(soak, seed)) for seed in range(GOOD)]
    callers += [threading.Thread(target=harm, args=(soak, work, at)) for at, work in enumerate(HARM)]
    for caller in callers:
        caller.start()
    memory: list[float] = []
    while any(caller.is_alive() for caller in callers):
        time.sleep(LOOK_SECONDS)
        memory.append(resident(process.pid))
    third = max(1, len(memory) // 3)
    first, last = max(memory[:third]), max(memory[-third:])
    after = settled(process.pid, quiet, PATIENCE)
    answered = sum(count for name, count in soak.counts.items() if name.endswith(" 200"))
    print("| | |\n|---|--:|")
    print(f"| minutes | {seconds / 60:g} |")
    print(f"| right answers to well-behaved callers | {answered:,} |")
    print(f"| of them busy (503) | {sum(count for name, count in soak.counts.items() if name.endswith(' 503')):,} |")
    print(f"| wrong answers, errors | {len(soak.wrong)} |")
    print(f"| bad callers | {sum(soak.counts[work.__name__] for work in HARM):,} |")
    print(f"| memory, largest of the first third and of the last, MB | {first:.0f}, {last:.0f} |")
    print(f"| descriptors before and after | {quiet}, {after} |")
    if soak.wrong:
        sys.exit("\n".join(soak.wrong))
    if max(memory) > MOST:
        sys.exit(f"memory has come to {max(memory):.0f} MB")
    if seconds >= LONG and last > first + GROWTH:
        sys.exit(f"memory has grown from {first:.0f} to {last:.0f} MB")
    if after > quiet:
        sys.exit(f"{after - quiet} descriptors are left behind")
    if not answered or not all(soak.counts[work.__name__] for work in HARM):
        sys.exit(f"not every kind of caller has called: {soak.counts}")


def warmed(soak: Soak, process: int) -> int:
    """Descriptors of a service that has started all it starts and that nobody talks to."""
    asking = [
        threading.Thread(target=ask, args=(soak, "/v1/encode", png.encode(soak.images[0]), {}, (200,)))
        for _ in range(32)
    ]
    for caller in asking:
        caller.start()
    for caller in asking:
        caller.join()
    return settled(process, 0, 3.0)


def settled(process: int, wanted: int, seconds: float) -> int:
    """Descriptors once there are as few as wanted, or at the end of some time: deadlines of those who left run out."""
    end = time.monotonic() + seconds
    while descriptors(process) > wanted and time.monotonic() < end:
        time.sleep(0.2)
    return descriptors(process)


BOMB = gzip.compress(bytes(300 << 20), 9)
HOSTILE = hostile_files()

if __name__ == "__main__":
    main()
