"""The parsers of foreign bytes, one target each: a name, valid inputs, and a function of bytes.

A target's `run` goes through the function that the product itself calls, and uses what it returns as the product does.
It may return, or raise one of `vae_serve.errors`; a row that failed is a return. Anything else is a finding.
"""

import atexit
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fuzzing import mutation
from fuzzing.mutation import PLAIN, Shape
from fuzzing.seeds import BUNDLE, compression, graphs, pictures, records, sources
from vae_serve.errors import RunError

_ROWS = 64  # looked at from the front and from the end of a source
_MIB = 1 << 20
ROOM = "VAE_SERVE_FUZZ_ROOM"


@dataclass(frozen=True)
class Target:
    """One parser."""

    name: str
    seeds: Callable[[], Sequence[bytes]]
    run: Callable[[bytes], object]
    shape: Shape = PLAIN
    seconds: float = 5.0  # of processor time that an input may take
    waits: float = 10.0  # seconds in which the process may sleep within an input
    memory: int = 512 * _MIB  # beyond what the process has before its first input
    longest: int = 64 << 10  # bytes of an input that the coverage-guided engine makes


@cache
def room() -> Path:
    """A folder of this process alone, which `ROOM` names where another process made it and will remove it."""
    if ROOM in os.environ:
        return Path(os.environ[ROOM])
    made = tempfile.TemporaryDirectory(prefix="vae-serve-fuzz-")
    atexit.register(made.cleanup)
    return Path(made.name)


def _file(name: str, data: bytes) -> Path:
    path = room() / name
    path.write_bytes(data)
    return path


def _source(name: str) -> Callable[[bytes], object]:
    """Opens a file as `embed` does and reads names, labels and rows from both its ends."""

    def run(data: bytes) -> object:
        from vae_serve.sources.arrays import Arrays
        from vae_serve.sources.opening import open_source

        source = open_source(str(_file(name, data)))
        count = source.names.count
        for rows in {range(min(_ROWS, count)), range(max(count - _ROWS, 0), count)}:
            _ = source.names[rows], source.names.text(rows), source.labels(rows).texts()
            if isinstance(source, Arrays):
                _ = source[rows].sum()
            else:
                for row in source.read(rows):
                    assert isinstance(row, bytes | Exception), row
        return source.fingerprint()

    return run


def _pattern(data: bytes) -> object:
    """Looks for the files that a pattern fits, within a small folder."""
    from vae_serve.sources.patterns import PatternSource

    folder = _photos()
    text = os.fsdecode(data.replace(b"\0", b""))
    if ".." in text.split("/"):  # would walk the disk
        return None
    return PatternSource(f"{folder}/{text}").open().names.count


