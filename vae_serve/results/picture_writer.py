"""What a writer of generated pictures does.

It takes pictures in any order from any thread, makes a shard out of a range of them, and the result out of all the
shards, in the job's state. Same pictures, same bytes. Memory holds no more than the shards in the making.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from vae_serve.jobs.folder import Job
from vae_serve.model.samplers import Floats
from vae_serve.sources.latents import LatentSource
from vae_serve.storage.publish import IsEarlier
from vae_serve.storage.store import Write

Bytes = npt.NDArray[np.uint8]
Files = Mapping[str, Write]  # by name in the job's folder


class PictureWriter(Protocol):
    """How pictures are kept."""

    suffix: str
    """Of a shard's file; "" where pictures are written in their place."""
    results: tuple[str, ...]
    """The file that the shards become, in the job's folder; () where they are in it already."""
    least_bytes: int
    """On disk, of the whole."""
    is_earlier: IsEarlier
    """Whether something is a result of this kind."""
    compressor: str | None
    """Of PNG files: another one gives other bytes."""

    def open(self, job: Job) -> None:
        """Readies the job's folder, in which some shards may be finished."""

    def add(self, start: int, pictures: Bytes, z: Floats) -> Any:
        """Takes pictures `start`, `start` + 1, ... (n, H, W, C) and their points (n * m, d). Threads call it."""

    def shard(self, name: str, pieces: list[Any]) -> Files:
        """A shard of what `add` gave, in order: a file of this name, or none where it is in its place and synced."""

    def detached(self) -> Self:
        """The same for another process, whose shards are files that `place` takes."""

    def place(self, start: int, files: Files) -> Files:
        """Puts the files of a shard of a `detached` writer into their places; returns those that are to be committed.
        `start` is its first picture.
        """

    def close(self) -> None:
        """After the last picture, or when the work is broken off."""

    def finish(self, job: Job, points: LatentSource) -> str:
        """Makes the result out of the shards, of all the points; its name in the job's state."""


@dataclass(frozen=True)
class Numbering:
    """How the pictures of a job, or of one machine's share of it, are numbered."""

    first: int  # the number of the first one
    count: int  # of all shares together

    def name(self, index: int) -> str:
        """The file name of picture `index`: 000000.png, wider where the count is, so that sorting keeps order."""
        return f"{self.first + index:0{max(6, len(str(self.count - 1)))}}.png"
