"""The arrays of an .npz file of a run, read from its bytes. Nothing is unpickled, or allocated by its word."""

import io
import zipfile
from typing import Any

import numpy as np
import numpy.typing as npt

from vae_serve.errors import RunError
from vae_serve.sources.npy import LONGEST_HEADER, parse_header


def arrays(contents: bytes, limit: int, where: object) -> dict[str, npt.NDArray[Any]]:
    """The arrays by name, in the file's order; together they have at most `limit` bytes.

    Raises:
        RunError: it is no such file, damaged, or larger; `where` names it.
    """
    by_name: dict[str, npt.NDArray[Any]] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(contents)) as members:
            size = sum(member.file_size for member in members.infolist())
            if size > limit:
                raise ValueError(f"it unpacks to {size:,} bytes; more than {limit:,} are not read")
            for member in members.infolist():
                data = members.read(member)
                header = parse_header(data[:LONGEST_HEADER], member.filename)
                if header.data_bytes != len(data) - header.size:
                    raise ValueError(f"{member.filename} is not as long as its shape {header.shape}")
                flat = np.frombuffer(data, header.dtype, offset=header.size)
                array = flat.reshape(header.shape, order="F" if header.is_fortran else "C")
                by_name[member.filename.removesuffix(".npy")] = array
    except Exception as error:  # zip and the unpackers each raise their own kinds
        raise RunError(f"{where} cannot be read: {error}") from error
    return by_name
