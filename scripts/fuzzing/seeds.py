"""Small valid inputs for each parser, made by code, the same bytes every time."""

import bz2
import gzip
import io
import json
import lzma
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "exports" / "mnist"


def _pixels(mode: str, width: int = 9, height: int = 7) -> Image.Image:
    channels = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}[mode]
    levels = np.arange(height * width * channels, dtype=np.uint32) * 37 % 251
    return Image.frombytes(mode, (width, height), levels.astype(np.uint8).tobytes())


def picture(kind: str, mode: str = "L", **options: Any) -> bytes:
    """An encoded picture of 9 x 7 pixels."""
    file = io.BytesIO()
    image = _pixels("RGB" if mode in {"P", "1"} else mode)
    image.convert(mode).save(file, kind, **options)
    return file.getvalue()


def _deep(kind: str, dtype: str, scale: float = 800.0) -> bytes:
    file = io.BytesIO()
    Image.fromarray((np.arange(63).reshape(7, 9) * scale).astype(dtype)).save(file, kind)
    return file.getvalue()


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010E] = "a description"
    return exif


def pngs() -> list[bytes]:
    """PNG of every colour type, with the ancillary chunks that a decoder heeds."""
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    text.add_text("Comment", "plain")
    text.add_text("Long", "packed " * 50, zip=True)
    text.add_itxt("Title", "title", "en", "Titel")
    return [
        *(picture("PNG", mode) for mode in ("L", "LA", "RGB", "RGBA", "P", "1")),
        picture("PNG", "L", transparency=3),
        picture("PNG", "P", transparency=b"\0\x80\xff"),
        picture("PNG", "RGB", exif=_exif(6), icc_profile=b"\0" * 128, pnginfo=text, dpi=(72, 72)),
        picture("PNG", "RGB", save_all=True, append_images=[_pixels("RGB")]),
        _deep("PNG", "uint16"),
    ]


def jpegs() -> list[bytes]:
    """JPEG: baseline, progressive, grey, CMYK, with EXIF, a comment and an ICC profile."""
    return [
        picture("JPEG", "RGB"),
        picture("JPEG", "L", progressive=True),
        picture("JPEG", "CMYK"),
        picture("JPEG", "RGB", exif=_exif(3), icc_profile=b"\0" * 128, comment=b"a comment"),
    ]


def tiffs() -> list[bytes]:
    """TIFF: of several depths and ways of packing, with a second page and an orientation."""
    return [
        picture("TIFF", "L"),
        picture("TIFF", "RGBA", compression="tiff_lzw"),
        picture("TIFF", "P", compression="tiff_adobe_deflate"),
        picture("TIFF", "1", compression="group4"),
        picture("TIFF", "RGB", compression="jpeg"),
        picture("TIFF", "L", compression="packbits", save_all=True, append_images=[_pixels("L")]),
        picture("TIFF", "L", tiffinfo={0x0112: 6}),
        _deep("TIFF", "uint16"),
        _deep("TIFF", "int32"),
        _deep("TIFF", "float32", 1 / 64),
    ]


def gifs() -> list[bytes]:
    """GIF: one frame, several, transparent."""
    return [
        picture("GIF", "L"),
        picture("GIF", "P", transparency=2, comment=b"a comment"),
        picture("GIF", "RGB", save_all=True, append_images=[_pixels("RGB")], duration=40, loop=0),
    ]


def bmps() -> list[bytes]:
    """BMP of several depths."""
    return [picture("BMP", mode) for mode in ("1", "L", "P", "RGB", "RGBA")]


def webps() -> list[bytes]:
    """WebP: lossy, lossless, animated, with EXIF."""
    return [
        picture("WEBP", "RGB"),
        picture("WEBP", "RGBA", lossless=True),
        picture("WEBP", "RGB", exif=_exif(8), icc_profile=b"\0" * 128),
        picture("WEBP", "RGB", save_all=True, append_images=[_pixels("RGB")]),
    ]


def avifs() -> list[bytes]:
    """AVIF: opaque and transparent; none where Pillow has no such codec."""
    from PIL import features

    return [picture("AVIF", mode, speed=10) for mode in ("RGB", "RGBA")] if features.check("avif") else []


def ppms() -> list[bytes]:
    """PPM, PGM and PBM, binary and plain text, of 8 and 16 bits, and PFM."""
    plain = [b"P3\n# comment\n2 2\n255\n1 2 3 4 5 6 7 8 9 10 11 12\n", b"P2 2 2 15 1 2 3 4\n", b"P1 2 2 0 1 1 0\n"]
    floats = b"Pf\n2 2\n-1.0\n" + struct.pack("<4f", 0, 0.25, 0.5, 1)
    deep = b"P5 2 2 65535\n" + struct.pack(">4H", 0, 1, 256, 65535)
    return [picture("PPM", "RGB"), picture("PPM", "L"), picture("PPM", "1"), *plain, floats, deep]


