"""Parsers with a fault of each kind, for the tests of the fuzzer itself.

Their limits do not make the tests depend on how busy the machine is: `seconds` are processor time, of which a sound
input takes none to speak of, and `waits` counts only while the process sleeps, which a sound one never does.
"""

import ctypes
import time

from fuzzing.targets import Target

from vae_serve.errors import SourceError

_kept: list[bytes] = []


def _refuse(data: bytes) -> None:
    if data != b"sound":
        raise SourceError("it is not sound")


def _raise(data: bytes) -> None:
    if len(data) > 5:
        raise KeyError(data[:3])


def _crash(data: bytes) -> None:
    if len(data) > 5:
        ctypes.string_at(0)


def _spin(data: bytes) -> None:
    while len(data) > 5:
        pass


def _wait(data: bytes) -> None:
    if len(data) > 5:
        time.sleep(600)


def _take(data: bytes) -> None:
    if len(data) > 5:
        _kept.append(bytes(1 << 30))


def _leave(data: bytes) -> None:
    if len(data) > 5:
        raise SystemExit(0)


def _target(name: str, run) -> Target:
    return Target(name, lambda: [b"sound"], run, seconds=0.2, waits=1.0, memory=256 << 20)


TARGETS = {
    name: _target(name, run)
    for name, run in {
        "sound": _refuse, "raises": _raise, "crashes": _crash, "spins": _spin, "waits": _wait, "takes": _take,
        "leaves": _leave,
    }.items()
}  # fmt: skip
