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
from inspect import signature
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


def _latents(name: str) -> Callable[[bytes], object]:
    """Reads a file as `generate --latents` does, with the points at both its ends."""

    def run(data: bytes) -> object:
        path = _file(name, data)
        points = _latent_file(path, 2).open() if _has_latent_files() else _reader("read", "sources.latents")(path, 2)
        return points.rows(0, min(_ROWS, points.count)), points.rows(max(points.count - _ROWS, 0), points.count)

    return run


def _latent_file(path: Path, latent_dim: int) -> Any:
    return _reader("LatentFile", "sources.latents")(path, latent_dim)


@cache
def _has_latent_files() -> bool:
    return hasattr(importlib.import_module("vae_serve.sources.latents"), "LatentFile")


def _picture(data: bytes) -> object:
    """Decodes by two rules, as `embed` does."""
    return [decoder(data) for decoder in _decoders()]


@cache
def _decoders() -> list[Any]:
    from vae_serve.images.decode import Decoder
    from vae_serve.images.pixels import PixelRule

    return [Decoder(PixelRule(28, 28, 1)), Decoder(PixelRule(16, 20, 3, fit="pad", background=7, invert="auto"))]


@cache
def _reader(function: str, *modules: str) -> Callable[..., Any]:
    """A function of the first of these modules that is there and has it."""
    for name in modules:
        try:
            module = importlib.import_module(f"vae_serve.{name}")
        except ModuleNotFoundError:
            continue
        if hasattr(module, function):
            reader: Callable[..., Any] = getattr(module, function)
            return reader
    raise ImportError(f"none of {', '.join(modules)} has {function}")


def _onnx(function: str) -> Callable[[bytes], object]:
    return lambda data: _reader(function, "model.onnx.reading", "model.onnx_file")(data, "graph.onnx")


def _vectors(data: bytes) -> object:
    return _reader("read_npy", "model.conformance", "model.verify")(data, "vectors.npy")


def _saved_model(data: bytes) -> object:
    return _reader("judge", "model.saved_model")(data, "saved_model.pb")


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
    from vae_serve.training import config, runs

    run = runs.load(_file("run.json", data).parent)
    return run.finished, config.recorded_config(run.record["config"])


def _history(data: bytes) -> object:
    """Reads a run's history, as `plot` does."""
    from vae_serve.cli.subject import Subject

    path = _file("history.csv", data).parent
    return Subject(path, True, list, list, (28, 28, 1), "mnist", None).history()


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


@cache
def _job() -> tuple[Path, Callable[[], Any], dict[str, bytes]]:
    """A job's folder with one finished shard of two, how it is opened, and its JSON files."""
    folder = room() / "job"
    plan = _reader("Plan", "jobs.plan", "jobs.shards")(
        {"command": "embed", "model": "0" * 64, "batch": {"a": 1}}, rows=4, rows_per_shard=2
    )
    open_job = _reader("open_job", "jobs.folder", "jobs.shards")
    fields = ({"rows": int, "ok": int, "seconds": float},) if "record" in signature(open_job).parameters else ()
    with open_job(folder, plan, *fields) as job:
        rows = job.path(plan.shards[0]).name if hasattr(job, "path") else plan.part(plan.shards[0])
        written: Any = lambda file: file.write(b"rows")  # noqa: E731
        job.commit(plan.shards[0], {rows: written} if fields else written, {"rows": 2, "ok": 2, "seconds": 0.5})
    files = {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.json"))}
    return folder, lambda: open_job(folder, plan, *fields), files


def _job_seeds(name: str) -> Sequence[bytes]:
    return [contents for path, contents in _job()[2].items() if Path(path).name.startswith(name)]


def _job_file(name: str) -> Callable[[bytes], object]:
    """Goes on with a job one of whose JSON files is another."""

    def run(data: bytes) -> object:
        folder, opened, files = _job()
        for path, contents in files.items():
            (folder / path).write_bytes(data if Path(path).name.startswith(name) else contents)
        with opened() as job:
            return job.finished, job.missing, list(job.records)

    return run


def _conformance_rule(data: bytes) -> object:
    """Reads the tolerances of a bundle as `deploy web` does; the page itself would take a second for each input."""
    import hashlib
    import json

    from vae_serve.model import bundle

    folder, rule = _bundle(), "conformance/conformance.json"
    record = json.loads((seeds.BUNDLE / "manifest.json").read_bytes())
    for entry in record["files"]:
        if entry["path"] == rule:
            entry |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / rule).write_bytes(data)
    (folder / "manifest.json").write_text(json.dumps(record))
    if importlib.util.find_spec("vae_serve.model.conformance"):
        return _reader("tolerance", "model.conformance")(bundle.load(folder))
    return _reader("_tolerance", "deploy.web")(bundle.load(folder))


def _tar(pack: Callable[[bytes], bytes]) -> Callable[[], Sequence[bytes]]:
    return lambda: seeds.packed(seeds.tars(), pack)


def _by_name(*found: Target) -> dict[str, Target]:
    return {target.name: target for target in found}


TARGETS = _by_name(
    Target("onnx", seeds.onnx_graphs, _onnx("read"), longest=4 << 10),
    Target("tensor", seeds.tensors, _onnx("read_tensor"), longest=4 << 10),
    Target("vectors", seeds.vectors, _vectors, longest=4 << 10),
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
    Target("job-plan", lambda: _job_seeds("plan"), _job_file("plan"), longest=4 << 10),
    Target("job-record", lambda: _job_seeds("part"), _job_file("part"), longest=4 << 10),
    Target("png", seeds.pngs, _picture, mutation.PNG, longest=8 << 10),
    Target("jpeg", seeds.jpegs, _picture, longest=8 << 10),
    Target("gif", seeds.gifs, _picture, longest=8 << 10),
    Target("bmp", seeds.bmps, _picture, longest=8 << 10),
    Target("tiff", seeds.tiffs, _picture, longest=8 << 10),
    Target("webp", seeds.webps, _picture, longest=8 << 10),
    Target("avif", seeds.avifs, _picture, longest=8 << 10),
    Target("ppm", seeds.ppms, _picture, longest=8 << 10),
)


if importlib.util.find_spec("vae_serve.sources.latent_files"):
    TARGETS |= _by_name(Target("latents-npz", seeds.latent_npzs, _latents("z.npz"), mutation.ZIP, longest=8 << 10))
if importlib.util.find_spec("vae_serve.model.saved_model"):
    TARGETS |= _by_name(Target("saved-model", seeds.saved_models, _saved_model, longest=8 << 10))