def _png() -> bytes:
    return picture("PNG", "L")


def _npy(array: "np.ndarray[Any, Any]", version: tuple[int, int] = (1, 0)) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version, allow_pickle=True)
    return file.getvalue()


def _images(count: int = 3) -> "np.ndarray[Any, Any]":
    return (np.arange(count * 20, dtype=np.uint8) * 7).reshape(count, 5, 4)


def npys() -> list[bytes]:
    """Pictures as .npy: of several types, orders and versions of the format; one is a pickle."""
    return [
        _npy(_images()),
        _npy(np.asfortranarray(_images())),
        _npy((_images() / 255).astype(np.float32)[..., None]),
        _npy((_images() / 255).astype(">f8"), (2, 0)),
        _npy(_images(), (3, 0)),
        _npy(np.array([{"a": 1}], object)),
    ]


def _npz(pack: Callable[..., None], **arrays: "np.ndarray[Any, Any]") -> bytes:
    file = io.BytesIO()
    pack(file, **arrays)
    return file.getvalue()


def npzs() -> list[bytes]:
    """Pictures as .npz, with labels of several types."""
    return [
        _npz(np.savez, images=_images(), labels=np.arange(3)),
        _npz(np.savez_compressed, x_test=_images(), y_test=np.array([b"cat", b"dog", b"cat"])),
        _npz(np.savez, anything=_images()),
        _npz(np.savez, images=_images(), labels=np.array(["one", "two", "three"])),
        _npz(np.savez, image=_images(), label=np.array([{}, 1, None], object)),
    ]


def idxs() -> list[bytes]:
    """Pictures as MNIST's own files hold them."""
    three = struct.pack(">HBBIII", 0, 8, 3, 3, 5, 4) + _images().tobytes()
    four = struct.pack(">HBBIIII", 0, 8, 4, 1, 5, 4, 3) + _images().tobytes()
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
                    member.write(b"" if name.endswith("/") else _png())
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
                about.size = 0 if about.isdir() else len(_png())
                archive.addfile(about, None if about.isdir() else io.BytesIO(_png()))
            if extra:
                for kind, name in ((tarfile.SYMTYPE, "e/5.png"), (tarfile.LNKTYPE, "e/6.png"), (b"S", "e/7.png")):
                    about = tarfile.TarInfo(name)
                    about.type, about.linkname = kind, "a/1.png"
                    archive.addfile(about)
                about = tarfile.TarInfo("f/8.png")
                about.pax_headers = {"mtime": "1.5", "path": "f/9é.png", "comment": "x"}
                about.size = len(_png())
                archive.addfile(about, io.BytesIO(_png()))
        return file.getvalue()

    return [packed(tarfile.USTAR_FORMAT), packed(tarfile.GNU_FORMAT, True), packed(tarfile.PAX_FORMAT, True)]


def packed(contents: Iterable[bytes], how: Callable[[bytes], bytes]) -> list[bytes]:
    """Each compressed."""
    return [how(data) for data in contents]


def gz(data: bytes) -> bytes:
    """gzip, without the time."""
    return gzip.compress(data, mtime=0)


def xz(data: bytes) -> bytes:
    """xz, of the smallest dictionary: the default reserves 8 MiB for each input."""
    return lzma.compress(data, preset=0)


def bz2_(data: bytes) -> bytes:
    """bzip2 of the smallest block."""
    return bz2.compress(data, 1)


def _parquet(columns: Any, **options: Any) -> bytes:
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

    rows = [_png(), None, b"", _png()]
    struct_ = pa.array([{"bytes": row, "path": "x.png"} for row in rows])
    return [
        _parquet({"image": rows, "label": [1, 2, None, 3]}),
        _parquet({"img": struct_, "class": ["a", "b", "a", None]}, row_group_size=2),
        _parquet({"image": pa.array(rows, pa.large_binary())}, compression="none", use_dictionary=False),
        _parquet({"image": rows}, compression="gzip", version="1.0", data_page_version="2.0"),
        _parquet({"image": pa.array(rows, pa.binary_view())}),
        _parquet(pa.table({"image": struct_, "label": [0, 1, None, 1]}).replace_schema_metadata(_HUGGING_FACE)),
    ]


