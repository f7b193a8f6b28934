"""The figures of merit, on models small enough to know the answer."""

import numpy as np
import pytest

from vae_serve.evaluate import label_figures as labelled
from vae_serve.evaluate import metrics
from vae_serve.images.pixels import to_model
from vae_serve.model import samplers

SHAPE = (4, 5, 1)


@pytest.fixture(scope="module")
def model():
    """A linear decoder of two dimensions, and an encoder that is near its posterior but not on it."""
    stream = np.random.default_rng(3)
    mixing = stream.normal(0, 1.5, (2, 20)).astype(np.float32)

    def decode(z):
        return (1 / (1 + np.exp(-np.clip(z @ mixing + 0.3, -80, 80)))).reshape(-1, *SHAPE).astype(np.float32)

    def encode(images):
        z_mean = (images.reshape(-1, 20) - 0.5) @ mixing.T / 8
        return z_mean.astype(np.float32), np.full((len(images), 2), -1.5, np.float32)

    z = samplers.sample_prior(11, 0, 30, 2)
    images = np.where(stream.random((30, *SHAPE)) < decode(z), 255, 0).astype(np.uint8)
    return encode, decode, images


def test_elbo_is_the_textbook_sum(model):
    encode, decode, images = model
    found = metrics.elbo(encode, decode, images, draws=1, seed=5)
    x = images.astype(np.float64) / 255
    z_mean, z_log_var = encode(to_model(images))
    p = decode(z_mean + np.exp(z_log_var / 2) * samplers.sample_prior(5, 0, 30, 2)).astype(np.float64)
    reconstruction = -(x * np.log(p) + (1 - x) * np.log(1 - p)).sum(axis=(1, 2, 3)).mean()
    kl = 0.5 * (z_mean**2 + np.exp(z_log_var) - 1 - z_log_var).sum(axis=1).mean()
    assert found.reconstruction == pytest.approx(reconstruction, rel=1e-6)
    assert found.kl == pytest.approx(kl, rel=1e-6)
    assert found.negative_elbo == pytest.approx(reconstruction + kl, rel=1e-6)


def test_elbo_does_not_depend_on_the_batch(model, monkeypatch):
    whole = metrics.elbo(*model)
    monkeypatch.setattr(metrics, "BATCH", 7)
    parts = metrics.elbo(*model)
    assert parts.negative_elbo == pytest.approx(whole.negative_elbo, rel=1e-12)


def test_a_pixel_of_probability_zero_costs_a_finite_number_of_nats():
    ink = np.ones((1, 1, 1, 1), np.float32)
    assert metrics.bernoulli_nats(ink, np.zeros_like(ink)) == pytest.approx(-np.log(1e-7), rel=1e-6)
    assert metrics.bernoulli_nats(0 * ink, ink) == pytest.approx(-np.log(1e-7), rel=0.02)  # float32 near 1


def test_lattice_and_importance_sampling_find_the_same_likelihood(model):
    encode, decode, images = model
    fine, coarse = metrics.lattice_log_likelihood(decode, images, span=6.0, side=121)
    sampled = metrics.importance_log_likelihood(encode, decode, images, samples=5000)
    assert fine == pytest.approx(coarse, abs=1e-3)
    assert sampled == pytest.approx(fine, abs=0.1)
    assert abs(sampled.mean() - fine.mean()) < 0.02
    # and both lie above the bound that they replace
    assert -fine.mean() < metrics.elbo(*model).negative_elbo


def test_a_lattice_that_is_too_coarse_shows_it(model):
    _, decode, images = model
    fine, coarse = metrics.lattice_log_likelihood(decode, images, span=6.0, side=9)
    assert np.abs(fine - coarse).max() > 0.1


def test_the_likelihoods_of_all_images_add_up_to_one(model):
    """Two pixels have four images: a normalised likelihood sums to 1 over them."""
    every = np.array([[0, 0], [0, 255], [255, 0], [255, 255]], np.uint8).reshape(4, 1, 2, 1)

    def decode(z):
        return (1 / (1 + np.exp(-z @ np.array([[1.0, -2.0], [0.5, 0.7]])))).reshape(-1, 1, 2, 1).astype(np.float32)

    fine, _ = metrics.lattice_log_likelihood(decode, every, span=8.0, side=161)
    assert np.exp(fine).sum() == pytest.approx(1, abs=1e-5)


