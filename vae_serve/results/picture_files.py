"""What generated pictures become: one .npy or .npz, a folder or .zip of PNG files, a Parquet file.

Each writer takes pictures in any order from any thread, makes a shard out of a range of them, and the result out of all
the shards, in the job's state. Same pictures, same bytes. Memory holds no more than the shards in the making.
"""

import io
import math
import os
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from vae_serve.errors import OutputError, UsageError
from vae_serve.images import png
from vae_serve.jobs.folder import Job
from vae_serve.jobs.plan import STATE
from vae_serve.model.samplers import Floats
from vae_serve.results import earlier, zips
from vae_serve.sources.latents import LatentSource
from vae_serve.storage.publish import IsEarlier
from vae_serve.storage.store import Write

Bytes = npt.NDArray[np.uint8]
Shape = tuple[int, int, int]

_ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that the format knows: no file tells when it was made
_COPY_ROWS = 4096
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


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

    def open(self, job: Job) -> None:
        """Readies the job's folder, in which some shards may be finished."""

    def add(self, start: int, pictures: Bytes, z: Floats) -> Any:
        """Takes pictures `start`, `start` + 1, ... (n, H, W, C) and their points (n * m, d). Threads call it."""

    def shard(self, pieces: list[Any]) -> Write | None:
        """What makes the shard's file of what `add` gave, in order; else makes sure that it is on the disk."""

    def close(self) -> None:
        """After the last picture, or when the work is broken off."""

    def finish(self, job: Job) -> str:
        """Makes the result out of the shards; its name in the job's state."""


@dataclass(frozen=True)
class Numbering:
    """How the pictures of a job, or of one machine's share of it, are numbered."""

    first: int  # the number of the first one
    count: int  # of all shares together

    def name(self, index: int) -> str:
        """The file name of picture `index`: 000000.png, wider where the count is, so that sorting keeps order."""
        return f"{self.first + index:0{max(6, len(str(self.count - 1)))}}.png"


def writer_for(out: Path, pictures: int, shape: Shape, points: LatentSource, numbering: Numbering) -> PictureWriter:
    """The writer that the name of the output asks for: by its suffix, or of a folder where it has none.

    Raises:
        UsageError: no such format.
    """
    match out.suffix.lower():
        case ".npy":
            return ArrayFile(pictures, shape)
        case ".npz":
            return ArraysFile(pictures, shape, points)
        case ".zip":
            return PictureZip(pictures, numbering)
        case ".parquet":
            return PictureTable(pictures, numbering)
        case "":
            return PictureFolder(pictures, numbering)
        case ".png":
            raise UsageError(f"{pictures:,} pictures are more than {out} can hold; give a folder, .zip, .npy, ...")
    raise UsageError(f"--out {out}: pictures go to a folder (no dot in its name), .zip, .npy, .npz, .parquet or .png")


