"""Work in a forked process: it has what its parent has at once, and ends with its work."""

import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable


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
