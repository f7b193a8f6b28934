"""Arrays in .npy files: their header by an own reader, their data by position.

The format is NumPy Enhancement Proposal 1, versions 1.0 to 3.0. NumPy's own reader evaluates the header as Python and
allocates what it says.
"""

import math
import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from vae_serve.errors import SourceError
from vae_serve.sources.readable import LocalFile, Readable, fill, read_at
from vae_serve.sources.regular import file_stamp, regular_file

Array = npt.NDArray[Any]

MAGIC = b"\x93NUMPY"
LONGEST_HEADER = 1 << 16  # bytes, the magic included; arrays of numbers need less than 200

_SIZES = {1: 2, 2: 4, 3: 4}  # bytes of the header's length, by the format's major version
_ITEM = re.compile(
    r"""\s*(['"])(\w+)\1\s*:\s*(?:(['"])(?P<text>[^'"\\]*)\3|(?P<flag>True|False)|\((?P<sizes>[\dL,\s]*)\))\s*""",
    re.ASCII,
)
_NUMBERS_OR_TEXT = re.compile(r"[<>|=]?[biufSU]\d{1,9}", re.ASCII)
_MOST_DIMENSIONS = 64


class Header(msgspec.Struct, frozen=True):
    """What a .npy file holds."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    is_fortran: bool  # the first axis varies fastest
    size: int  # bytes of the header itself

    @property
    def data_bytes(self) -> int:
        """Bytes of the array, exact however large the shape claims to be."""
        return math.prod(self.shape) * self.dtype.itemsize


def parse_header(data: bytes, where: object) -> Header:
    """The header at the beginning of a file, of which the first LONGEST_HEADER bytes are enough.

    Raises:
        SourceError: it is damaged, or tells of anything but an array of numbers or of text.
    """
    length_size = _SIZES.get(data[6], 0) if len(data) > 7 and data.startswith(MAGIC) else 0
    begin = 8 + length_size
    stop = begin + int.from_bytes(data[8:begin], "little")
    if not length_size or stop > min(len(data), LONGEST_HEADER):
        raise SourceError(f"{where} cannot be read as .npy: its header is damaged or cut short")
    text = data[begin:stop].decode("utf-8" if data[6] == 3 else "latin-1", "replace")
    if re.search(r"""['"]descr['"]\s*:\s*\[""", text):
        raise SourceError(f"{where} cannot be read: it holds records of several fields; save one array of numbers")
    items = _items(text)
    if items is None or set(items) != {"descr", "fortran_order", "shape"}:
        raise SourceError(f"{where} cannot be read as .npy: its header is {_short(text)}")
    descr, shape = items["descr"]["text"], items["shape"]["sizes"]
    is_fortran = items["fortran_order"]["flag"]
    if descr is None or shape is None or is_fortran is None:
        raise SourceError(f"{where} cannot be read as .npy: its header is {_short(text)}")
    return Header(_dtype(descr, where), _shape(shape, where), is_fortran == "True", stop)


def _items(text: str) -> dict[str, dict[str, str | None]] | None:
    """The header's entries by name; None where it is not a dictionary of them, each once."""
    text = text.strip()
    if not text.startswith("{") or not text.endswith("}"):
        return None
    items: dict[str, dict[str, str | None]] = {}
    at, end = 1, len(text) - 1
    while text[at:end].strip():
        item = _ITEM.match(text, at, end)
        if not item or item[2] in items or text[item.end()] not in ",}":
            return None
        items[item[2]] = item.groupdict()
        at = min(item.end() + 1, end)
    return items


def _dtype(descr: str, where: object) -> np.dtype[Any]:
    if re.fullmatch(r"[<>|=]?O\d*", descr):
        raise SourceError(
            f"{where} cannot be read: it holds Python objects, which are never unpickled; save numbers, or text with "
            "astype(str)"
        )
    try:
        if _NUMBERS_OR_TEXT.fullmatch(descr):
            return np.dtype(descr)
    except (TypeError, ValueError, OverflowError):
        pass
    raise SourceError(f"{where} cannot be read: its type {_short(descr)} is none of numbers or text")