def test_posteriors_that_equal_the_prior_carry_nothing():
    found = metrics.latent_figures(np.zeros((400, 3), np.float32), np.zeros((400, 3), np.float32))
    assert found.marginal_kl == pytest.approx(0, abs=1e-5)
    assert found.mutual_information == pytest.approx(0, abs=1e-5)
    assert (found.active_units, found.dimensions) == (0, 3)


def test_posteriors_far_apart_tell_the_images_apart():
    z_mean = np.stack([np.arange(64.0), np.zeros(64)], axis=1).astype(np.float32)
    found = metrics.latent_figures(z_mean, np.full((64, 2), -9.0, np.float32))
    assert found.mutual_information == pytest.approx(np.log(64), rel=0.2)  # one draw an image
    assert found.active_units == 1


def test_labels_are_read_from_separate_clusters_and_not_from_noise():
    stream = np.random.default_rng(0)
    labels = np.repeat(np.array([3, 5, 8]), 100)
    centres = {3: (0, 0), 5: (4, 0), 8: (0, 4)}
    z = np.array([centres[label] for label in labels]) + stream.normal(0, 0.3, (300, 2))
    apart = labelled.label_figures(z[::2].astype(np.float32), labels[::2], z[1::2].astype(np.float32), labels[1::2])
    assert (apart.knn_accuracy, apart.linear_accuracy) == (1.0, 1.0)
    noise = stream.normal(0, 1, (300, 2)).astype(np.float32)
    mixed = labelled.label_figures(noise[::2], labels[::2], noise[1::2], labels[1::2])
    assert mixed.knn_accuracy < 0.5
    assert mixed.linear_accuracy < 0.5


def test_the_work_of_the_label_figures_is_bounded_and_what_is_left_out_is_said(monkeypatch):
    stream = np.random.default_rng(0)
    labels = np.array([f"class {number % 40}" for number in range(2000)])
    z = stream.normal(0, 0.1, (2000, 40)).astype(np.float32) + np.eye(40, dtype=np.float32)[np.arange(2000) % 40]
    whole = labelled.label_figures(z, labels, z[:200], labels[:200])
    assert (whole.references, whole.left_out) == (2000, ())
    monkeypatch.setattr(labelled, "PROBE_WORK", 2 * 40 * 40 * 500)
    few = labelled.label_figures(z, labels, z[:200], labels[:200])
    assert few.left_out == ("the linear probe learnt from 500 of 2,000 images",)
    assert min(few.linear_accuracy, few.knn_accuracy) > 0.9
    assert len(labelled.chosen(1_000_000)) == labelled.REFERENCES


def test_ssim_is_one_for_the_same_picture_and_follows_its_formula(digits):
    one, other = to_model(digits[:1]), to_model(digits[1:2])
    assert metrics.ssim(one, one) == pytest.approx(1)
    # the definition, window by window
    weights = np.exp(-((np.arange(11) - 5) ** 2) / 4.5)
    weights = np.outer(weights, weights) / weights.sum() ** 2
    expected = []
    for row in range(18):
        for column in range(18):
            x, y = (image[0, row : row + 11, column : column + 11, 0].astype(np.float64) for image in (one, other))
            mean_x, mean_y = (weights * x).sum(), (weights * y).sum()
            var_x, var_y = (weights * (x - mean_x) ** 2).sum(), (weights * (y - mean_y) ** 2).sum()
            covariance = (weights * (x - mean_x) * (y - mean_y)).sum()
            expected.append(
                (2 * mean_x * mean_y + 1e-4)
                * (2 * covariance + 9e-4)
                / ((mean_x**2 + mean_y**2 + 1e-4) * (var_x + var_y + 9e-4))
            )
    assert metrics.ssim(one, other) == pytest.approx(np.mean(expected), rel=1e-9)


def test_binarised_targets_hold_two_values_and_dynamic_ones_keep_the_mean(digits):
    assert metrics.binarised(digits, "greyscale") is digits
    for target in ("threshold", "dynamic"):
        assert set(np.unique(metrics.binarised(digits[:100], target))) == {0, 255}
    dynamic = metrics.binarised(digits[:2000], "dynamic", seed=4)
    assert dynamic.mean() == pytest.approx(digits[:2000].mean(), rel=0.01)
    assert (dynamic == metrics.binarised(digits[:2000], "dynamic", seed=4)).all()
