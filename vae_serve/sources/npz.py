"""Arrays in .npz files: a zip archive of .npy files, each read without trusting what it declares."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from vae_serve.errors import ImageError, SourceError
from vae_serve.sources.members import Place
from vae_serve.sources.npy import LONGEST_HEADER, ArrayFile, Header, parse_header
from vae_serve.sources.readable import LocalFile
from vae_serve.sources.regular import file_stamp, open_regular
from vae_serve.sources.unpacking import bomb, spool, unpacked_limit
from vae_serve.sources.zip_directory import STORED, entries, member_blocks, stored_at

Array = npt.NDArray[Any]

IN_MEMORY = 1 << 26  # bytes; a larger compressed array is unpacked into a temporary file


@dataclass(frozen=True)
class _Member:
    place: Place
    header: Header | SourceError
    """Or why there is none that can be read."""


class NpzFile:
    """The arrays of an open .npz file, by name."""

    def __init__(self, path: Path) -> None:
        """Reads all headers.

        Raises:
            SourceError: it is not an .npz file, or damaged.
        """
        self.path = path
        self._descriptor = open_regular(path)
        self._file = LocalFile(self._descriptor)
        try:
            self.stamp = file_stamp(self._descriptor)
            self._limit = unpacked_limit(self.stamp[0])
            self._members: dict[str, _Member] = {}
            for entry in entries(self._file, path):
                name = os.fsdecode(entry.name)
                if not name.endswith(".npy"):
                    continue
                name = name.removesuffix(".npy")
                if name in self._members:
                    raise SourceError(f"{path} holds two arrays called {name!r}; which is meant cannot be told")
                if entry.failure:
                    raise SourceError(f"{path}:{name} cannot be read: {entry.failure.message}")
                self._members[name] = _Member(entry.place, self._header(name, entry.place))
        except OSError as error:
            os.close(self._descriptor)
            raise SourceError(f"{path} cannot be read: {error.strerror or error}") from error
        except BaseException:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> "NpzFile":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._descriptor)
        if isinstance(error, OSError):
            raise SourceError(f"{self.path} cannot be read: {error.strerror or error}") from error

    @property
    def names(self) -> list[str]:
        """What its arrays are called."""
        return list(self._members)

    def dimensions(self, name: str) -> int:
        """How many axes an array has; -1 where it cannot be read."""
        header = self._members[name].header
        return -1 if isinstance(header, SourceError) else len(header.shape)

    def load(self, name: str) -> Array | ArrayFile:
        """An array, its check sum verified: in memory, or in a file where it is stored as it is or large.

        Raises:
            SourceError: it is damaged, unpacks to more than the limit or than it declares, or is of a type that is not
                read.
        """
        place, header = self._members[name].place, self._members[name].header
        where = f"{self.path}:{name}"
        if isinstance(header, SourceError):
            raise header
        if not header.data_bytes:
            raise SourceError(f"{where} holds nothing: its shape is {header.shape}")
        if place.size != header.size + header.data_bytes:
            raise SourceError(
                f"{where} is damaged: its shape {header.shape} takes {header.data_bytes:,} bytes, and it has "
                f"{place.size - header.size:,}"
            )
        if place.method != STORED and place.size > self._limit:
            raise bomb(where, self._limit)
        try:
            if place.method == STORED:
                for _ in member_blocks(self._file, place):
                    pass
                return ArrayFile(self._file, stored_at(self._file, place) + header.size, header, where)
            blocks = member_blocks(self._file, place)
            if place.size <= IN_MEMORY:
                data = b"".join(blocks)
                flat: Array = np.frombuffer(data, header.dtype, offset=header.size)
                return flat.reshape(header.shape, order="F" if header.is_fortran else "C")
            return self._spooled(blocks, header, where)
        except ImageError as error:
            raise SourceError(f"{where} cannot be read: {error}") from error

    def _spooled(self, blocks: Iterator[bytes], header: Header, where: str) -> ArrayFile:
        file = spool(blocks, self.path)
        try:
            return ArrayFile(LocalFile(file), header.size, header, where)
        finally:
            os.close(file)

    def _header(self, name: str, place: Place) -> Header | SourceError:
        try:
            data = b""
            for block in member_blocks(self._file, place):
                data += block[: LONGEST_HEADER - len(data)]
                if len(data) == LONGEST_HEADER:
                    break
            return parse_header(data, f"{self.path}:{name}")
        except ImageError as error:
            return SourceError(f"{self.path}:{name} cannot be read: {error}")
        except SourceError as error:
            return error