def latent_tables() -> list[bytes]:
    """Parquet files of latent points: lists, fixed-size lists, nulls, a struct."""
    import pyarrow as pa

    points = [[0.5, 1.0], None, [-1.0, 2.0]]
    return [
        _parquet({"z": points}),
        _parquet({"z_mean": pa.array([points[0]] * 3, pa.list_(pa.float32(), 2)), "path": ["a", "b", "c"]}),
        _parquet({"z": pa.array(points, pa.large_list(pa.float64()))}, compression="none"),
        _parquet({"z": ["a", "b"]}),
        _parquet({"z": [{"a": 1}]}),
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
    return [_npy(np.arange(6.0).reshape(3, 2)), _npy(np.arange(6, dtype=np.float16).reshape(3, 2)), _npy(np.ones(2))]


def latent_npzs() -> list[bytes]:
    """Arrays of latent points by name, packed and not."""
    points = np.arange(6, dtype=np.float32).reshape(3, 2)
    return [_npz(np.savez, z=points), _npz(np.savez_compressed, z_mean=points, z_log_var=-points)]


def lists() -> list[bytes]:
    """Lists of paths: lines, NUL-separated, with a byte order mark, UTF-16."""
    return [
        b"a/1.png\nb/2.png\n",
        b"./a/1.png\0./b/2.png\0",
        b"\xef\xbb\xbfa/1.png\r\n/x/2.png\r\n",
        "a/1.png\nb/2.png\n".encode("utf-16"),
    ]


def configs() -> list[bytes]:
    """Configurations of `train`."""
    return [
        b'data = "mnist"\narch = "conv"\nlatent-dim = 2\nepochs = 12\nbeta = 1.0\nseed = 3\n',
        b'# comment\nimage_size = "28x28"\nclip_norm = 5\nprecision = "bfloat16"\n[table]\na = [1, 2.5, 2020-01-01]\n',
        b"validation_split = 0.2\nbatch_size = 0x80\n",
    ]


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1).encode()


def manifests() -> list[bytes]:
    """The manifest of the packaged model, whole, and one of each kind of wrong value."""
    whole = (BUNDLE / "manifest.json").read_bytes()
    record = json.loads(whole)
    variants = [{**record, "pixels": {**record["pixels"], "height": 60_000}}, {**record, "parity": {"reports": [{}]}}]
    return [whole, _json(_schema_1(record)), *map(_json, variants)]


def _schema_1(record: dict[str, Any]) -> dict[str, Any]:
    """The same as version 0.1 wrote it, which had no encoder of bytes beside that of floats."""
    graphs = [graph for graph in record["graphs"] if graph["variant"] == "float32"]
    old = {name: value for name, value in record.items() if name not in ("graphs", "signature_pixels")}
    old |= {graph["role"]: {name: graph[name] for name in ("file", "inputs", "outputs")} for graph in graphs}
    old["files"] = [entry for entry in record["files"] if entry["path"] != "encoder.uint8.onnx"]
    return {**old, "schema_version": 1}


def run_records() -> list[bytes]:
    """A run.json."""
    from dataclasses import asdict

    from vae_serve.training.config import Config

    config = {**asdict(Config()), "image_shape": [28, 28, 1]}
    record = {
        "schema_version": 1,
        "name": "small",
        "status": "finished",
        "command": "vae-serve train",
        "config": config,
        "recipe": {"name": "best", "phases": [{"epochs": 12, "rate": 0.004}]},
        "data": {"name": "mnist", "licence": "CC BY-SA 3.0", "test_count": 10_000, "sha256": "0" * 64},
        "pixels": {"height": 28, "width": 28, "channels": 1},
        "parameters": {"encoder": 17_208, "decoder": 9_137},
        "code": {"version": "0.1.0", "sha256": "0" * 64},
        "versions": {"keras": "3.15.1"},
        "gate": {"images": 64, "sha256": "0" * 64},
        "metrics": {"test": {"negative_elbo": 146.8, "reconstruction": 140.0, "kl": 6.8}},
    }
    return [_json(record), _json({**record, "status": "running", "metrics": {}})]


def histories() -> list[bytes]:
    """A run's history.csv."""
    return [b"epoch,loss,kl,val_loss\n1,200.5,5.25,\n2,190,6,195.5\n", b'"epoch"\n"1"\n']


def job_record() -> bytes:
    """A finished shard's record, as `reconstruct` writes it."""
    worst = {"path": "b.png", "reconstruction": 90.5}
    figures = {"mse": [0.25], "reconstruction": [180.5], "begun_ns": 1, "lengths_sha256": "0" * 64}
    return _json({"rows": 2, "failed": 0, **figures, "worst": worst})


def checkpoint_arrays() -> list[bytes]:
    """A checkpoint: weights, counters, the random state."""
    weights, state = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4), np.array([1, 2], np.uint32)
    arrays: dict[str, Any] = {"0000": weights, "0001": np.array(7, np.int64), "0002": state}
    return [_npz(np.savez, **arrays)]


def gate_images() -> list[bytes]:
    """The images that an export compares on, packed as a run has them, and not."""
    return [_npz(np.savez_compressed, images=_images()[..., None]), _npz(np.savez, images=_images()[..., None])]


