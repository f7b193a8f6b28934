"""`evaluate` and `plot` on a bundle whose only graphs take and give bytes."""

import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tasks"))
import linear_bundle


def test_evaluate_measures_a_bundle_of_bytes_as_one_of_floats(tmp_path, vae_serve):
    images = np.random.default_rng(0).integers(0, 256, (60, 6, 5), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", x_train=images[:40], x_test=images[40:])
    figures = {}
    for variant in ("float32", "uint8"):
        folder = linear_bundle.write(tmp_path / variant, latent_dim=3, variant=variant)
        done = vae_serve("evaluate", folder, "--data", "data.npz", "--json", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        figures[variant] = json.loads(done.stdout)["elbo"]
    assert figures["uint8"]["kl"] == figures["float32"]["kl"]
    assert abs(figures["uint8"]["reconstruction"] - figures["float32"]["reconstruction"]) < 0.5  # bytes are rounded
    done = vae_serve("plot", tmp_path / "uint8", "--data", "data.npz", "--out", "plots", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
