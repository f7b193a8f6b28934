"""Pieces in any order to whole shards."""

import threading
from collections.abc import Callable, Sequence
from typing import Generic

from vae_serve.jobs.plan import Shard
from vae_serve.jobs.task import PieceT


class ShardAssembler(Generic[PieceT]):
    """Where threads bring their pieces; `on_full` is told of each shard that has all of its own."""

    def __init__(self, missing: Sequence[Shard], on_full: Callable[[Shard, list[PieceT]], None]) -> None:
        self.rows_done = self.failed = 0
        self._missing, self._on_full = missing, on_full
        self._open: dict[int, tuple[Shard, list[PieceT], int]] = {}  # by number; rows yet to come
        self._lock = threading.Lock()

    def add(self, piece: PieceT) -> None:
        """One piece."""
        with self._lock:
            shard, pieces, waiting = self._open_for(piece.rows.start)
            pieces.append(piece)
            waiting -= len(piece.rows)
            self._open[shard.number] = (shard, pieces, waiting)
            self.rows_done += len(piece.rows)
            self.failed += piece.failed
            if not waiting:
                del self._open[shard.number]
                self._on_full(shard, sorted(pieces, key=lambda piece: piece.rows.start))

    def _open_for(self, row: int) -> tuple[Shard, list[PieceT], int]:
        for entry in self._open.values():
            if entry[0].start <= row < entry[0].stop:
                return entry
        shard = next(shard for shard in self._missing if shard.start <= row < shard.stop)
        return shard, [], len(shard)
