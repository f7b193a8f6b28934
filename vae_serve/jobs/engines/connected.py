"""A new Python process, with a connection to it and one from it."""

import os
import subprocess
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import IO

from vae_serve import forks


def start(
    module: str, variables: Mapping[str, str], said: IO[bytes] | None = None
) -> "tuple[subprocess.Popen[bytes], Connection, Connection]":
    """Starts the `main` of a module, with the numbers of two open files: what it reads, and what it writes.

    Returns the process, what writes to it and what reads from it. `variables` are added to the environment; `said`
    takes its standard output and error. Ctrl-C does not reach it: that is for the process that plans.
    """
    read_there, write_here = os.pipe()
    read_here, write_there = os.pipe()
    try:
        process = subprocess.Popen(
            forks.new_python(module, read_there, write_there),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            pass_fds=(read_there, write_there),
            env={**os.environ, **variables},
            start_new_session=True,
        )
    finally:
        os.close(read_there)
        os.close(write_there)
    return process, Connection(write_here, readable=False), Connection(read_here, writable=False)
