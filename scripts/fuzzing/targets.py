"""The parsers of foreign bytes, one target each: a name, valid inputs, and a function of bytes.

A target's `run` goes through the function that the product itself calls, and uses what it returns as the product does.
It may return, or raise one of `vae_serve.errors`; a row that failed is a return. Anything else is a finding.
"""

import atexit
import importlib.util
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fuzzing import mutation, seeds
from fuzzing.mutation import PLAIN, Shape

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
    seconds: float = 5.0  # of processor time an input may take; ten times as much on the clock
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


def _latents(name: str) -> Callable[[bytes], object]:
    """Reads a file as `generate --latents` does, with the points at both its ends."""

    def run(data: bytes) -> object:
        from vae_serve.sources import latents

        points = latents.read(_file(name, data), 2)
        return points.rows(0, min(_ROWS, points.count)), points.rows(max(points.count - _ROWS, 0), points.count)

    return run


def _picture(data: bytes) -> object:
    """Decodes by two rules, as `embed` does."""
    return [decoder(data) for decoder in _decoders()]


@cache
def _decoders() -> list[Any]:
    from vae_serve.images.decode import Decoder
    from vae_serve.images.pixels import PixelRule

    return [Decoder(PixelRule(28, 28, 1)), Decoder(PixelRule(16, 20, 3, fit="pad", background=7, invert="auto"))]


def _onnx() -> Any:
    for name in ("vae_serve.model.onnx", "vae_serve.model.onnx_file"):
        if importlib.util.find_spec(name):
            return importlib.import_module(name)
    raise ImportError("the reader of ONNX files")


def _manifest(data: bytes) -> object:
    """Reads a manifest, and the pixel rule that it states."""
    from vae_serve.images.pixels import PixelRule
    from vae_serve.model import bundle

    manifest = bundle.read_manifest(_file("manifest.json", data))
    return manifest if isinstance(manifest.pixels, PixelRule) else PixelRule.from_json(manifest.pixels)


@cache
def _bundle() -> Path:
    """The packaged bundle's files, linked."""
    folder = room() / "bundle"
    for file in seeds.BUNDLE.rglob("*"):
        copy = folder / file.relative_to(seeds.BUNDLE)
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
    from vae_serve.train import config, runs

    run = runs.load(_file("run.json", data).parent)
    return run.finished, config.recorded_config(run.record["config"])


def _history(data: bytes) -> object:
    """Reads a run's history, as `plot` does."""
    from vae_serve.cli.subject import Subject

    path = _file("history.csv", data).parent
    return Subject(path, True, list, list, (28, 28, 1), "mnist", None).history()


def _checkpoint(data: bytes) -> object:
    """Looks for the newest checkpoint, as `train --resume` does."""
    from vae_serve.train import checkpoints

    folder = room() / "checkpoints"
    folder.mkdir(exist_ok=True)
    (folder / "step-00000375.npz").write_bytes(b"")
    (folder / "step-00000375.json").write_bytes(data)
    return checkpoints.newest(folder)


def _config(data: bytes) -> object:
    """Reads a configuration, as `train --config` does."""
    from vae_serve.train import config

    return config.combine(_file("train.toml", data), {})


@cache
def _job() -> tuple[Path, Any, dict[str, bytes]]:
    """A job's folder with one finished shard of two, its plan, and its JSON files."""
    from vae_serve.jobs import shards

    folder = room() / "job"
    plan = shards.Plan({"command": "embed", "model": "0" * 64, "batch": {"a": 1}}, rows=4, rows_per_shard=2)
    with shards.open_job(folder, plan) as job:
        job.commit(plan.shards[0], lambda file: file.write(b"rows"), {"rows": 2, "ok": 2, "seconds": 0.5})
    files = {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.json"))}
    return folder, plan, files


def _job_file(which: int) -> Callable[[bytes], object]:
    """Goes on with a job one of whose JSON files is another."""

    def run(data: bytes) -> object:
        from vae_serve.jobs import shards

        folder, plan, files = _job()
        for number, (name, contents) in enumerate(files.items()):
            (folder / name).write_bytes(data if number == which else contents)
        with shards.open_job(folder, plan) as job:
            return job.finished, job.missing, list(job.records)

    return run


def _job_seeds(which: int) -> Sequence[bytes]:
    return [contents for number, contents in enumerate(_job()[2].values()) if number == which]


def _conformance_rule(data: bytes) -> object:
    """Reads the tolerances of a bundle as `deploy web` does; the page itself would take a second for each input."""
    import hashlib
    import json

    from vae_serve.deploy import web
    from vae_serve.model import bundle

    folder = _bundle()
    record = json.loads((seeds.BUNDLE / "manifest.json").read_bytes())
    for entry in record["files"]:
        if entry["path"] == web.RULE:
            entry |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / web.RULE).write_bytes(data)
    (folder / "manifest.json").write_text(json.dumps(record))
    loaded = bundle.load(folder)
    return {kind: float(limit) for kind, limit in web._tolerance(loaded).items()}


