"""A process that makes one shard after another, for engines whose shards are made outside of the planning process.

It is a new Python, not a fork of one with threads, and serves until the process that started it closes its requests, or
is gone. Its imports are paid once. It never forks: `decode_server`, forked first, does that for it. So a picture that
crashes a decoder becomes a row, as it does in the planning process. It writes nothing to disk: a shard comes back as
bytes.
"""

import os
import pickle
import signal
import subprocess
import threading
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any, NoReturn

from vae_serve import start
from vae_serve.errors import DecodersLost, VaeServeError
from vae_serve.jobs.engines import connected
from vae_serve.jobs.engines.inline import run_shard
from vae_serve.jobs.engines.outcomes import Broken, Made, Outcome, Refused, packed
from vae_serve.jobs.engines.parcels import unpacked

_SHARD, _SHARED = b"s", b"k"  # what a message begins with
_NO_DECODERS = 71  # its exit status where it has lost its decoders: a new one gets others


_HOW = {_NO_DECODERS: "without their decoders, which were ended"}


class Died(Exception):
    """The process has ended in the middle of a shard. The message says how."""


class ShardProcess:
    """The process, from the side of the one that starts it. One thread at a time uses it."""

    def __init__(self) -> None:
        self._process, self._requests, self._answers = connected.start(
            "vae_serve.jobs.engines.shard_process", {"OPENBLAS_NUM_THREADS": "1"}
        )

    def share(self, key: str, contents: bytes) -> None:
        """What all shards share, before the first one that needs it. Raises Died as `make` does."""
        self._ask(_SHARED + key.encode() + b"\0" + contents, answered=False)

    def make(self, request: bytes) -> bytes:
        """The answer to a request. Raises Died where the process ends instead."""
        return self._ask(_SHARD + request, answered=True)

    def _ask(self, message: bytes, *, answered: bool) -> bytes:
        try:
            self._requests.send_bytes(message)
            return self._answers.recv_bytes() if answered else b""
        except (OSError, EOFError):
            self.stop()
            code = self._process.returncode
            how = signal.Signals(-code).name if code < 0 else _HOW.get(code, f"exit status {code}")
            raise Died(how) from None

    def kill(self) -> None:
        """Ends it at once. Any thread may do so; the one that waits for an answer is told."""
        self._process.kill()

    def stop(self) -> None:
        """Ends it, whatever it is at."""
        self._requests.close()
        self._answers.close()
        try:
            self._process.wait(timeout=1)  # it has ended, or is about to: that tells how
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def main(requests: int, answers: int) -> NoReturn:
    """The life of the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    start.prepare()
    from vae_serve.jobs import decode_server  # with NumPy: those who start this process do without

    incoming: SimpleQueue[bytes] = SimpleQueue()
    asking, answering = Connection(requests, writable=False), Connection(answers, readable=False)
    decode_server.start(private=(requests, answers))
    threading.Thread(target=_listen, args=(asking, incoming), daemon=True).start()
    shared: dict[str, Any] = {}
    with suppress(BrokenPipeError):
        while True:
            message = incoming.get()
            kind, contents = message[:1], message[1:]
            if kind == _SHARED:
                key, _, value = contents.partition(b"\0")
                shared[key.decode()] = pickle.loads(value)  # noqa: S301  as the requests
            else:
                answering.send_bytes(packed(_outcome(contents, shared)))
    os._exit(1)


def _listen(asking: Connection, incoming: "SimpleQueue[bytes]") -> None:
    """Ends the process as soon as nobody asks any more, whatever it is at."""
    with suppress(EOFError, OSError):
        while True:
            incoming.put(asking.recv_bytes())
    os._exit(0)


def _outcome(request: bytes, shared: dict[str, Any]) -> Outcome:
    try:
        spec, shard = unpacked(request, shared)
        result = run_shard(spec, shard)
        return Made(result.contents(), result.record)
    except DecodersLost:
        os._exit(_NO_DECODERS)
    except VaeServeError as error:
        return Refused(error)
    except Exception:  # noqa: BLE001  whatever it is, the one that plans says it
        return Broken(traceback.format_exc())
