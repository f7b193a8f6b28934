"""A question that a forked process of its own answers, so that the asker goes on meanwhile, or stays as it is."""

import os
import pickle
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

from vae_serve.errors import VaeServeError
from vae_serve.forks import fork, wait

T = TypeVar("T")
Told = Callable[[int], object]  # how many there are so far

TELL_EVERY = 1.0  # seconds


def told_nothing(_: int) -> None:
    """Nobody wants to know how far it is."""


class Answer(Generic[T]):
    """What a function returns or raises in a process of its own. Only errors of this package are raised again."""

    def __init__(self, function: Callable[[Told], T], ended: VaeServeError) -> None:
        """Begins at once. The function tells how far it is; `ended` is raised where the process was ended."""
        self._ended = ended
        answers, answer = os.pipe()

        def work() -> None:
            os.close(answers)  # the parent's alone: with it gone, writing ends, and so does this process
            with os.fdopen(answer, "wb") as out:
                told_at = time.monotonic()

                def tell(count: int) -> None:
                    nonlocal told_at
                    if time.monotonic() - told_at >= TELL_EVERY:
                        told_at = time.monotonic()
                        pickle.dump(count, out)
                        out.flush()

                try:
                    result: tuple[T | VaeServeError] = (function(tell),)
                except VaeServeError as error:
                    result = (error,)
                pickle.dump(result, out, pickle.HIGHEST_PROTOCOL)

        self._process = fork(work)
        os.close(answer)
        self._answers = os.fdopen(answers, "rb")

    def takes_longer_than(self, seconds: float) -> bool:
        """Waits so long at most."""
        return not select.select([self._answers], [], [], seconds)[0]

    def result(self, told: Told = told_nothing) -> T:
        """Waits for it; to be called once. Raises what the function raises."""
        with self._answers:
            try:
                while isinstance(answer := pickle.load(self._answers), int):  # noqa: S301  from our own child
                    told(answer)
            except (EOFError, pickle.UnpicklingError):
                answer = (self._ended,)
            except BaseException:
                self.stop()
                raise
        wait(self._process)
        result: T | VaeServeError = answer[0]
        if isinstance(result, VaeServeError):
            raise result
        return result

    def stop(self) -> None:
        """Ends it: nobody wants to know."""
        self._answers.close()
        with suppress(ProcessLookupError):
            os.kill(self._process, signal.SIGKILL)
        wait(self._process)
