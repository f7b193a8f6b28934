import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vae_serve.model import samplers

AROUND_BLOCKS = st.integers(0, 3 * samplers.DRAW_BLOCK)


@settings(deadline=None)  # time is nobody's promise here
@given(st.integers(0, 2**64 - 1), st.lists(AROUND_BLOCKS, min_size=2, max_size=6), st.integers(1, 5))
def test_any_split_of_a_range_draws_the_same_rows(seed, cuts, latent_dim):
    cuts = sorted(cuts)
    whole = samplers.sample_prior(seed, cuts[0], cuts[-1], latent_dim)
    parts = [samplers.sample_prior(seed, *ends, latent_dim) for ends in itertools.pairwise(cuts)]
    assert whole.shape == (cuts[-1] - cuts[0], latent_dim)
    assert np.array_equal(whole, np.concatenate(parts))


def test_draws_are_standard_normal_and_independent_between_seeds_and_blocks():
    drawn = samplers.sample_prior(0, 0, 100_000, 2)
    other = samplers.sample_prior(1, 0, 100_000, 2)
    assert abs(drawn.mean()) < 0.01  # its standard error is 0.0022
    assert abs(drawn.std() - 1) < 0.01
    assert abs(np.corrcoef(drawn.ravel(), other.ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(drawn[:4096, 0], drawn[4096:8192, 0])[0, 1]) < 0.08  # standard error 0.016


def test_the_first_draws_of_seed_zero_never_change():
    # People name a sample by (seed, i). numpy promises Philox's bits, not its normals: this would tell.
    first = [[0.059911035001277924, 0.015559634193778038], [-1.1644384860992432, -0.13264712691307068]]
    assert np.array_equal(samplers.sample_prior(0, 0, 2, 2), np.float32(first))
