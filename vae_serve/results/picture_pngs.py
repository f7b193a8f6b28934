"""Generated pictures as PNG files: in a folder, in a .zip, in a Parquet file."""

import copy
import io
import os
from typing import Self

import numpy as np

from vae_serve.images import png, png_bulk
from vae_serve.jobs.folder import Job
from vae_serve.jobs.plan import STATE
from vae_serve.model.samplers import Floats
from vae_serve.results import earlier, zips
from vae_serve.results.picture_writer import Bytes, Files, Numbering
from vae_serve.sources.latents import LatentSource
from vae_serve.storage.publish import IsEarlier

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class FolderWriter:
    """A folder of PNG files. They survive a kill; each is not synced by itself, so a power cut may cost the last."""

    suffix = ""
    results: tuple[str, ...] = ()
    is_earlier: IsEarlier = staticmethod(earlier.is_picture_folder)
    compressor: str | None = png_bulk.COMPRESSOR

    NAME = "pictures"

    def __init__(self, pictures: int, numbering: Numbering) -> None:
        self._name = numbering.name
        self._folder = -1
        self.least_bytes = pictures * png.LEAST_BYTES

    def open(self, job: Job) -> None:
        """An empty folder, or the one that an earlier run left."""
        if not job.records:
            job.store.delete_folder(f"{STATE}/{self.NAME}")
        self._folder = job.local_store.folder(f"{STATE}/{self.NAME}")

    def add(self, start: int, pictures: Bytes, z: Floats) -> dict[str, bytes]:
        """One file for each is written; their contents where no folder is open."""
        contents = dict(
            zip(map(self._name, range(start, start + len(pictures))), png_bulk.encode(pictures), strict=True)
        )
        if self._folder < 0:
            return contents
        for name, file in contents.items():
            self._write(name, file)
        return {}

    def _write(self, name: str, contents: bytes) -> None:
        try:
            file = os.open(name, _NEW, 0o666, dir_fd=self._folder)
        except FileExistsError:  # of a run that was killed in this shard
            os.unlink(name, dir_fd=self._folder)
            file = os.open(name, _NEW, 0o666, dir_fd=self._folder)
        try:
            while contents:
                contents = contents[os.write(file, contents) :]
        finally:
            os.close(file)

    def shard(self, name: str, pieces: list[dict[str, bytes]]) -> Files:
        """Nothing to write. Where no folder is open, the shard's files."""
        return {
            f"{STATE}/{self.NAME}/{name}": lambda file, contents=contents: file.write(contents)  # type: ignore[misc]
            for piece in pieces
            for name, contents in piece.items()
        }

    def detached(self) -> Self:
        """Without the open folder."""
        other = copy.copy(self)
        other._folder = -1
        return other

    def place(self, start: int, files: Files) -> Files:
        """The files, into the folder."""
        for name, write in files.items():
            contents = io.BytesIO()
            write(contents)
            self._write(name.rpartition("/")[2], contents.getvalue())
        return {}

    def close(self) -> None:
        """Nothing to close."""

    def finish(self, job: Job, points: LatentSource) -> str:
        """The folder."""
        return self.NAME


class _ShardWriter:
    """A shard is a file, which the job commits; `finish` makes one of all of them. Nothing is open meanwhile."""

    compressor: str | None = png_bulk.COMPRESSOR

    def __init__(self, pictures: int, numbering: Numbering) -> None:
        self._numbering = numbering
        self.least_bytes = pictures * png.LEAST_BYTES

    def open(self, job: Job) -> None:
        """Nothing to ready."""

    def detached(self) -> Self:
        """It has nothing open."""
        return self

    def place(self, start: int, files: Files) -> Files:
        """They are committed as they are."""
        return files

    def close(self) -> None:
        """Nothing to close."""


class ZipWriter(_ShardWriter):
    """A .zip of PNG files, stored: they are compressed as it is."""

    suffix = ".records"
    results: tuple[str, ...] = (f"{STATE}/pictures.zip",)
    is_earlier: IsEarlier = staticmethod(earlier.is_zip)

    def add(self, start: int, pictures: Bytes, z: Floats) -> bytes:
        """The files' records in the archive."""
        return b"".join(
            zips.record(self._numbering.name(index), file)
            for index, file in enumerate(png_bulk.encode(pictures), start)
        )

    def shard(self, name: str, pieces: list[bytes]) -> Files:
        """A shard is a run of records."""
        return {name: lambda file: file.writelines(pieces)}

    def finish(self, job: Job, points: LatentSource) -> str:
        """The shards one after another, and the archive's directory."""
        if not job.finished:
            job.put(self.results[0], lambda file: zips.write(file, lambda: (part.read() for part in job.parts())))
        job.drop_parts()
        return "pictures.zip"


class ParquetWriter(_ShardWriter):
    """A Parquet file: `index`, `image` (PNG bytes and name, as Hugging Face's datasets keep them), `z`."""

    suffix = ".parquet"
    results: tuple[str, ...] = (f"{STATE}/pictures.parquet",)
    is_earlier: IsEarlier = staticmethod(earlier.is_table)

    COMPRESSED = ("index", "image.path", "z.list.element")  # a PNG file is compressed as it is

    def add(self, start: int, pictures: Bytes, z: Floats) -> tuple[range, list[bytes], Floats]:
        """Indices, files and each picture's points one after another."""
        return range(start, start + len(pictures)), png_bulk.encode(pictures), z.reshape(len(pictures), -1)

    def shard(self, name: str, pieces: list[tuple[range, list[bytes], Floats]]) -> Files:
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
        return {name: lambda file: writers.write_parquet(file, columns, self.COMPRESSED)}

    def finish(self, job: Job, points: LatentSource) -> str:
        """The shards as the row groups of one file."""
        from vae_serve.results import writers
        from vae_serve.sources import parquet

        if not job.finished:
            job.put(
                self.results[0],
                lambda file: writers.write_tables(file, parquet.read_tables(job.parts()), self.COMPRESSED),
            )
        job.drop_parts()
        return "pictures.parquet"
