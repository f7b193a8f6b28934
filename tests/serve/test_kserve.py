"""KServe's client gets the bits that ONNX Runtime gives. scripts/kserve makes the environment that it needs."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from serving import MNIST, serving

ENVIRONMENT = Path(sys.prefix).with_name(f"{Path(sys.prefix).name}-kserve")
BATCHES = (1, 7, 64, 256)


@pytest.mark.skipif(not (ENVIRONMENT / ".made-from").exists(), reason="scripts/kserve makes what this needs")
def test_kserves_client_gets_what_onnx_runtime_gives_to_the_bit(tmp_path, images, points, expected):
    inputs, outputs = tmp_path / "inputs.npz", tmp_path / "outputs.npz"
    given = {f"image/{rows}": images[:rows] for rows in BATCHES} | {f"z/{rows}": points[:rows] for rows in BATCHES}
    np.savez(inputs, **given)
    with serving("--model", MNIST, "--grpc-port", 0, cwd=tmp_path) as service:
        client = [
            ENVIRONMENT / "bin" / "python",
            Path(__file__).with_name("kserve_client.py"),
            service.url,
            service.told["grpc"],
        ]
        alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run([*client, inputs, outputs], env=alone, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    wanted: dict[str, np.ndarray] = {}
    for how in ("json", "binary", "grpc"):
        for rows in BATCHES:
            z_mean, z_log_var = expected.encode(images[:rows])
            wanted |= {f"image/{rows}/{how}/z_mean": z_mean, f"image/{rows}/{how}/z_log_var": z_log_var}
            wanted[f"z/{rows}/{how}/image"] = expected.decode(points[:rows])
    with np.load(outputs) as answers:
        assert {key: answer.astype(np.float32).tobytes() for key, answer in answers.items()} == {
            key: value.tobytes() for key, value in wanted.items()
        }