def _tar(pack: Callable[[bytes], bytes]) -> Callable[[], Sequence[bytes]]:
    return lambda: seeds.packed(seeds.tars(), pack)


def _by_name(*found: Target) -> dict[str, Target]:
    return {target.name: target for target in found}


TARGETS = _by_name(
    Target("onnx", seeds.onnx_graphs, lambda data: _onnx().read(data, "graph.onnx"), longest=4 << 10),
    Target("tensor", seeds.tensors, lambda data: _onnx().read_tensor(data, "tensor.pb"), longest=4 << 10),
    Target("vectors", seeds.vectors, lambda data: _verify().read_npy(data, "vectors.npy"), longest=4 << 10),
    Target("manifest", seeds.manifests, _manifest),
    Target("bundle", seeds.manifests, _load),
    Target("conformance", seeds.conformance_rules, _conformance_rule),
    Target("npy", seeds.npys, _source("x.npy"), longest=4 << 10),
    Target("npz", seeds.npzs, _source("x.npz"), mutation.ZIP, longest=8 << 10),
    Target("idx", seeds.idxs, _source("x-idx3-ubyte"), longest=4 << 10),
    Target("idx-gz", lambda: seeds.packed(seeds.idxs(), seeds.gz), _source("x-idx3-ubyte.gz"), mutation.GZ),
    Target("zip", seeds.zips, _source("x.zip"), mutation.ZIP, longest=8 << 10),
    Target("tar", seeds.tars, _source("x.tar"), mutation.TAR),
    Target("tar-gz", _tar(seeds.gz), _source("x.tar.gz"), mutation.TAR_GZ, longest=8 << 10),
    Target("tar-xz", _tar(seeds.xz), _source("x.tar.xz"), mutation.TAR_XZ, longest=8 << 10),
    Target("tar-bz2", _tar(seeds.bz2_), _source("x.tar.bz2"), mutation.TAR_BZ2, longest=8 << 10),
    Target("parquet", seeds.picture_tables, _source("x.parquet"), longest=16 << 10),
    Target("list", seeds.lists, _source("x.txt"), longest=4 << 10),
    Target("latents-csv", seeds.latent_sheets, _latents("z.csv"), longest=4 << 10),
    Target("latents-npy", seeds.latent_npys, _latents("z.npy"), longest=4 << 10),
    Target("latents-parquet", seeds.latent_tables, _latents("z.parquet"), longest=16 << 10),
    Target("config", seeds.configs, _config, longest=4 << 10),
    Target("run", seeds.run_records, _run_record),
    Target("history", seeds.histories, _history, longest=4 << 10),
    Target("checkpoint", seeds.checkpoint_notes, _checkpoint, longest=4 << 10),
    Target("job-plan", lambda: _job_seeds(1), _job_file(1), longest=4 << 10),
    Target("job-record", lambda: _job_seeds(0), _job_file(0), longest=4 << 10),
    Target("png", seeds.pngs, _picture, mutation.PNG, longest=8 << 10),
    Target("jpeg", seeds.jpegs, _picture, longest=8 << 10),
    Target("gif", seeds.gifs, _picture, longest=8 << 10),
    Target("bmp", seeds.bmps, _picture, longest=8 << 10),
    Target("tiff", seeds.tiffs, _picture, longest=8 << 10),
    Target("webp", seeds.webps, _picture, longest=8 << 10),
    Target("avif", seeds.avifs, _picture, longest=8 << 10),
    Target("ppm", seeds.ppms, _picture, longest=8 << 10),
)


def _verify() -> Any:
    from vae_serve.model import verify

    return verify
