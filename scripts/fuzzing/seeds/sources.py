"""What pictures and latent points come in: arrays, archives, tables, lists; and earlier results."""

import io
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from fuzzing.seeds.pictures import picture


def small_png() -> bytes:
    return picture("PNG", "L")


def npy(array: "np.ndarray[Any, Any]", version: tuple[int, int] = (1, 0)) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version, allow_pickle=True)
    return file.getvalue()


def images(count: int = 3) -> "np.ndarray[Any, Any]":
    return (np.arange(count * 20, dtype=np.uint8) * 7).reshape(count, 5, 4)


def npys() -> list[bytes]:
    """Pictures as .npy: of several types, orders and versions of the format; one is a pickle."""
    return [
        npy(images()),
        npy(np.asfortranarray(images())),
        npy((images() / 255).astype(np.float32)[..., None]),
        npy((images() / 255).astype(">f8"), (2, 0)),
        npy(images(), (3, 0)),
        npy(np.array([{"a": 1}], object)),
    ]


def npz(pack: Callable[..., None], **arrays: "np.ndarray[Any, Any]") -> bytes:
    file = io.BytesIO()
    pack(file, **arrays)
    return file.getvalue()


def npzs() -> list[bytes]:
    """Pictures as .npz, with labels of several types."""
    return [
        npz(np.savez, images=images(), labels=np.arange(3)),
        npz(np.savez_compressed, x_test=images(), y_test=np.array([b"cat", b"dog", b"cat"])),
        npz(np.savez, anything=images()),
        npz(np.savez, images=images(), labels=np.array(["one", "two", "three"])),
        npz(np.savez, image=images(), label=np.array([{}, 1, None], object)),
    ]


def idxs() -> list[bytes]:
    """Pictures as MNIST's own files hold them."""
    three = struct.pack(">HBBIII", 0, 8, 3, 3, 5, 4) + images().tobytes()
    four = struct.pack(">HBBIIII", 0, 8, 4, 1, 5, 4, 3) + images().tobytes()
    return [three, four]


def zips() -> list[bytes]:
    """Zip archives as several programs write them: stored, deflated, folders first, streamed, other names, ZIP64."""

    def packed(names: Iterable[str], method: int, comment: bytes = b"", force: bool = False) -> bytes:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", method) as archive:
            for name in names:
                about = zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0))
                about.compress_type = method
                with archive.open(about, "w", force_zip64=force) as member:
                    member.write(b"" if name.endswith("/") else small_png())
            archive.comment = comment
        return file.getvalue()

    names = ["a/", "a/1.png", "b/2.png", "notes.txt", "__MACOSX/a/._1.png"]
    return [
        packed(names, zipfile.ZIP_STORED),
        packed(names, zipfile.ZIP_DEFLATED, b"a comment"),
        packed(["é/ü.png", "./c/3.png", "../4.png"], zipfile.ZIP_STORED, force=True),
        packed(["a/1.png"], zipfile.ZIP_BZIP2),
        packed(["a/1.png"], zipfile.ZIP_LZMA),
    ]


def tars() -> list[bytes]:
    """Tar archives of each dialect, with long names, links, a sparse member, pax records."""

    def packed(dialect: int, extra: bool = False) -> bytes:
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", format=dialect) as archive:
            for name in ("a", "a/1.png", "b/2.png", "./c/3.png", "notes.txt", "d" * 60 + "/" + "e" * 60 + "/4.png"):
                about = tarfile.TarInfo(name)
                if name == "a":
                    about.type = tarfile.DIRTYPE
                about.size = 0 if about.isdir() else len(small_png())
                archive.addfile(about, None if about.isdir() else io.BytesIO(small_png()))
            if extra:
                for kind, name in ((tarfile.SYMTYPE, "e/5.png"), (tarfile.LNKTYPE, "e/6.png"), (b"S", "e/7.png")):
                    about = tarfile.TarInfo(name)
                    about.type, about.linkname = kind, "a/1.png"
                    archive.addfile(about)
                about = tarfile.TarInfo("f/8.png")
                about.pax_headers = {"mtime": "1.5", "path": "f/9é.png", "comment": "x"}
                about.size = len(small_png())
                archive.addfile(about, io.BytesIO(small_png()))
        return file.getvalue()

    return [packed(tarfile.USTAR_FORMAT), packed(tarfile.GNU_FORMAT, True), packed(tarfile.PAX_FORMAT, True)]