def _shape(text: str, where: object) -> tuple[int, ...]:
    sizes = [size.strip().removesuffix("L") for size in text.split(",")]  # Python 2 wrote (3L, 4L)
    if sizes[-1] == "":
        sizes.pop()
    if len(sizes) > _MOST_DIMENSIONS or not all(re.fullmatch(r"\d{1,18}", size, re.ASCII) for size in sizes):
        raise SourceError(f"{where} cannot be read as .npy: its shape is ({_short(text)})")
    return tuple(int(size) for size in sizes)


def _short(text: str) -> str:
    return repr(text if len(text) <= 100 else text[:100] + "...")


class ArrayFile:
    """An array (n, ...) within an open file, of which rows are read: mapped pages would count as memory."""

    def __init__(self, file: Readable, offset: int, header: Header, where: object) -> None:
        """The array begins at `offset`; the file stays open for as long as this does.

        Raises:
            SourceError: the file is shorter than that.
        """
        self.dtype, self.shape, self.ndim = header.dtype, header.shape, len(header.shape)
        self.is_fortran = header.is_fortran and self.ndim > 1
        self.header, self._offset, self._where = header, offset, where
        held = file.size - offset
        self.extra = held - header.data_bytes  # bytes that follow the array
        if self.extra < 0:
            raise SourceError(
                f"{where} is cut short: it declares {self.shape}, {header.data_bytes:,} bytes, and holds {held:,}"
            )
        self._file = file.kept()

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, rows: range, room: Array) -> None:
        """Some neighbouring rows into an array (rows, ...) in C order.

        Raises:
            SourceError: the file has been cut short since.
        """
        if self.is_fortran:
            whole = self._read_columns(rows, room)
        else:
            whole = fill(room, self._file, self._offset + rows.start * (room.nbytes // len(rows)))
        if not whole:
            raise SourceError(f"{self._where} was cut short while it was read")

    def __getitem__(self, rows: slice) -> Array:
        """Some neighbouring rows, (rows, ...); raises SourceError where there is nothing in any."""
        if 0 in self.shape:
            raise SourceError(f"{self._where} holds nothing: its shape is {self.shape}")
        start, stop, _ = rows.indices(len(self))
        room = np.empty((max(stop - start, 0), *self.shape[1:]), self.dtype)
        if room.size:
            self.read(range(start, stop), room)
        return room

    def _read_columns(self, rows: range, room: Array) -> bool:
        """In Fortran order each element of a row lies n elements after the one before it."""
        count, size = len(self), self.dtype.itemsize
        column = np.empty(len(rows), self.dtype)
        flat = room.reshape(len(rows), -1)
        # the columns of `flat` count the last axis fastest, the file the second one
        order = np.arange(flat.shape[1]).reshape(self.shape[1:]).reshape(-1, order="F")
        for number, place in enumerate(order.tolist()):
            if not fill(column, self._file, self._offset + (number * count + rows.start) * size):
                return False
            flat[:, place] = column
        return True


def open_array(path: Path) -> tuple[ArrayFile, tuple[int, int]]:
    """The array of a .npy file, and the file's stamp.

    Raises:
        SourceError: it is none, is damaged or cut short, or other data follow the array.
    """
    with regular_file(path) as descriptor:
        return array_in(LocalFile(descriptor), path), file_stamp(descriptor)


def array_in(file: Readable, where: object) -> ArrayFile:
    """The array of an open .npy file. Raises SourceError as `open_array` does."""
    header = parse_header(read_at(file, LONGEST_HEADER, 0), where)
    array = ArrayFile(file, header.size, header, where)
    if array.extra:
        raise SourceError(f"{where} has {array.extra:,} bytes after its array {header.shape}; save one array a file")
    return array
