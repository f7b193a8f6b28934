"""A shard is the same wherever it is made: here each in a fresh process, which gets a pickled spec and nothing else."""

import io
import os
import pickle
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import linear_bundle
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace
from PIL import Image

from vae_serve.errors import SourceError, UsageError
from vae_serve.images.pixels import PixelRule
from vae_serve.jobs.engines import ENGINES
from vae_serve.jobs.task import ShardResult
from vae_serve.model import bundle as bundles
from vae_serve.sources.arrays import Arrays
from vae_serve.sources.latents import LatentFile
from vae_serve.sources.opening import open_source
from vae_serve.tasks.embed import EmbedOptions, embed
from vae_serve.tasks.generate import generate
from vae_serve.tasks.generate_options import GenerateOptions
from vae_serve.tasks.reconstruct import ReconstructOptions, reconstruct
from vae_serve.tasks.reconstruct_shard import per_sheet

ROOT = Path(__file__).parents[2]
SHAPE = (6, 5, 1)
ROWS = 70  # in shards of 32: names are packed by 64

WORKER = """
import pickle, sys
from vae_serve.jobs.engines.inline import run_shard
spec, shard = pickle.load(sys.stdin.buffer)
result = run_shard(spec, shard)
pickle.dump((result.contents(), result.record), sys.stdout.buffer)
"""


class Fresh:
    """An engine that makes the shards backwards, each in a process of its own; it keeps what it sent and got."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sent: dict[int, bytes] = {}
        self.results: dict[int, dict[str, bytes]] = {}
        self.whole = b""

    def __call__(self, spec, missing, on_done, progress=lambda done, failed, **figures: None, private=()) -> None:
        self.whole = pickle.dumps(spec)
        for shard in reversed(missing):
            self.sent[shard.number] = pickle.dumps((spec.for_shard(shard), shard))
            done = subprocess.run(
                [sys.executable, "-c", WORKER],
                input=self.sent[shard.number],
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                capture_output=True,
                timeout=120,
                check=False,
            )
            assert done.returncode == 0, done.stderr.decode()
            contents, record = pickle.loads(done.stdout)
            self.results[shard.number] = contents
            on_done(shard, ShardResult.of(contents, record))


@pytest.fixture
def fresh(tmp_path, monkeypatch) -> Fresh:
    engine = Fresh(tmp_path)
    monkeypatch.setitem(ENGINES, "fresh", lambda _: engine)
    return engine


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> bundles.Bundle:
    return bundles.load(linear_bundle.write(tmp_path_factory.mktemp("exports") / "linear"))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (ROWS, *SHAPE), np.uint8)


def png_files(images: np.ndarray) -> dict[str, bytes]:
    """Names and contents; every label has several, and one is not a picture."""
    files = {}
    for number, image in enumerate(images):
        file = io.BytesIO()
        Image.fromarray(image[..., 0]).save(file, "PNG")
        files[f"{number % 3}/{number:03}.png"] = file.getvalue()
    files["1/049.png"] = b"none"
    return files


def as_folder(path: Path, images: np.ndarray) -> Path:
    for name, contents in png_files(images).items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(contents)
    return path


def as_zip(path: Path, images: np.ndarray) -> Path:
    with zipfile.ZipFile(path.with_suffix(".zip"), "w") as archive:
        for name, contents in reversed(png_files(images).items()):
            archive.writestr(name, contents)
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("2/068.png", b"another of this name")
    return path.with_suffix(".zip")


def as_tar(path: Path, images: np.ndarray) -> Path:
    path = path.with_suffix(".tar.gz")
    with tarfile.open(path, "w:gz") as archive:
        for name, contents in png_files(images).items():
            member = tarfile.TarInfo(name)
            member.size = len(contents)
            archive.addfile(member, io.BytesIO(contents))
    return path


def as_list(path: Path, images: np.ndarray) -> Path:
    folder = as_folder(path, images)
    path = path.with_suffix(".txt")
    path.write_text("\n".join(os.path.relpath(file) for file in sorted(folder.rglob("*.png"))))
    return path


def as_npy(path: Path, images: np.ndarray) -> Path:
    floats = np.float32(images) / 255
    floats[40] = np.nan
    np.save(path.with_suffix(".npy"), floats)
    return path.with_suffix(".npy")


def as_npz(path: Path, images: np.ndarray) -> Path:
    np.savez_compressed(path.with_suffix(".npz"), images=images, labels=np.arange(ROWS) // 9)
    return path.with_suffix(".npz")


def as_parquet(path: Path, images: np.ndarray) -> Path:
    files = png_files(images)
    table = pa.table({"image": list(files.values()), "label": [name[0] for name in files]})
    pq.write_table(table, path.with_suffix(".parquet"), row_group_size=20)
    return path.with_suffix(".parquet")


def tree(folder: Path) -> dict[str, bytes]:
    """Every file's bytes but the job's state, which has clocks in it."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not file.relative_to(folder).parts[0].startswith(".job")
    }


