"""Training is the same arithmetic on several devices, in other precisions, through other kernels and other backends."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from vae_serve.images.pixels import to_model
from vae_serve.training import kernels
from vae_serve.training.architectures import build
from vae_serve.training.model import VariationalAutoencoder

ROOT = Path(__file__).parent.parent.parent

ON_TWO = """
import sys
from pathlib import Path
from vae_serve.training import backend
backend.start("test")
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from vae_serve.training import config, data, devices, fit
devices.choose = lambda *_, **__: tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
hooks = fit.Hooks(lambda *_, **__: None, print)
chosen = config.Config(arch="mlp", epochs=2, batch_size=64)
run = fit.train(chosen, data.load(sys.argv[1]), Path("two"), "test", hooks)
assert fit.tf.distribute.get_strategy().num_replicas_in_sync == 1
print(run.record["metrics"]["test"]["negative_elbo"], run.record["metrics"]["last_epoch"]["loss"])
"""

ON_JAX = """
import sys
import keras
import numpy as np
assert keras.backend.backend() == "jax"
from vae_serve.training.architectures import build
from vae_serve.training.model import VariationalAutoencoder
keras.utils.set_random_seed(1)
images = np.load(sys.argv[1])["x_train"][:512, :, :, None].astype("float32") / 255
encoder, decoder = build("conv", (28, 28, 1), 2)
model = VariationalAutoencoder(encoder, decoder)
model.compile(keras.optimizers.Adam(1e-3))
history = model.fit(images, batch_size=64, epochs=2, verbose=0).history["loss"]
assert history[1] < history[0], history
encoder.save("encoder.keras")
decoder.save("decoder.keras")
z_mean, _ = encoder.predict_on_batch(images[:8])
np.savez("seen.npz", image=images[:8], z_mean=z_mean, again=decoder.predict_on_batch(z_mean))
"""


def in_fresh_process(code: str, *words: object, cwd: Path, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_two_logical_devices_train_as_well_as_one(vae_serve, small_data, tmp_path):
    two = in_fresh_process(ON_TWO, small_data, cwd=tmp_path)
    elbo, loss = map(float, two.split()[-2:])
    words = ("--data", small_data, "--arch", "mlp", "--epochs", 2, "--batch-size", 64, "--out", "one")
    one = vae_serve("train", *words, cwd=tmp_path)
    assert one.returncode == 0, one.stderr
    rows = (tmp_path / "one" / "history.csv").read_text().splitlines()
    expected = float(rows[-1].split(",")[rows[0].split(",").index("loss")])
    # the two devices draw other noise for z, and nothing else is different
    assert loss == pytest.approx(expected, rel=0.03)
    assert elbo < 300


@pytest.mark.slow
def test_another_keras_backend_trains_the_model_and_tensorflow_loads_its_weights(small_data, tmp_path):
    pytest.importorskip("jax", reason="the extra dev brings jax")
    in_fresh_process(ON_JAX, small_data, cwd=tmp_path, KERAS_BACKEND="jax")
    encoder, decoder = (keras.models.load_model(tmp_path / f"{name}.keras") for name in ("encoder", "decoder"))
    seen = np.load(tmp_path / "seen.npz")
    z_mean, _ = encoder.predict_on_batch(seen["image"])
    np.testing.assert_allclose(z_mean, seen["z_mean"], atol=1e-5)
    np.testing.assert_allclose(decoder.predict_on_batch(seen["z_mean"]), seen["again"], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_trains_and_leaves_float32_networks(vae_serve, small_data, tmp_path, precision):
    with np.load(small_data) as data:  # few: float16 is slow on processors that have none
        np.savez(tmp_path / "few.npz", **{name: data[name][:400] for name in data})
    words = ("--data", "few.npz", "--arch", "mlp", "--epochs", 2, "--precision", precision, "--out", "half")
    done = vae_serve("train", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = (tmp_path / "half" / "history.csv").read_text().splitlines()
    losses = [float(row.split(",")[rows[0].split(",").index("loss")]) for row in rows[1:]]
    assert losses[1] < losses[0]
    encoder = keras.models.load_model(tmp_path / "half" / "encoder.keras")
    assert {layer.compute_dtype for layer in encoder.layers} == {"float32"}


@pytest.mark.parametrize("batch_statistics", [True, False])
def test_fused_kernels_take_the_steps_of_keras_own(digits, batch_statistics):
    images = to_model(digits[:96])
    weights = []
    for fused in (False, True):
        keras.utils.set_random_seed(4)
        networks = build("conv", (28, 28, 1), 2)
        if fused:
            networks = kernels.fused(networks[0]), kernels.fused(networks[1])
        model = VariationalAutoencoder(*networks, seed=9)
        model.batch_statistics = batch_statistics
        adam = kernels.FusedAdam if fused else keras.optimizers.Adam
        # a large epsilon: else Adam's first steps are +-rate for any gradient, and rounding decides the sign near 0
        model.compile(adam(1e-3, epsilon=1.0, global_clipnorm=50.0), run_eagerly=True)
        for start in range(0, 96, 32):
            model.train_on_batch(images[start : start + 32])
        weights.append([weight for network in networks for weight in network.get_weights()])
    for plain, quick in zip(*weights, strict=True):
        np.testing.assert_allclose(quick, plain, atol=1e-5)


def test_a_batch_in_parts_gives_the_loss_and_the_gradients_of_the_whole():
    """Uneven ones too; and batch statistics are never those of a part."""
    import tensorflow as tf

    images = to_model(np.random.default_rng(0).integers(0, 256, (31, 28, 28, 1)).astype(np.uint8))
    for batch_statistics in (False, True):
        found = []
        for parts in (1, 4):
            keras.utils.set_random_seed(3)
            model = VariationalAutoencoder(*map(kernels.fused, build("conv", (28, 28, 1), 2)), seed=3, parts=parts)
            model.batch_statistics = batch_statistics
            with tf.GradientTape() as tape:
                loss = model.compute_loss(images, y_pred=model(tf.constant(images), training=True))
            gradients = tape.gradient(loss, model.trainable_variables)
            found.append([float(loss), *(gradient.numpy() for gradient in gradients)])
        for whole, cut in zip(*found, strict=True):
            np.testing.assert_allclose(cut, whole, rtol=1e-4, atol=2e-4)  # sums of hundreds of nats in float32
