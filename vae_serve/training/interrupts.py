"""Ctrl-C, or the signal that ends a process (SIGTERM), while a step runs."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def polite_interrupts() -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C or SIGTERM lets the step end, the second one does not wait.

    A program's own handler of SIGTERM stays. Other threads than the main one get no signals.
    """
    interrupted = False
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    again: dict[signal.Signals, Callable[[int, FrameType | None], object] | signal.Handlers] = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
    }
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        del again[signal.SIGTERM]

    def ask(number: int, _: object) -> None:
        nonlocal interrupted
        interrupted = True
        signal.signal(number, again[signal.Signals(number)])

    before = {number: signal.signal(number, ask) for number in again}
    try:
        yield lambda: interrupted
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