def earlier_results() -> list[bytes]:
    """What `generate` writes: a picture, arrays, an archive, a table; and nothing at all."""
    from vae_serve.images import png

    arrays = _npz(np.savez, pictures=_images(), z=np.zeros((3, 2), np.float32))
    table = _parquet({"index": [0], "image": [{"bytes": b"", "path": None}], "z": [[0.5, 1.0]]})
    return [png.encode(_images()[0, ..., None]), _npy(_images()), arrays, zips()[0], table, b""]


def orientations() -> list[bytes]:
    """EXIF of both byte orders, with and without its header, and XMP."""
    exif = _exif(6).tobytes()
    big = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 8, 0, 0)
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="3"/></x:xmpmeta>'
    return [exif, exif.removeprefix(b"Exif\0\0"), big, xmp]


def patterns() -> list[bytes]:
    """Patterns, below a folder."""
    return [b"*.png", b"**/*.png", b"a/**/[0-9].png", b"[[]c]/?.jpg", b"[!a]*/**"]


def checkpoint_notes() -> list[bytes]:
    """The note beside a checkpoint."""
    return [_json({"sha256": "0" * 64, "epoch": 1, "step": 3, "total": 375, "history": [{"loss": 200.5}]})]


def onnx_graphs() -> list[bytes]:
    """The packaged graphs with their weights, and the smallest graph that a bundle can hold."""
    return [onnx_small(), (BUNDLE / "encoder.onnx").read_bytes(), (BUNDLE / "decoder.onnx").read_bytes()]


def _varint(number: int) -> bytes:
    data = bytearray()
    while number > 127:
        data.append(number & 127 | 128)
        number >>= 7
    return bytes([*data, number])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value & (1 << 64) - 1)


def _part(field: int, *data: bytes | str) -> bytes:
    whole = b"".join(part.encode() if isinstance(part, str) else part for part in data)
    return _varint(field << 3 | 2) + _varint(len(whole)) + whole


@cache
def onnx_small() -> bytes:
    """z (batch, 2) -> image (batch, 3, 2, 1) by MatMul and Reshape, as onnx.proto encodes it."""

    def value(name: str, *sizes: int) -> bytes:
        dims = _part(1, _part(2, "batch")) + b"".join(_part(1, _number(1, size)) for size in sizes)
        return _part(1, name) + _part(2, _part(1, _number(1, 1), _part(2, dims)))

    def tensor(name: str, kind: int, sizes: tuple[int, ...], raw: bytes) -> bytes:
        return b"".join(_number(1, size) for size in sizes) + _number(2, kind) + _part(8, name) + _part(9, raw)

    graph = (
        _part(1, _part(1, "z"), _part(1, "w"), _part(2, "flat"), _part(4, "MatMul"))
        + _part(1, _part(1, "flat"), _part(1, "to"), _part(2, "image"), _part(4, "Reshape"))
        + _part(2, "small")
        + _part(5, tensor("w", 1, (2, 6), struct.pack("<12f", *range(12))))
        + _part(5, tensor("to", 7, (4,), struct.pack("<4q", -1, 3, 2, 1)))
        + _part(11, value("z", 2))
        + _part(12, value("image", 3, 2, 1))
    )
    return _number(1, 8) + _part(7, graph) + _part(8, _part(1, ""), _number(2, 15))


def tensors() -> list[bytes]:
    """Tensors as ONNX's own test data have them."""
    folder = BUNDLE / "conformance" / "encoder" / "test_data_set_0"
    small = _number(1, 2) + _number(1, 3) + _number(2, 1) + _part(8, "z") + _part(9, b"\0" * 24)
    return [small, (folder / "output_0.pb").read_bytes()]


def vectors() -> list[bytes]:
    """Conformance vectors as .npy."""
    return [(BUNDLE / "conformance" / "encoder" / "z_mean.npy").read_bytes(), _npy(np.zeros((2, 3), np.uint8))]


def conformance_rules() -> list[bytes]:
    """conformance.json."""
    return [(BUNDLE / "conformance" / "conformance.json").read_bytes()]


def saved_models() -> list[bytes]:
    """saved_model.pb of the packaged model."""
    return [(BUNDLE / "saved_model" / side / "1" / "saved_model.pb").read_bytes() for side in ("encoder", "decoder")]


def dictionary(seeds: Iterable[bytes]) -> Iterator[bytes]:
    """Short words that occur in some seeds: what an edit inserts or overwrites with."""
    import re

    words: dict[bytes, None] = {}
    for seed in seeds:
        words |= dict.fromkeys(re.findall(rb"[A-Za-z_][\w.-]{1,14}", seed[:20_000])[:200])
    return iter(words)