SOURCES = [as_folder, as_zip, as_tar, as_list, as_npy, as_npz, as_parquet]


@pytest.fixture(params=SOURCES, ids=lambda make: make.__name__)
def source(request, tmp_path, images, monkeypatch) -> str:
    """A path relative to the current folder, which is not the one of the processes."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return str(request.param(tmp_path / "here" / "source", images).relative_to(tmp_path / "here"))


def embed_options(**changes) -> EmbedOptions:
    return replace(EmbedOptions(workers=2, rows_per_shard=32, outputs=("z_mean", "z")), **changes)


def test_every_shard_of_embed_is_the_same_in_a_process_of_its_own(source, bundle, fresh):
    rule = PixelRule.from_json(bundle.manifest.pixels)
    embed(open_source(source), bundle, rule, Path("here"), embed_options(), lambda *_, **__: None)
    embed(open_source(source), bundle, rule, Path("there"), embed_options(engine="fresh"), lambda *_, **__: None)
    files = tree(Path("here"))
    assert [*files] == ["part-00000.parquet", "part-00001.parquet", "part-00002.parquet"]
    assert {name: data for result in fresh.results.values() for name, data in result.items()} == files
    assert tree(Path("there")) == files
    options = embed_options(engine="processes")
    embed(open_source(source), bundle, rule, Path("elsewhere"), options, lambda *_, **__: None)
    assert tree(Path("elsewhere")) == files


def test_a_spec_for_one_shard_holds_the_names_of_that_shard_alone(tmp_path, images, bundle, fresh):
    rule = PixelRule.from_json(bundle.manifest.pixels)
    for number, make in enumerate((as_folder, as_zip)):
        opened = open_source(str(make(tmp_path / f"source{number}", images)))
        embed(opened, bundle, rule, tmp_path / f"out{number}", embed_options(engine="fresh"), lambda *_, **__: None)
        names = [name.rpartition(b"/")[2] for name in opened.names[range(ROWS)]]
        for shard, sent in fresh.sent.items():
            own = range(32 * shard, min(32 * shard + 32, ROWS))
            assert [row for row, name in enumerate(names) if name in sent] == [*own]
        assert len(fresh.sent[0]) < 8192  # neither pixels nor networks are in it
        assert all(name in fresh.whole for name in names)


def test_arrays_that_are_in_memory_alone_go_along_with_the_spec(tmp_path, images, bundle, fresh):
    rule = PixelRule.from_json(bundle.manifest.pixels)
    labels = np.eye(ROWS, dtype=np.int64)[:, :40]  # rows of which some are one-hot, others are not
    for out, engine in (("here", "inline"), ("there", "fresh")):
        arrays = Arrays("memory", images, labels, where="memory", stamp="")
        embed(arrays, bundle, rule, tmp_path / out, embed_options(engine=engine), lambda *_, **__: None)
    assert len(fresh.results) == 3
    assert tree(tmp_path / "there") == tree(tmp_path / "here")


def test_every_shard_of_reconstruct_is_the_same_in_a_process_of_its_own(tmp_path, images, bundle, fresh, monkeypatch):
    monkeypatch.setattr("vae_serve.tasks.reconstruct_shard.SHARD_ROWS", 1)  # a shard for each sheet
    rule = PixelRule.from_json(bundle.manifest.pixels)
    np.save(tmp_path / "many.npy", np.resize(images, (2 * per_sheet(rule) + 5, *SHAPE)))
    for shards, path in ((1, as_folder(tmp_path / "folder", images)), (3, tmp_path / "many.npy")):
        outs = [tmp_path / f"{engine}-{shards}" for engine in ("inline", "fresh")]
        fresh.results.clear()
        inline, other = (
            reconstruct(
                open_source(str(path)),
                bundle,
                rule,
                ReconstructOptions(out, workers=2, engine=out.name.partition("-")[0]),
                lambda *_, **__: None,
            )
            for out in outs
        )
        assert len(fresh.results) == shards
        assert tree(outs[1]) == tree(outs[0])
        assert {**other, "out": inline["out"]} == inline


@pytest.mark.parametrize("out", ["pictures.npy", "pictures.npz", "pictures", "pictures.zip", "pictures.parquet"])
@pytest.mark.parametrize("points", ["prior", "csv"])
def test_every_shard_of_generate_is_the_same_in_a_process_of_its_own(tmp_path, bundle, fresh, monkeypatch, out, points):
    monkeypatch.setattr("vae_serve.tasks.generate_shard.ROWS_PER_SHARD", 32)
    z = np.random.default_rng(2).standard_normal((ROWS, 2))
    np.savetxt(tmp_path / "z.csv", z, delimiter=",", header="z_0,z_1", comments="")
    given = {"count": ROWS, "seed": 5} if points == "prior" else {"latents": tmp_path / "z.csv"}
    for folder, engine in (("here", "inline"), ("there", "fresh"), ("elsewhere", "processes")):
        (tmp_path / folder).mkdir()
        generate(bundle, GenerateOptions(**given, share=(2, 2), out=tmp_path / folder / out, engine=engine))
    assert len(fresh.results) == 2
    assert max(map(len, fresh.sent.values())) < 4096
    assert tree(tmp_path / "there") == tree(tmp_path / "here") == tree(tmp_path / "elsewhere")


@pytest.mark.parametrize("make", [as_zip, as_npy, as_parquet])
def test_a_source_that_has_changed_since_is_refused_where_it_is_opened(tmp_path, images, make):
    path = make(tmp_path / "source", images)
    description = pickle.dumps(open_source(str(path)).select(range(3, 9)))
    path.unlink()
    make(tmp_path / "source", images[:-1])
    os.utime(path, ns=(1, 1))
    with pytest.raises(SourceError, match=r"source\..* has changed since the job began"):
        pickle.loads(description).open()


def test_an_engine_of_another_name_is_refused(tmp_path, images, bundle):
    rule = PixelRule.from_json(bundle.manifest.pixels)
    opened = open_source(str(as_npy(tmp_path / "source", images)))
    with pytest.raises(UsageError, match="the engine 'spark' is none of inline, processes"):
        embed(opened, bundle, rule, tmp_path / "out", embed_options(engine="spark"), lambda *_, **__: None)
    assert not (tmp_path / "out").exists()


def test_latents_of_an_embed_result_that_is_not_whole_are_refused(tmp_path, images, bundle):
    rule, out = PixelRule.from_json(bundle.manifest.pixels), tmp_path / "out"
    source = open_source(str(as_npy(tmp_path / "source", images)))

    def stop(done, *_, **__):
        if list(out.glob(".job/part-*.json")):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed(source, bundle, rule, Path(out), embed_options(rows_per_shard=1), stop)
    with pytest.raises(SourceError, match=r"out is an embed result that is not finished .* run the same"):
        LatentFile(out, 2).open()
    embed(source, bundle, rule, Path(out), embed_options(rows_per_shard=1), lambda *_, **__: None)
    assert (LatentFile(out, 2).open().count, LatentFile(out, 2).open().missing) == (ROWS, (40,))
    (out / "part-00003.parquet").unlink()
    with pytest.raises(SourceError, match=r"out is an embed result that lacks part-00003\.parquet; run the same"):
        LatentFile(out, 2).open()
