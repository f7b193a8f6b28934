"""The command line as a process of its own: what `vae-serve` and `python -m vae_serve` run."""

import os
import sys
from contextlib import suppress
from typing import NoReturn

from vae_serve.cli import main


def run() -> NoReturn:
    """Runs one command and ends the process.

    At once: every file is closed by then, and taking the interpreter and its libraries apart would only take time.
    """
    try:
        main()
    except SystemExit as left:
        if isinstance(left.code, int):
            with suppress(OSError):  # where nobody reads any more, the interpreter says so in its own way
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(left.code)
        raise


if __name__ == "__main__":
    run()
