"""How many pictures are decoded in one go: by what their files weigh, so that a few large ones give work to every
process, and a few small ones to one.
"""

import io
import tarfile
import zipfile
from pathlib import Path

import linear_bundle
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from vae_serve.images.pixels import PixelRule
from vae_serve.jobs.engines import ENGINES
from vae_serve.model import bundle as bundles
from vae_serve.sources.opening import open_source
from vae_serve.tasks.embed import EmbedOptions, embed

COUNT = 12
WORKERS = 3


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> bundles.Bundle:
    return bundles.load(linear_bundle.write(tmp_path_factory.mktemp("exports") / "linear"))


def pictures(side: int) -> dict[str, bytes]:
    """By name; of noise, so that a file has as many bytes as its picture."""
    files = {}
    for number in range(COUNT):
        file = io.BytesIO()
        levels = np.random.default_rng(number).integers(0, 256, (side, side, 3), np.uint8)
        Image.fromarray(levels).save(file, "PNG", compress_level=0)
        files[f"{number:02}.png"] = file.getvalue()
    return files


def as_folder(path: Path, files: dict[str, bytes]) -> Path:
    path.mkdir()
    for name, contents in files.items():
        (path / name).write_bytes(contents)
    return path


def as_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, contents in files.items():
            archive.writestr(name, contents)
    return path.with_suffix(".zip")


def as_tar(path: Path, files: dict[str, bytes]) -> Path:
    path = path.with_suffix(".tar.gz")
    with tarfile.open(path, "w:gz") as archive:
        for name, contents in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(contents)
            archive.addfile(member, io.BytesIO(contents))
    return path


def as_parquet(path: Path, files: dict[str, bytes]) -> Path:
    table = pa.table({"image": list(files.values()), "label": [name[0] for name in files]})
    pq.write_table(table, path.with_suffix(".parquet"), row_group_size=5)
    return path.with_suffix(".parquet")


class Seen(Exception):
    """How many lanes a job has."""


def lanes(source: Path, bundle: bundles.Bundle, out: Path, monkeypatch, workers: int = WORKERS) -> int:
    """How many processes decode."""

    def look(spec, missing, on_done, progress=None, private=()) -> None:
        work = spec.start(missing, private)
        rows = [row for lane in work.lanes for decoded, _ in lane for row in decoded.rows]
        work.stop(finished=True)
        assert sorted(rows) == [*range(missing[-1].stop)]
        raise Seen(len(work.lanes))

    monkeypatch.setitem(ENGINES, "seen", lambda _: look)
    options = EmbedOptions(workers=workers, engine="seen")
    rule = PixelRule.from_json(bundle.manifest.pixels)
    with pytest.raises(Seen) as seen:
        embed(open_source(str(source)), bundle, rule, out, options, lambda *_, **__: None)
    return seen.value.args[0]


@pytest.mark.parametrize("make", [as_folder, as_zip, as_tar, as_parquet], ids=lambda make: make.__name__)
def test_a_few_large_pictures_are_decoded_by_every_process_and_a_few_small_ones_by_one(
    make, bundle, tmp_path, monkeypatch
):
    large, small = make(tmp_path / "large", pictures(350)), make(tmp_path / "small", pictures(28))
    assert lanes(large, bundle, tmp_path / "a", monkeypatch) == WORKERS
    assert lanes(small, bundle, tmp_path / "b", monkeypatch) == 1
    assert lanes(large, bundle, tmp_path / "c", monkeypatch, workers=1) == 1


def test_files_that_are_gone_weigh_nothing(bundle, tmp_path, monkeypatch):
    folder = as_folder(tmp_path / "folder", pictures(28))
    (tmp_path / "list.txt").write_text("".join(f"{folder}/{number}.png\n" for number in range(100, 140)))
    assert lanes(tmp_path / "list.txt", bundle, tmp_path / "a", monkeypatch) == 1


def test_rows_are_the_same_however_they_are_cut(bundle, tmp_path):
    folder = as_folder(tmp_path / "folder", {**pictures(350), "99.png": b"none"})
    rule = PixelRule.from_json(bundle.manifest.pixels)
    for out, workers in (("a", 1), ("b", 2), ("c", 5)):
        embed(
            open_source(str(folder)), bundle, rule, tmp_path / out, EmbedOptions(workers=workers), lambda *_, **__: None
        )
    parts = [(tmp_path / out / "part-00000.parquet").read_bytes() for out in "abc"]
    assert parts[0] == parts[1] == parts[2]