def parquet(columns: Any, **options: Any) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = io.BytesIO()
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), file, **options)
    return file.getvalue()


_HUGGING_FACE = {
    "huggingface": '{"info": {"features": {"image": {"_type": "Image"}, "label": {"names": ["a", "b"],'
    ' "_type": "ClassLabel"}}}}'
}


def picture_tables() -> list[bytes]:
    """Parquet files of pictures: bytes, the struct of Hugging Face, labels, nulls, several row groups."""
    import pyarrow as pa

    rows = [small_png(), None, b"", small_png()]
    struct_ = pa.array([{"bytes": row, "path": "x.png"} for row in rows])
    return [
        parquet({"image": rows, "label": [1, 2, None, 3]}),
        parquet({"img": struct_, "class": ["a", "b", "a", None]}, row_group_size=2),
        parquet({"image": pa.array(rows, pa.large_binary())}, compression="none", use_dictionary=False),
        parquet({"image": rows}, compression="gzip", version="1.0", data_page_version="2.0"),
        parquet({"image": pa.array(rows, pa.binary_view())}),
        parquet(pa.table({"image": struct_, "label": [0, 1, None, 1]}).replace_schema_metadata(_HUGGING_FACE)),
    ]


def latent_tables() -> list[bytes]:
    """Parquet files of latent points: lists, fixed-size lists, nulls, a struct."""
    import pyarrow as pa

    points = [[0.5, 1.0], None, [-1.0, 2.0]]
    return [
        parquet({"z": points}),
        parquet({"z_mean": pa.array([points[0]] * 3, pa.list_(pa.float32(), 2)), "path": ["a", "b", "c"]}),
        parquet({"z": pa.array(points, pa.large_list(pa.float64()))}, compression="none"),
        parquet({"z": ["a", "b"]}),
        parquet({"z": [{"a": 1}]}),
    ]


def latent_sheets() -> list[bytes]:
    """CSV files of latent points as `embed`, pandas and spreadsheets write them."""
    return [
        b"0.5,1\n-1,2e-3\n",
        b"path,z_mean_0,z_mean_1\na.png,0.5,1\nb.png,,\n",
        b"\xef\xbb\xbfz_0;z_1\r\n1,5;2\r\n",
        b'"z_1","z_0"\n"1","2"\n',
        b",0,1\n0,0.5,0.25\n",
    ]


def latent_npys() -> list[bytes]:
    """Arrays of latent points."""
    return [npy(np.arange(6.0).reshape(3, 2)), npy(np.arange(6, dtype=np.float16).reshape(3, 2)), npy(np.ones(2))]


def latent_npzs() -> list[bytes]:
    """Arrays of latent points by name, packed and not."""
    points = np.arange(6, dtype=np.float32).reshape(3, 2)
    return [npz(np.savez, z=points), npz(np.savez_compressed, z_mean=points, z_log_var=-points)]


def lists() -> list[bytes]:
    """Lists of paths: lines, NUL-separated, with a byte order mark, UTF-16."""
    return [
        b"a/1.png\nb/2.png\n",
        b"./a/1.png\0./b/2.png\0",
        b"\xef\xbb\xbfa/1.png\r\n/x/2.png\r\n",
        "a/1.png\nb/2.png\n".encode("utf-16"),
    ]


def patterns() -> list[bytes]:
    """Patterns, below a folder."""
    return [b"*.png", b"**/*.png", b"a/**/[0-9].png", b"[[]c]/?.jpg", b"[!a]*/**"]


def earlier_results() -> list[bytes]:
    """What `generate` writes: a picture, arrays, an archive, a table; and nothing at all."""
    from vae_serve.images import png

    arrays = npz(np.savez, pictures=images(), z=np.zeros((3, 2), np.float32))
    table = parquet({"index": [0], "image": [{"bytes": b"", "path": None}], "z": [[0.5, 1.0]]})
    return [png.encode(images()[0, ..., None]), npy(images()), arrays, zips()[0], table, b""]
