"""What a fuzzing process tells its parent through shared memory, so that nothing is lost when it crashes: how many
inputs are done, and the one that it is at."""

import mmap
import struct
import time
from pathlib import Path
from typing import NamedTuple

_HEAD = struct.Struct("<QQdQ")  # done, accepted, when the input at hand was begun (0: none), its length
_ROOM = 1 << 21


class State(NamedTuple):
    """A moment of a fuzzing process."""

    done: int
    accepted: int
    begun: float  # `time.monotonic`, 0 between two inputs
    data: bytes


class Ledger:
    """A small mapped file of both processes."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(_ROOM))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _ROOM)
        self._done, self._accepted = _HEAD.unpack_from(self._memory)[:2]

    def begin(self, data: bytes) -> None:
        """An input is at hand."""
        held = data[: _ROOM - _HEAD.size]
        self._memory[_HEAD.size : _HEAD.size + len(held)] = held
        _HEAD.pack_into(self._memory, 0, self._done, self._accepted, time.monotonic(), len(held))

    def end(self, accepted: bool) -> None:
        """It has come to its end."""
        self._done += 1
        self._accepted += accepted
        _HEAD.pack_into(self._memory, 0, self._done, self._accepted, 0.0, 0)

    def state(self) -> State:
        """As of now."""
        done, accepted, begun, length = _HEAD.unpack_from(self._memory)
        return State(done, accepted, begun, self._memory[_HEAD.size : _HEAD.size + length])
