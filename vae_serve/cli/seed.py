"""--seed, as it is typed."""

from vae_serve.errors import UsageError


def checked_seed(seed: int) -> int:
    """The seed of a stream of random numbers.

    Raises:
        UsageError: it is not one of 0..2^64-1.
    """
    if not 0 <= seed < 1 << 64:
        raise UsageError(f"--seed {seed} is not in 0..2^64-1")
    return seed
