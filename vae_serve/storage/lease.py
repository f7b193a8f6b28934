"""The right to write to a place in an object store, for one process at a time.

A chain of numbered files, made by `Store.create` alone:

    FOLDER/00000001.json     who holds it, and since when
    FOLDER/00000002.json     the same holder, a little later
    ...                      the newest is the lease; the holder removes all but the last few

The holder makes the next number every few seconds. Whoever finds a chain watches it: a new number means that the holder
is alive, and no new one for `SECONDS` by the watcher's own clock means that it is not, and the watcher makes the next
number. No two clocks are compared. Only one of several can make a number; it looks at the chain once more, and gives
its number back where that has gone on meanwhile.

A process that is stopped for longer than `SECONDS` finds its lease taken and must stop. What it has under way at that
moment can still arrive: what is written under a lease must bear being written twice, as a job's shards do.
"""

import getpass
import json
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any, BinaryIO

from vae_serve.errors import OutputError
from vae_serve.storage.store import Store

SECONDS = 30.0  # without a new number, until a lease may be taken over
_RENEWALS = 3  # in that time
_KEPT = 4  # numbers of the chain: one that is just being looked at must not be gone
_PATIENCE = 5.0  # seconds to wait at the end for a renewal that is under way
_ATTEMPTS = 10  # to take it while others do the same

Note = Callable[[str], None]


def _quiet(line: str) -> None:
    """Says nothing."""


class Lease:
    """A lease; `take` it first. It is renewed by a thread until it is let go."""

    def __init__(
        self, store: Store, folder: str, shown: str, note: Note = _quiet, seconds: float | None = None
    ) -> None:
        """`shown`: the place in messages. `note` is told when it has to wait. `seconds`: in place of SECONDS."""
        self._store, self._folder, self._shown, self._note = store, folder, shown, note
        self._seconds = SECONDS if seconds is None else seconds
        self._owner = {
            **_this_process(),
            "token": os.urandom(8).hex(),
            "since": time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime()),
        }
        self._number = 0
        self._renewed = 0.0
        self._lost = False
        self._changing = Lock()
        self._ended = Event()
        self._thread: Thread | None = None

    def take(self) -> None:
        """Takes it, from a holder that is dead if need be.

        Raises:
            OutputError: another process holds it, the message says which; or the store replaces what exists, and could
                never keep two processes apart.
        """
        for _ in range(_ATTEMPTS):
            newest = self._newest()
            if newest is not None and not self._is_dead(newest):
                continue
            now = _clock()
            if self._make(1 if newest is None else newest[0] + 1, newest[0] if newest else None):
                self._renewed = now
                break
        else:
            raise OutputError(f"other runs are just beginning to write to {self._shown}; try again in a minute")
        self._refuse_careless_store()
        self._thread = Thread(target=self._keep, daemon=True)
        self._thread.start()

    def require(self) -> None:
        """Renews it where that is due.

        Raises:
            OutputError: it has been taken over, or the store cannot be reached.
        """
        with self._changing:
            if not self._lost and _clock() - self._renewed > self._seconds * 2 / 3:
                self._renew()
            if self._lost:
                newest = self._newest()
                owner = f" by {_named(newest[1])}" if newest else ""
                raise OutputError(
                    f"this run was not heard of for too long, and writing to {self._shown} has been taken over{owner}; "
                    "what is finished stays: run the same command again when that run has ended"
                )

    def let_go(self) -> None:
        """Ends it, so that nobody has to wait; where the store cannot be reached, they wait."""
        self._ended.set()
        if not self._changing.acquire(timeout=_PATIENCE):
            return  # it is just being renewed, and the store does not answer
        try:
            with suppress(OutputError, OSError):
                if not self._lost and self._number:
                    for number in self._numbers():
                        if number <= self._number:  # the newest last
                            self._store.delete(self._name(number))
        finally:
            self._lost = True  # nobody renews it from here on
            self._changing.release()
        if self._thread is not None:
            self._thread.join()

    def _keep(self) -> None:
        while not self._ended.wait(self._seconds / _RENEWALS):
            with self._changing, suppress(OutputError, OSError):  # if it stays so, `require` says it
                if not self._lost:
                    self._renew()

    def _renew(self) -> None:
        now = _clock()
        if not self._make(self._number + 1, self._number):
            self._lost = True
            return
        self._renewed = now
        for number in self._numbers():
            if number <= self._number - _KEPT:
                self._store.delete(self._name(number))

    def _make(self, number: int, before: int | None) -> bool:
        """Makes a number after the one `before`. False where the chain has gone on, or has ended, meanwhile."""
        name = self._name(number)
        try:
            self._store.create(name, partial(_write, json.dumps({**self._owner, "number": number}).encode()))
        except FileExistsError:
            return False
        numbers = self._numbers()
        if numbers[-1:] != [number] or (before not in numbers if before else numbers != [number]):
            self._store.delete(name)
            return False
        self._number = number
        return True

    def _is_dead(self, newest: tuple[int, dict[str, Any]]) -> bool:
        """Whether the holder is dead for certain, or not heard of for as long as it takes. False where all has changed.

        Raises:
            OutputError: it is alive.
        """
        number, owner = newest
        alive = _is_alive_here(owner)
        if alive is False:
            return True
        if alive is None:
            self._note(
                f"{self._shown} was being written by {_named(owner)}; waiting {self._seconds:.0f} s for a sign of life"
            )
            end = time.monotonic() + self._seconds
            while time.monotonic() < end:
                time.sleep(self._seconds / 20)
                seen = self._newest()
                if seen is None or (seen[1].get("token") != owner.get("token") and seen[0] <= number):
                    return False
                if seen[0] != number:
                    owner, alive = seen[1], True
                    break
        if alive:
            raise OutputError(
                f"{self._shown} is being written by {_named(owner)}; wait for it, or choose another --out"
            )
        return True

    def _refuse_careless_store(self) -> None:
        """A store that agrees to create one name twice would let two processes believe that each is alone."""
        try:
            self._store.create(self._name(self._number), partial(_write, b"asked twice"))
        except FileExistsError:
            return
        self._store.delete(self._name(self._number))
        raise OutputError(
            f"the store of {self._shown} replaces what exists although it is asked not to (If-None-Match), so that two "
            "runs could destroy each other's results; use a store that keeps conditions, or a folder"
        )

    def _newest(self) -> tuple[int, dict[str, Any]] | None:
        for _ in range(_ATTEMPTS):
            numbers = self._numbers()
            if not numbers:
                return None
            contents = self._store.get(self._name(numbers[-1]))
            if contents is not None:
                return numbers[-1], _parsed(contents)
        return None

    def _numbers(self) -> list[int]:
        stems = (name.removesuffix(".json") for name in self._store.list(self._folder))
        return sorted(int(stem) for stem in stems if stem.isdecimal() and stem.isascii())

    def _name(self, number: int) -> str:
        return f"{self._folder}/{number:08d}.json"


