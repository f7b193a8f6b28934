"""Generated pictures as one array, in a .npy or .npz file."""

import copy
import io
import math
import os
import shutil
import zipfile
from typing import Any, BinaryIO, Self

import numpy as np

from vae_serve.errors import OutputError
from vae_serve.jobs.folder import Job
from vae_serve.jobs.plan import STATE
from vae_serve.model.samplers import Floats
from vae_serve.results import earlier
from vae_serve.results.picture_writer import Bytes, Files
from vae_serve.sources.latents import LatentSource
from vae_serve.storage.publish import IsEarlier

Shape = tuple[int, int, int]

_ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that the format knows: no file tells when it was made
_COPY_ROWS = 4096
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class NpyWriter:
    """One array (n, H, W, C) uint8 in a .npy file, each picture written straight to its place."""

    suffix = ""
    results: tuple[str, ...] = ()
    is_earlier: IsEarlier = staticmethod(earlier.is_array)
    compressor: str | None = None

    NAME = "pictures.npy"

    def __init__(self, pictures: int, shape: Shape) -> None:
        self._shape = (pictures, *shape)
        self._stride = math.prod(shape)
        self.least_bytes = pictures * self._stride
        self._offset = 0  # of the first picture
        self._file = -1  # none open

    def open(self, job: Job) -> None:
        """Makes the file at its full size, so that a full disk is known before the work."""
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": self._shape})
        self._offset = header.tell()
        size = self._offset + self._shape[0] * self._stride
        folder = job.local_store.folder(STATE)
        if not job.records:
            job.store.delete(f"{STATE}/{self.NAME}")
            self._file = os.open(self.NAME, _NEW, 0o666, dir_fd=folder)
            os.pwrite(self._file, header.getvalue(), 0)
            _reserve(self._file, size)
        elif job.store.exists(f"{STATE}/{self.NAME}"):
            self._file = os.open(self.NAME, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        if self._file < 0 or os.fstat(self._file).st_size != size:
            raise OutputError(f"{job.folder / STATE / self.NAME} is damaged; start again with --overwrite")

    def add(self, start: int, pictures: Bytes, z: Floats) -> bytes | None:
        """Their place is filled; the bytes themselves where no file is open."""
        if self._file < 0:
            return pictures.tobytes()
        self._write(start, memoryview(pictures.data).cast("B"))
        return None

    def _write(self, start: int, data: memoryview) -> None:
        """With pwrite: pages of a memory map would count as this process' memory."""
        at = self._offset + start * self._stride
        while data:
            written = os.pwrite(self._file, data, at)
            data, at = data[written:], at + written

    def shard(self, name: str, pieces: list[bytes | None]) -> Files:
        """Nothing to write; what was written is synced. Where no file is open, the shard's bytes."""
        parts = [piece for piece in pieces if piece is not None]
        if parts:
            return {name: lambda file: file.writelines(parts)}
        os.fsync(self._file)
        return {}

    def detached(self) -> Self:
        """Without the open file."""
        other = copy.copy(self)
        other._file = -1
        return other

    def place(self, start: int, files: Files) -> Files:
        """The bytes, into the file."""
        for write in files.values():
            contents = io.BytesIO()
            write(contents)
            self._write(start, contents.getbuffer())
            os.fsync(self._file)
        return {}

    def close(self) -> None:
        """Closes the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def finish(self, job: Job, points: LatentSource) -> str:
        """The file."""
        return self.NAME


class NpzWriter(NpyWriter):
    """A .npz file: `pictures` as in a .npy file, and `z`, their points (n * m, d) float32."""

    results: tuple[str, ...] = (f"{STATE}/pictures.npz",)
    is_earlier: IsEarlier = staticmethod(earlier.is_arrays)
    compressor: str | None = None

    def finish(self, job: Job, points: LatentSource) -> str:
        """Both arrays, copied into one archive a piece at a time."""

        def write(file: BinaryIO) -> None:
            with zipfile.ZipFile(file, "w") as archive:
                with _entry(archive, "pictures.npy") as entry, job.store.open(f"{STATE}/{self.NAME}") as opened:
                    shutil.copyfileobj(opened, entry, 1 << 20)
                with _entry(archive, "z.npy") as entry:
                    _write_points(entry, points)

        if not job.finished:
            job.put(self.results[0], write)
        job.store.delete(f"{STATE}/{self.NAME}")
        return "pictures.npz"


def _write_points(file: Any, points: LatentSource) -> None:
    count, d = points.count, points.rows(0, 1).shape[1]
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (count, d)})
    for start in range(0, count, _COPY_ROWS):
        file.write(points.rows(start, min(start + _COPY_ROWS, count)).astype("<f4").tobytes())


def _reserve(file: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):  # not on macOS
        os.posix_fallocate(file, 0, size)
    else:
        os.ftruncate(file, size)


def _entry(archive: zipfile.ZipFile, name: str) -> Any:
    return archive.open(zipfile.ZipInfo(name, _ZIP_DATE), "w", force_zip64=True)
