"""How a command's process starts and ends. What is decided about the process itself is decided and explained here.

A command is a process of a tenth of a second to hours, and for the short ones start-up is most of it. The order:

1. `run` calls the command line, which imports Typer and the module of the command asked for. Nothing heavy is
   imported at module level: NumPy costs 0.1 s, ONNX Runtime 0.2, TensorFlow 2 to 5.
2. A command that serves calls `prepare` first of all: settings that hold only if they come before NumPy is imported.
3. `embed` of a folder then forks a process that lists it (`sources.listing.begin`). A fork is cheap and safe while
   the process is small and has one thread: there is no lock that another thread could hold for ever in the copy. So it
   comes before the imports, and the folder is listed while NumPy is loaded.
4. For the same reason the decoding processes are forked (`jobs.decode_pool`) before ONNX Runtime and Arrow are
   imported, both of which start threads. They decode while those load.
5. `leave` ends the process without taking it apart.

All of this is the command line's. A program that calls the Python API has a process of its own making: nothing is set
there, and where it has threads nothing is forked, see `vae_serve.api.fresh_process`.

Listing, the decode pool and its server fork, all through `vae_serve.forks`. A place that forks later, from a process
with threads, must have its processes forked by one that was forked in time, as `jobs.decode_server` is.
"""

import gc
import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from vae_serve import forks

COLLECT_AFTER = 100_000  # new objects; Python's own threshold is 700 to 2,000


def run(command_line: Callable[[], NoReturn]) -> NoReturn:
    """Runs a command line that ends with SystemExit, and ends the process."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # where the locale cannot write a name, its escapes can be
    try:
        command_line()
    except SystemExit as exit_:
        if isinstance(exit_.code, int):
            leave(exit_.code)
        raise


def prepare() -> None:
    """What a command that serves settles before it imports NumPy.

    No product of matrices is computed with NumPy there, so that its BLAS' threads would only cost start-up time and be
    in the way of a fork. Importing and listing make many objects and no garbage: with Python's threshold the collector
    took a sixth of `embed`'s start-up to find none.
    """
    forks.own_process()
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    gc.set_threshold(COLLECT_AFTER)


def leave(code: int) -> None:
    """Ends the process at once: the interpreter and its libraries are not taken apart, which would only take time.

    All files are closed by then; only the standard streams are flushed. Returns where that fails, since the interpreter
    then has something to say: nobody reads them any more, or the disk is full.
    """
    with suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