def _clock() -> float:
    """Seconds that go on while the machine is suspended, where there are such."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def _this_process() -> dict[str, Any]:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return {
        "host": socket.gethostname(),
        "user": user,
        "pid": os.getpid(),
        "kernel": _kernel(),
        "started": _started(os.getpid()),
    }


def _kernel() -> str | None:
    """Names the running kernel and the numbering of processes in it; None where that cannot be known."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + Path("/proc/self/ns/pid").readlink().name
    except OSError:
        return None


def _started(pid: int) -> str | None:
    """When a process was started, in ticks since the kernel was (proc(5), stat, field 22); None where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def _is_alive_here(owner: dict[str, Any]) -> bool | None:
    """Whether a process of this machine is there; None where it is another machine's."""
    kernel, pid = _kernel(), owner.get("pid")
    if kernel is None or owner.get("kernel") != kernel or not isinstance(pid, int):
        return None
    return _started(pid) is not None and _started(pid) == owner.get("started")


def _named(owner: dict[str, Any]) -> str:
    """Who it is, for messages."""
    user, pid, host, since = (str(owner.get(key, "?"))[:100] for key in ("user", "pid", "host", "since"))
    return f"process {pid} of {user} on {host} (since {since})"


def _parsed(contents: bytes) -> dict[str, Any]:
    try:
        record = json.loads(contents)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _write(contents: bytes, file: BinaryIO) -> None:
    file.write(contents)
