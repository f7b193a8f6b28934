"""The command line as a process of its own: what `vae-serve` and `python -m vae_serve` run."""

from typing import NoReturn

from vae_serve import start
from vae_serve.cli import main


def run() -> NoReturn:
    """Runs one command and ends the process."""
    start.run(main)


if __name__ == "__main__":
    run()
