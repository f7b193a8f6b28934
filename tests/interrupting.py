"""Interrupts a command at a thing that it does to the disk, counted or named: never at a time, so never too late."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

# Run with `python -c`. What it does to files that are named relative to an open folder, as storage does, it is told by
# the interpreter (PEP 578) and, for fsync, by a wrapper. Python and libraries write their own caches by full paths.
_LAUNCHER = """
import json, os, signal, sys

# A shell makes what it starts in the background ignore Ctrl-C, and who is started inherits that: not what is tried here
signal.signal(signal.SIGINT, signal.default_int_handler)
at, action, log, words = json.loads(sys.argv[1])
me, events = os.getpid(), []

def happens(event):
    if os.getpid() != me:
        return  # a process that was forked off
    events.append(event)
    if len(events) == at:
        exec(action)

def told(name, arguments):
    if name == "open":
        path, _, flags = arguments
        if isinstance(path, str) and "/" not in path and isinstance(flags, int) and flags & os.O_CREAT:
            happens("create")
    elif name in ("os.mkdir", "os.remove", "os.rename", "os.rmdir") and any(
        isinstance(number, int) and number >= 0 for number in arguments[-2:]
    ):
        happens(name)

sync = os.fsync
def synced(file):
    sync(file)
    happens("fsync")
os.fsync = synced
sys.addaudithook(told)

from vae_serve.cli import main
try:
    main(words)
finally:
    if log:
        with open(log, "w") as file:
            json.dump(events, file)
"""


def events_of(*words: object, cwd: Path) -> int:
    """How many things a command does to the disk when nobody interrupts it."""
    log = cwd / "events.json"
    _run(0, "", log, words, cwd)
    events = json.loads(log.read_text())
    log.unlink()
    return len(events)


def interrupted(
    *words: object, cwd: Path, at: int, by: signal.Signals = signal.SIGKILL, group: bool = True
) -> "subprocess.CompletedProcess[str]":
    """Runs a command until the thing of this number, counted from 1; then it, or its whole `group`, gets the signal."""
    return _run(at, f"os.killpg(0, {by:d})" if group else f"os.kill(me, {by:d})", None, words, cwd)


def meanwhile(action: str, *words: object, cwd: Path, at: int = 1) -> "subprocess.CompletedProcess[str]":
    """Runs a command, and at the thing of this number another program's `action`, in Python."""
    return _run(at, action, None, words, cwd)


def _run(
    at: int, action: str, log: Path | None, words: tuple[object, ...], cwd: Path
) -> "subprocess.CompletedProcess[str]":
    argument = json.dumps([at, action, log and str(log), [str(word) for word in words]])
    return subprocess.run(
        [sys.executable, "-c", _LAUNCHER, argument],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        start_new_session=True,
        check=False,
    )


def moments(total: int, count: int) -> list[int]:
    """So many of 1..total, spread evenly, the first and the last among them."""
    return sorted({1 + round(place * (total - 1) / max(1, count - 1)) for place in range(count)})
