"""What generated pictures become: one .npy or .npz, a folder or .zip of PNG files, a Parquet file."""

from pathlib import Path

from vae_serve.errors import UsageError
from vae_serve.results.picture_arrays import NpyWriter, NpzWriter, Shape
from vae_serve.results.picture_pngs import FolderWriter, ParquetWriter, ZipWriter
from vae_serve.results.picture_writer import Numbering, PictureWriter


def writer_for(out: Path, pictures: int, shape: Shape, numbering: Numbering) -> PictureWriter:
    """The writer that the name of the output asks for: by its suffix, or of a folder where it has none.

    Raises:
        UsageError: no such format.
    """
    match out.suffix.lower():
        case ".npy":
            return NpyWriter(pictures, shape)
        case ".npz":
            return NpzWriter(pictures, shape)
        case ".zip":
            return ZipWriter(pictures, numbering)
        case ".parquet":
            return ParquetWriter(pictures, numbering)
        case "":
            return FolderWriter(pictures, numbering)
        case ".png":
            raise UsageError(
                f"{pictures:,} pictures are more than {out} can hold; give a folder, .zip, .npy, ... For one sheet of "
                "N x N samples give --grid N --count 1"
            )
    raise UsageError(f"--out {out}: pictures go to a folder (no dot in its name), .zip, .npy, .npz, .parquet or .png")
