"""--workers, as it is typed."""

from vae_serve.errors import UsageError


def parse_workers(text: str) -> int:
    """A number from 1; `auto` is as many as this process has cores.

    Raises:
        UsageError: anything else.
    """
    from vae_serve.cores import cores

    if text == "auto":
        return cores()
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise UsageError(f"--workers {text}: give a number from 1, or auto")