@cache
def _photos() -> Path:
    folder = room() / "photos"
    for name in ("1.png", "a/2.png", "a/b/3.png", "[c]/4.jpg", "d.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def _latents(name: str) -> Callable[[bytes], object]:
    """Reads a file as `generate --latents` does, with the points at both its ends."""

    def run(data: bytes) -> object:
        from vae_serve.sources.latents import LatentFile

        points = LatentFile(_file(name, data), 2).open()
        return points.rows(0, min(_ROWS, points.count)), points.rows(max(points.count - _ROWS, 0), points.count)

    return run


def _picture(data: bytes) -> object:
    """Decodes by three rules, as `embed` does."""
    return [decoder(data) for decoder in _decoders()]


@cache
def _decoders() -> list[Any]:
    from vae_serve.images.decode import Decoder
    from vae_serve.images.pixels import PixelRule

    other = PixelRule(16, 20, 3, fit="pad", background=7, invert="auto")
    return [Decoder(PixelRule(28, 28, 1)), Decoder(other), Decoder(PixelRule(3, 4, 3, fit="crop", decode="scaled"))]


def _orientation(data: bytes) -> object:
    """Reads a block of metadata as EXIF and as XMP."""
    from vae_serve.images import orientation

    return orientation.of_exif(data), orientation.of_xmp(data), list(orientation.directory(data))


def _graph(data: bytes) -> object:
    from vae_serve.model import onnx

    return onnx.read(data, "graph.onnx")


def _tensor(data: bytes) -> object:
    from vae_serve.model import onnx

    return onnx.read_tensor(data, "input_0.pb")


def _vectors(data: bytes) -> object:
    from vae_serve.model import conformance

    return conformance.read_npy(data, "vectors.npy")


def _saved_model(data: bytes) -> None:
    from vae_serve.model import saved_model

    saved_model.judge(data, "saved_model.pb")


def _manifest(data: bytes) -> object:
    """Reads a manifest, and the pixel rule that it states."""
    from vae_serve.images.pixels import PixelRule
    from vae_serve.model import bundle

    return PixelRule.from_json(bundle.read_manifest(_file("manifest.json", data)).pixels)


@cache
def _bundle() -> Path:
    """The packaged bundle's files, linked."""
    folder = room() / "bundle"
    for file in BUNDLE.rglob("*"):
        copy = folder / file.relative_to(BUNDLE)
        if file.is_dir():
            copy.mkdir(parents=True)
        else:
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
    return folder


def _load(data: bytes) -> object:
    """Loads a bundle by another manifest, with the files of the packaged one."""
    from vae_serve.model import bundle

    (_bundle() / "manifest.json").write_bytes(data)
    return bundle.load(_bundle())


def _run_record(data: bytes) -> object:
    """Loads a run and its configuration, as `train --resume` and `runs` do."""
    from vae_serve.training import config, runs

    run = runs.load(_file("run.json", data).parent)
    return run.finished, config.recorded_config(run.record["config"])


def _history(data: bytes) -> object:
    """Reads a run's history, as `plot` does."""
    from vae_serve.cli.subject import Subject
    from vae_serve.images.pixels import PixelRule

    path = _file("history.csv", data).parent
    return Subject(path, True, list, list, PixelRule(28, 28, 1), {}, None).history()


def _checkpoint(data: bytes) -> object:
    """Looks for the newest checkpoint, as `train --resume` does."""
    from vae_serve.training import checkpoints

    folder = room() / "checkpoints"
    folder.mkdir(exist_ok=True)
    (folder / "step-00000375.npz").write_bytes(b"")
    (folder / "step-00000375.json").write_bytes(data)
    return checkpoints.newest(folder)


def _config(data: bytes) -> object:
    """Reads a configuration, as `train --config` does."""
    from vae_serve.training import config

    return config.combine(_file("train.toml", data), {})


def _checkpoint_arrays(data: bytes) -> object:
    """Reads a checkpoint whose note has its right check sum."""
    from vae_serve.training import checkpoints

    folder = room() / "checkpoint-arrays"
    folder.mkdir(exist_ok=True)
    (folder / "step-00000375.npz").write_bytes(data)
    note = {"sha256": hashlib.sha256(data).hexdigest(), "epoch": 1, "step": 3, "total": 375, "history": []}
    (folder / "step-00000375.json").write_text(json.dumps(note))
    found = checkpoints.newest(folder)
    if found is None:
        raise RunError("it is damaged")
    return found


def _gate_images(data: bytes) -> object:
    """Reads the images that an export compares on, with their right check sum."""
    from vae_serve.training import gate_inputs
    from vae_serve.training.runs import Run

    note = {"images": 3, "sha256": hashlib.sha256(data).hexdigest()}
    path = _file("gate_inputs.npz", data).parent
    return gate_inputs.of(Run(path, {"gate": note, "config": {"image_shape": [5, 4, 1]}})).sum()


def _trained_on(name: str) -> Callable[[bytes], object]:
    """Reads a file of arrays as `train --data` does."""

    def run(data: bytes) -> object:
        from vae_serve.training import read

        train, test = read.source(str(_file(name, data)), read.Fit((5, 4, None)), lambda _: None)
        return train.images.sum(), test

    return run


def _earlier(data: bytes) -> object:
    """Looks whether a file is what our own writers leave, as `--overwrite` does."""
    from vae_serve.results import earlier

    path = _file("out", data)
    return [look(path) for look in (earlier.is_picture, earlier.is_array, earlier.is_arrays, earlier.is_zip,
                                    earlier.is_table)]  # fmt: skip


@cache
def _job(sealed: bool) -> tuple[Path, Callable[[], Any], dict[str, bytes]]:
    """A job's folder with one finished shard of two, or sealed with both; how it is opened; the files of its state."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from vae_serve.jobs.folder import open_job
    from vae_serve.jobs.plan import Plan
    from vae_serve.tasks.reconstruct_shard import RECORD

    folder = room() / ("sealed" if sealed else "job")
    plan = Plan({"command": "reconstruct", "model": "0" * 64, "pixels": {"width": 1}}, rows=4, rows_per_shard=2)
    rows = pa.table({"index": [0, 1], "path": ["a.png", "b.png"]})
    with open_job(folder, plan, RECORD) as job:
        for shard in plan.shards if sealed else plan.shards[:1]:
            record = json.loads(records.job_record())
            job.commit(shard, {plan.part(shard): lambda file: pq.write_table(rows, file)}, record)
        if sealed:
            job.finish({"rows": 4})
    files = [file for file in folder.rglob("*") if file.name.endswith(".json") or file.name == ".job.parquet"]
    return folder, lambda: open_job(folder, plan, RECORD), {
        str(file.relative_to(folder)): file.read_bytes() for file in sorted(files)
    }  # fmt: skip


def _job_seeds(name: str) -> Sequence[bytes]:
    return [contents for path, contents in _job(name.startswith("."))[2].items() if Path(path).name.startswith(name)]


def _job_file(name: str) -> Callable[[bytes], object]:
    """Goes on with a job one of whose files of state is another, as `reconstruct` does."""

    def run(data: bytes) -> object:
        from vae_serve.tasks import reconstruct

        folder, opened, files = _job(name.startswith("."))
        (folder / ".job").mkdir(exist_ok=True)
        for path, contents in files.items():
            (folder / path).write_bytes(data if Path(path).name.startswith(name) else contents)
        with opened() as job:
            return job.finished, job.missing, reconstruct._summary(folder, list(job.records.values()), 1)

    return run


def _conformance_rule(data: bytes) -> object:
    """Reads the tolerances of a bundle as `deploy web` does; the page itself would take a second for each input."""
    from vae_serve.model import bundle, conformance

    folder, rule = _bundle(), conformance.RULE
    record = json.loads((BUNDLE / "manifest.json").read_bytes())
    for entry in record["files"]:
        if entry["path"] == rule:
            entry |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / rule).write_bytes(data)
    (folder / "manifest.json").write_text(json.dumps(record))
    return conformance.tolerance(bundle.load(folder))


def _tar(pack: Callable[[bytes], bytes]) -> Callable[[], Sequence[bytes]]:
    return lambda: compression.packed(sources.tars(), pack)


def _by_name(*found: Target) -> dict[str, Target]:
    return {target.name: target for target in found}


TARGETS = _by_name(
    Target("onnx", graphs.onnx_graphs, _graph, longest=4 << 10),
    Target("tensor", graphs.tensors, _tensor, longest=4 << 10),
    Target("vectors", graphs.vectors, _vectors, longest=4 << 10),
    Target("saved-model", graphs.saved_models, _saved_model, longest=8 << 10),
    Target("manifest", records.manifests, _manifest),
    Target("bundle", records.manifests, _load),
    Target("conformance", records.conformance_rules, _conformance_rule),
    Target("npy", sources.npys, _source("x.npy"), longest=4 << 10),
    Target("npz", sources.npzs, _source("x.npz"), mutation.ZIP, longest=8 << 10),
    Target("idx", sources.idxs, _source("x-idx3-ubyte"), longest=4 << 10),
    Target(
        "idx-gz", lambda: compression.packed(sources.idxs(), compression.gz), _source("x-idx3-ubyte.gz"), mutation.GZ
    ),
    Target("zip", sources.zips, _source("x.zip"), mutation.ZIP, longest=8 << 10),
    Target("tar", sources.tars, _source("x.tar"), mutation.TAR),
    Target("tar-gz", _tar(compression.gz), _source("x.tar.gz"), mutation.TAR_GZ, longest=8 << 10),
    Target("tar-xz", _tar(compression.xz), _source("x.tar.xz"), mutation.TAR_XZ, longest=8 << 10),
    Target("tar-bz2", _tar(compression.bz2_), _source("x.tar.bz2"), mutation.TAR_BZ2, longest=8 << 10),
    Target("parquet", sources.picture_tables, _source("x.parquet"), longest=16 << 10),
    Target("list", sources.lists, _source("x.txt"), longest=4 << 10),
    Target("pattern", sources.patterns, _pattern, longest=1 << 10),
    Target("latents-csv", sources.latent_sheets, _latents("z.csv"), longest=4 << 10),
    Target("latents-npy", sources.latent_npys, _latents("z.npy"), longest=4 << 10),
    Target("latents-npz", sources.latent_npzs, _latents("z.npz"), mutation.ZIP, longest=8 << 10),
    Target("latents-parquet", sources.latent_tables, _latents("z.parquet"), longest=16 << 10),
    Target("config", records.configs, _config, longest=4 << 10),
    Target("run", records.run_records, _run_record),
    Target("history", records.histories, _history, longest=4 << 10),
    Target("checkpoint", records.checkpoint_notes, _checkpoint, longest=4 << 10),
    Target("checkpoint-arrays", records.checkpoint_arrays, _checkpoint_arrays, mutation.ZIP, longest=8 << 10),
    Target("gate-images", records.gate_images, _gate_images, mutation.ZIP, longest=8 << 10),
    Target("train-npy", sources.npys, _trained_on("t.npy"), longest=4 << 10),
    Target("train-npz", sources.npzs, _trained_on("t.npz"), mutation.ZIP, longest=8 << 10),
    Target("job-plan", lambda: _job_seeds("plan"), _job_file("plan"), longest=4 << 10),
    Target("job-record", lambda: _job_seeds("part"), _job_file("part"), longest=4 << 10),
    Target("job-sealed", lambda: _job_seeds(".job"), _job_file(".job"), mutation.SEALED, longest=16 << 10),
    Target("earlier-result", sources.earlier_results, _earlier, longest=8 << 10),
    Target("orientation", pictures.orientations, _orientation, longest=4 << 10),
    Target("png", pictures.pngs, _picture, mutation.PNG, longest=8 << 10),
    Target("jpeg", pictures.jpegs, _picture, longest=8 << 10),
    Target("gif", pictures.gifs, _picture, longest=8 << 10),
    Target("bmp", pictures.bmps, _picture, longest=8 << 10),
    Target("tiff", pictures.tiffs, _picture, longest=8 << 10),
    Target("webp", pictures.webps, _picture, longest=8 << 10),
    Target("avif", pictures.avifs, _picture, longest=8 << 10),
    Target("ppm", pictures.ppms, _picture, longest=8 << 10),
)
