"""--shard I/N, as it is typed."""

import re

from vae_serve.errors import UsageError


def parse_part(text: str) -> tuple[int, int]:
    """`2/4` is the second of four parts.

    Raises:
        UsageError: anything but i/N with 1 <= i <= N.
    """
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise UsageError(f"--shard {text}: give i/N with i from 1 to N, such as 1/4")
    return int(found[1]), int(found[2])
