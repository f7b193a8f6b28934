"""Work in another process: one that is forked, which has what its parent has at once, or a new Python."""

import json
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress

_OWN_PROCESS = False  # whether this process does nothing but one command
_START_THREADS = {"jax", "numpy", "onnxruntime", "pyarrow", "tensorflow", "torch"}


def own_process() -> None:
    """Says that this process is a command's: what it has imported and started is known, and it forks in time."""
    global _OWN_PROCESS  # noqa: PLW0603
    _OWN_PROCESS = True


def safe() -> bool:
    """Whether a fork copies this process whole: there is no other thread, whose locks would stay locked in the copy.

    Linux counts the threads that libraries have started, too. Elsewhere it is no, once one that does is loaded.
    """
    if not hasattr(os, "fork"):
        return False
    if _OWN_PROCESS:
        return True
    with suppress(OSError):
        return len(os.listdir("/proc/self/task")) == 1  # noqa: PTH208
    return threading.active_count() == 1 and not _START_THREADS & sys.modules.keys()


def wait(process: int) -> None:
    """Waits for a forked process to end, unless a handler of this process' own has done so already."""
    with suppress(ChildProcessError):
        os.waitpid(process, 0)


def fork(work: Callable[[], object]) -> int:
    """Starts `work` in a process of its own and returns that process' number; its exit status is 0 where all went well.

    What is raised there is said on stderr, except that nobody reads its answers any more. It does not heed Ctrl-C: the
    parent decides, and a process that reads from or writes to its parent ends with it.
    """
    with warnings.catch_warnings():
        # Python 3.12 warns of a fork beside threads; the only ones here are a BLAS' idle ones
        warnings.simplefilter("ignore", DeprecationWarning)
        process = os.fork()
    if process:
        return process
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        work()
        status = 0
    except BrokenPipeError:  # the parent is gone
        pass
    except BaseException:  # noqa: BLE001  said, and the parent sees the status
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


def limit_memory(more: int) -> None:
    """What would take this process more than `more` bytes beyond what it has now gets MemoryError.

    Linux alone counts what a process has so; elsewhere nothing is limited.
    """
    with suppress(OSError, ValueError, ImportError):
        import resource
        from pathlib import Path

        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData"))
        limit, hard = int(line.split()[1]) * 1024 + more, resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


_START = """
import sys, json
sys.path[:] = json.loads(sys.argv[1])
from importlib import import_module
import_module(sys.argv[2]).main(*map(int, sys.argv[3:]))
"""


def new_python(module: str, *numbers: int) -> list[str]:
    """The command of a new Python process that finds the same packages and calls the module's `main` with numbers.

    It imports nothing of the program that starts it, whose main module needs no `__main__` guard.
    """
    path = [entry or os.getcwd() for entry in sys.path if isinstance(entry, str)]  # noqa: PTH109
    return [sys.executable, "-c", _START, json.dumps(path), module, *map(str, numbers)]
