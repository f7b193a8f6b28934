"""--shard I/N, as it is typed: the share of one of several machines."""

import re

from vae_serve.errors import UsageError


def parse_share(text: str) -> tuple[int, int]:
    """`2/4` is the second of four shares.

    Raises:
        UsageError: anything but I/N with 1 <= I <= N.
    """
    numbers = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text, re.ASCII)
    if not numbers or not 1 <= int(numbers[1]) <= int(numbers[2]):
        raise UsageError(f"--shard {text}: give I/N with I from 1 to N, such as 1/4")
    return int(numbers[1]), int(numbers[2])
