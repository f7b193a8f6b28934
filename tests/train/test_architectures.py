"""The networks are the ones that the project says they are."""

import keras
import numpy as np
import pytest

from vae_serve.errors import UsageError
from vae_serve.training.architectures import build


@pytest.mark.parametrize(
    ("arch", "encoder_count", "decoder_count", "trainable_count"),
    [
        ("conv", 17_208, 9_137, 24_641),
        ("wide", 4_044_984, 4_683_521, 8_324_753),
        ("dcgan", 17_298_104, 43_457_025, 60_739_217),
        ("mlp", 534_276, 534_544, 1_068_820),
    ],
)
def test_parameter_counts_are_those_of_the_table(arch, encoder_count, decoder_count, trainable_count):
    encoder, decoder = build(arch, (28, 28, 1), 2)
    assert encoder.count_params() == encoder_count
    assert decoder.count_params() == decoder_count
    trainable = sum(int(np.prod(weight.shape)) for model in (encoder, decoder) for weight in model.trainable_weights)
    assert trainable == trainable_count


@pytest.mark.parametrize("arch", ["conv", "mlp"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (33, 17, 3), (27, 30, 4)])
@pytest.mark.parametrize("latent_dim", [1, 16])
def test_any_image_shape_and_latent_size_comes_back_as_it_went_in(arch, shape, latent_dim):
    encoder, decoder = build(arch, shape, latent_dim)
    z_mean, z_log_var = encoder(np.zeros((2, *shape), np.float32))
    assert z_mean.shape == z_log_var.shape == (2, latent_dim)
    assert decoder(z_mean).shape == (2, *shape)


@pytest.mark.parametrize("arch", ["conv", "mlp"])
def test_outputs_stay_float32_under_half_precision(arch):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        encoder, decoder = build(arch, (28, 28, 1), 2)
    finally:
        keras.config.set_dtype_policy(before)
    assert {output.dtype for output in [*encoder.outputs, *decoder.outputs]} == {"float32"}
    assert encoder.layers[-3].compute_dtype == "bfloat16"


@pytest.mark.parametrize(
    ("arch", "shape", "latent_dim", "message"),
    [
        ("vgg", (28, 28, 1), 2, "--arch vgg: the architectures are conv, wide, dcgan, mlp"),
        ("conv", (28, 28, 1), 0, "--latent-dim 0: a latent space has at least 1 dimension"),
        ("conv", (0, 28, 1), 2, r"an image of shape \(0, 28, 1\) has no pixels"),
    ],
)
def test_what_cannot_be_built_is_said(arch, shape, latent_dim, message):
    with pytest.raises(UsageError, match=message):
        build(arch, shape, latent_dim)
