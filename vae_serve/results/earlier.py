"""Whether what has a result's name already is an earlier result of the same kind: only such a one is ever replaced.

Told by the first bytes and the names that our own writers give. An empty file or folder has nothing to lose.
"""

import re
import stat
import struct
from pathlib import Path

_PNG = re.compile(rb"\x89PNG\r\n\x1a\n\0\0\0\rIHDR.{21}IDAT", re.DOTALL)  # no other chunk: as `png.encode` has it
_ARRAY = re.compile(rb"\x93NUMPY\x01\x00..\{'descr': '\|u1', 'fortran_order': False", re.DOTALL)
_PICTURE = re.compile(r"\d{6,}\.png")
_SHEET = re.compile(r"sheet-\d{5,}\.png")
_LOCAL = struct.Struct("<IHHHHHIIIHH")  # a zip archive's header of a member, APPNOTE 4.3.7
_HEAD = 4096  # bytes
_TAIL = 1 << 16

ERRORS = "errors.parquet"


def is_picture(path: Path) -> bool:
    """A PNG file as `png.encode` writes them."""
    return _is_file(path) and _begins(path, _PNG)


def is_array(path: Path) -> bool:
    """A .npy file of pictures (n, H, W, C) uint8."""
    return _is_file(path) and _begins(path, _ARRAY)


def is_arrays(path: Path) -> bool:
    """A .npz file that begins with `pictures`."""
    return _is_file(path) and _first_member(path) in {None, "pictures.npy"}


def is_zip(path: Path) -> bool:
    """A .zip of numbered PNG files."""
    name = _first_member(path) if _is_file(path) else ""
    return name is None or bool(_PICTURE.fullmatch(name))


def is_table(path: Path) -> bool:
    """A Parquet file with the columns `index`, `image` and `z`."""
    if not _is_file(path):
        return False
    with path.open("rb") as file:
        head = file.read(4)
        file.seek(max(0, path.stat().st_size - _TAIL))
        tail = file.read()
    return not head or (head == b"PAR1" and all(name in tail for name in (b"index", b"image", b"bytes")))


def is_picture_folder(path: Path) -> bool:
    """Nothing but numbered PNG files; the first and the last are looked into."""
    names = _names(path)
    if names is None or not all(map(_PICTURE.fullmatch, names)):
        return False
    return all(is_picture(path / name) for name in {*names[:1], *names[-1:]})


def is_reconstruction(path: Path) -> bool:
    """Nothing but sheets and the table of errors."""
    names = _names(path)
    if names is None or not all(name == ERRORS or _SHEET.fullmatch(name) for name in names):
        return False
    return not names or (ERRORS in names and all(is_picture(path / name) for name in names[1:2]))


def _names(path: Path) -> list[str] | None:
    return sorted(entry.name for entry in path.iterdir()) if stat.S_ISDIR(path.lstat().st_mode) else None


def _is_file(path: Path) -> bool:
    return stat.S_ISREG(path.lstat().st_mode)


def _begins(path: Path, pattern: re.Pattern[bytes]) -> bool:
    with path.open("rb") as file:
        head = file.read(_HEAD)
    return not head or bool(pattern.match(head))


def _first_member(path: Path) -> str | None:
    """The name of a zip archive's first member; "" where it is not an archive, None where it is an empty file."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head:
        return None
    if len(head) < _LOCAL.size or not head.startswith(b"PK\3\4"):
        return ""
    length = _LOCAL.unpack_from(head)[9]
    return head[_LOCAL.size : _LOCAL.size + length].decode("ascii", "replace")
