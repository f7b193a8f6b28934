"""Ctrl-C while a step runs."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def polite_interrupts() -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C lets the step end, the second one does not wait. Other threads than the main one get none."""
    interrupted = False
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return

    def ask(*_: object) -> None:
        nonlocal interrupted
        interrupted = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield lambda: interrupted
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)
