"""What a bundle, a run or a job says of itself: JSON, TOML, CSV and the arrays beside it."""

import json
from dataclasses import asdict
from typing import Any

import numpy as np

from fuzzing.seeds import BUNDLE
from fuzzing.seeds.sources import images, npz


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
    return [npz(np.savez, **arrays)]


def gate_images() -> list[bytes]:
    """The images that an export compares on, packed as a run has them, and not."""
    return [npz(np.savez_compressed, images=images()[..., None]), npz(np.savez, images=images()[..., None])]


def checkpoint_notes() -> list[bytes]:
    """The note beside a checkpoint."""
    return [_json({"sha256": "0" * 64, "epoch": 1, "step": 3, "total": 375, "history": [{"loss": 200.5}]})]


def conformance_rules() -> list[bytes]:
    """conformance.json."""
    return [(BUNDLE / "conformance" / "conformance.json").read_bytes()]
