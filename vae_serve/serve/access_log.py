"""What the service writes: a JSON line for each request on stdout if asked, and faults on stderr.

Lines are written by a thread: a reader who stops reading holds up the log, never an answer.
"""

import sys
import threading
import time
import traceback
from queue import Empty, Full, Queue
from typing import IO

from vae_serve import quoting
from vae_serve.serve.request import Request

PAUSE = 0.1  # seconds between two writes, so that a busy service writes many lines at once
MOST = 20_000  # lines that wait; more are dropped, and counted


class AccessLog:
    """The log of requests."""

    def __init__(self, on: bool, out: IO[str] = sys.stdout) -> None:
        """`on`: whether requests are written. Faults always are."""
        self.on, self._out = on, out
        self._lines: Queue[dict[str, object]] = Queue(MOST)
        self._dropped = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="access-log", daemon=True)
        if on:
            self._thread.start()

    def write(self, request: Request, status: int, size: int, seconds: float) -> None:
        """One request. The address' parameters are left out: they may hold what is nobody's concern."""
        record: dict[str, object] = {
            "time": time.time(),
            "id": request.id,
            "client": request.client,
            "method": request.method,
            "path": request.path,
            "status": status,
            "bytes_in": request.size,
            "bytes_out": size,
            "milliseconds": round(seconds * 1000, 3),
        }
        try:
            self._lines.put_nowait(record)
        except Full:
            self._dropped += 1

    def fault(self, request: Request, error: BaseException) -> None:
        """What no request should be able to bring about, with its traceback, on stderr."""
        lines = "".join(traceback.format_exception(error)).splitlines()
        say(f"error: request {request.id} {request.method} {request.path}: {error}")
        for line in lines:
            say(f"  {line}")

    def stop(self) -> None:
        """Writes what waits."""
        if self.on:
            self._ended.set()
            self._thread.join(1)

    def _work(self) -> None:
        while True:
            ended = self._ended.wait(PAUSE)
            lines: list[str] = []
            try:
                while True:
                    lines.append(quoting.json(self._lines.get_nowait()))
            except Empty:
                pass
            if self._dropped:
                lines.append(f'{{"dropped": {self._dropped}}}')
                self._dropped = 0
            if lines:
                try:
                    self._out.write("\n".join(lines) + "\n")
                    self._out.flush()
                except (OSError, ValueError):  # nobody reads it any more
                    self.on = False
                    return
            if ended:
                return


def say(text: str) -> None:
    """One line to the person, on stderr."""
    try:
        sys.stderr.write(f"vae-serve: {quoting.terminal(text)}\n")
        sys.stderr.flush()
    except OSError:  # nobody reads it any more
        pass