class ArrayFile:
    """One array (n, H, W, C) uint8 in a .npy file, each picture written straight to its place."""

    suffix = ""
    results: tuple[str, ...] = ()
    is_earlier: IsEarlier = staticmethod(earlier.is_array)

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
        folder = job.store.folder(STATE)
        if not job.records:
            job.store.delete(f"{STATE}/{self.NAME}")
            self._file = os.open(self.NAME, _NEW, 0o666, dir_fd=folder)
            os.pwrite(self._file, header.getvalue(), 0)
            _reserve(self._file, size)
        elif job.store.exists(f"{STATE}/{self.NAME}"):
            self._file = os.open(self.NAME, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        if self._file < 0 or os.fstat(self._file).st_size != size:
            raise OutputError(f"{job.folder / STATE / self.NAME} is damaged; start again with --overwrite")

    def add(self, start: int, pictures: Bytes, z: Floats) -> None:
        """Written with pwrite: pages of a memory map would count as this process' memory."""
        data = memoryview(pictures.data).cast("B")
        at = self._offset + start * self._stride
        while data:
            written = os.pwrite(self._file, data, at)
            data, at = data[written:], at + written

    def shard(self, pieces: list[None]) -> None:
        """Nothing to write; what was written is synced."""
        os.fsync(self._file)

    def close(self) -> None:
        """Closes the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def finish(self, job: Job) -> str:
        """The file."""
        return self.NAME


class ArraysFile(ArrayFile):
    """A .npz file: `pictures` as in a .npy file, and `z`, their points (n * m, d) float32."""

    results: tuple[str, ...] = (f"{STATE}/pictures.npz",)
    is_earlier: IsEarlier = staticmethod(earlier.is_arrays)

    def __init__(self, pictures: int, shape: Shape, points: LatentSource) -> None:
        super().__init__(pictures, shape)
        self._points = points

    def finish(self, job: Job) -> str:
        """Both arrays, copied into one archive a piece at a time."""

        def write(file: BinaryIO) -> None:
            with zipfile.ZipFile(file, "w") as archive:
                with _entry(archive, "pictures.npy") as entry, job.store.open(f"{STATE}/{self.NAME}") as opened:
                    shutil.copyfileobj(opened, entry, 1 << 20)
                with _entry(archive, "z.npy") as entry:
                    self._write_points(entry)

        if not job.finished:
            job.put(self.results[0], write)
        job.store.delete(f"{STATE}/{self.NAME}")
        return "pictures.npz"

    def _write_points(self, file: Any) -> None:
        count, d = self._points.count, self._points.rows(0, 1).shape[1]
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (count, d)})
        for start in range(0, count, _COPY_ROWS):
            file.write(self._points.rows(start, min(start + _COPY_ROWS, count)).astype("<f4").tobytes())


class PictureFolder:
    """A folder of PNG files. They survive a kill; each is not synced by itself, so a power cut may cost the last."""

    suffix = ""
    results: tuple[str, ...] = ()
    is_earlier: IsEarlier = staticmethod(earlier.is_picture_folder)

    NAME = "pictures"

    def __init__(self, pictures: int, numbering: Numbering) -> None:
        self._name = numbering.name
        self._folder = -1
        self.least_bytes = pictures * png.LEAST_BYTES

    def open(self, job: Job) -> None:
        """An empty folder, or the one that an earlier run left."""
        if not job.records:
            job.store.delete_folder(f"{STATE}/{self.NAME}")
        self._folder = job.store.folder(f"{STATE}/{self.NAME}")

    def add(self, start: int, pictures: Bytes, z: Floats) -> None:
        """One file for each."""
        for index, picture in enumerate(pictures, start):
            self._write(self._name(index), png.encode(picture))

    def _write(self, name: str, contents: bytes) -> None:
        try:
            file = os.open(name, _NEW, 0o666, dir_fd=self._folder)
        except FileExistsError:  # of a run that was killed in this shard
            os.unlink(name, dir_fd=self._folder)
            file = os.open(name, _NEW, 0o666, dir_fd=self._folder)
        with os.fdopen(file, "wb", buffering=0) as opened:
            while contents:
                contents = contents[opened.write(contents) :]

    def shard(self, pieces: list[None]) -> None:
        """Nothing to write."""

    def close(self) -> None:
        """Nothing to close."""

    def finish(self, job: Job) -> str:
        """The folder."""
        return self.NAME


class PictureZip:
    """A .zip of PNG files, stored: they are compressed as it is."""

    suffix = ".records"
    results: tuple[str, ...] = (f"{STATE}/pictures.zip",)
    is_earlier: IsEarlier = staticmethod(earlier.is_zip)

    def __init__(self, pictures: int, numbering: Numbering) -> None:
        self._name = numbering.name
        self.least_bytes = pictures * png.LEAST_BYTES

    def open(self, job: Job) -> None:
        """Nothing to ready."""

    def add(self, start: int, pictures: Bytes, z: Floats) -> bytes:
        """The files' records in the archive."""
        return b"".join(
            zips.record(self._name(index), png.encode(picture)) for index, picture in enumerate(pictures, start)
        )

    def shard(self, pieces: list[bytes]) -> Write:
        """A shard is a run of records."""
        return lambda file: file.writelines(pieces)

    def close(self) -> None:
        """Nothing to close."""

    def finish(self, job: Job) -> str:
        """The shards one after another, and the archive's directory."""
        if not job.finished:
            job.put(self.results[0], lambda file: zips.write(file, lambda: (part.read() for part in job.parts())))
        job.drop_parts()
        return "pictures.zip"


class PictureTable:
    """A Parquet file: `index`, `image` (PNG bytes and name, as Hugging Face's datasets keep them), `z`."""

    suffix = ".parquet"
    results: tuple[str, ...] = (f"{STATE}/pictures.parquet",)
    is_earlier: IsEarlier = staticmethod(earlier.is_table)

    def __init__(self, pictures: int, numbering: Numbering) -> None:
        self._numbering = numbering
        self.least_bytes = pictures * png.LEAST_BYTES

    def open(self, job: Job) -> None:
        """Nothing to ready."""

    def add(self, start: int, pictures: Bytes, z: Floats) -> tuple[range, list[bytes], Floats]:
        """Indices, files and each picture's points one after another."""
        files = [png.encode(picture) for picture in pictures]
        return range(start, start + len(pictures)), files, z.reshape(len(pictures), -1)

    def shard(self, pieces: list[tuple[range, list[bytes], Floats]]) -> Write:
        """A shard is a Parquet file itself."""
        import pyarrow as pa

        from vae_serve.results import writers

        indices = [index for rows, _, _ in pieces for index in rows]
        files = pa.array([file for _, files, _ in pieces for file in files], pa.binary())
        names = pa.array([self._numbering.name(index) for index in indices], pa.string())
        columns = {
            "index": pa.array([self._numbering.first + index for index in indices], pa.int64()),
            "image": pa.StructArray.from_arrays([files, names], ["bytes", "path"]),
            "z": writers.vectors(np.concatenate([z for _, _, z in pieces])),
        }
        return lambda file: writers.write_parquet(file, columns)

    def close(self) -> None:
        """Nothing to close."""

    def finish(self, job: Job) -> str:
        """The shards as the row groups of one file."""
        from vae_serve.results import writers
        from vae_serve.sources import parquet

        if not job.finished:
            job.put(self.results[0], lambda file: writers.write_tables(file, parquet.read_tables(job.parts())))
        job.drop_parts()
        return "pictures.parquet"


def _reserve(file: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):  # not on macOS
        os.posix_fallocate(file, 0, size)
    else:
        os.ftruncate(file, size)


def _entry(archive: zipfile.ZipFile, name: str) -> Any:
    return archive.open(zipfile.ZipInfo(name, _ZIP_DATE), "w", force_zip64=True)
