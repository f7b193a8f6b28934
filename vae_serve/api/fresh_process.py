"""Work that forks, called from a process that must not: it is done in a new Python process of its own.

The decoding processes are forked, which copies one thread and the locks of all. A command line has one thread then. A
program may have any number: a notebook's kernel, a server, TensorFlow. There the whole of the work is done by a new
interpreter that runs nothing but this package, and its rows, progress and errors come back through a pipe. `subprocess`
starts it, which is safe beside threads; the program's main module is not imported, and needs no `__main__` guard.

The new process has a session of its own: Ctrl-C reaches the program alone, which ends the work and all processes of it.
"""

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any, BinaryIO, Generic, TypeVar

import msgspec

from vae_serve.api.progress import Note, Progress
from vae_serve.errors import SourceError, UsageError, VaeServeError

Row = TypeVar("Row")
Result = TypeVar("Result")

_START = """
import sys, json
sys.path[:] = json.loads(sys.argv[1])
from vae_serve.api.fresh_process import main
main(int(sys.argv[2]))
"""


class Work(msgspec.Struct, Generic[Row, Result], frozen=True):
    """What is to be done: a function of a module of this package, and what it is given. Picklable."""

    function: Callable[[Any, Progress, Note], Generator[Row, None, Result]]
    request: Any


def steps(work: Work[Row, Result], progress: Progress, note: Note, *, fresh: bool) -> Generator[Row, None, Result]:
    """The work, in a `fresh` process or in this one."""
    if fresh:
        return (yield from run(work, progress, note))
    return (yield from work.function(work.request, progress, note))


def result(steps: Generator[Row, None, Result]) -> Result:
    """What they come to in the end."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            returned: Result = end.value
            return returned


def run(work: Work[Row, Result], progress: Progress, note: Note) -> Generator[Row, None, Result]:
    """Yields what the work yields, and returns what it returns. Closing it ends the process and all that it started.

    Raises:
        VaeServeError: what the work raises; SourceError where the process was ended.
        UsageError: no new Python process can be started.
    """
    import json

    if not sys.executable:
        raise UsageError(
            "this program embeds Python and has several threads; call from a process with one thread, or run the "
            "command: vae-serve"
        )
    contents = pickle.dumps(work, pickle.HIGHEST_PROTOCOL)
    answers, write_end = os.pipe()
    path = [entry or os.getcwd() for entry in sys.path if isinstance(entry, str)]  # noqa: PTH109
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", _START, json.dumps(path), str(write_end)],
            stdin=subprocess.PIPE,
            pass_fds=(write_end,),
            env={"OPENBLAS_NUM_THREADS": "1", **os.environ},
            start_new_session=True,
        )
    except BaseException:
        os.close(answers)
        raise
    finally:
        os.close(write_end)
    ended = False
    try:
        with os.fdopen(answers, "rb") as told:
            assert process.stdin is not None  # noqa: S101  it is a pipe
            with suppress(BrokenPipeError), process.stdin as stdin:
                stdin.write(contents)
            answer: Result = yield from _answers(told, process, progress, note)
            ended = True
            return answer
    finally:
        if not ended:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(
    told: BinaryIO, process: "subprocess.Popen[bytes]", progress: Progress, note: Note
) -> Generator[Any, None, Any]:
    while True:
        try:
            kind, value = pickle.load(told)  # noqa: S301  from our own child
        except (EOFError, pickle.UnpicklingError):
            code = process.wait()
            how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
            raise SourceError(
                f"the process that did the work was ended ({how}); call again: what it finished stays"
            ) from None
        match kind:
            case "row":
                yield value
            case "progress":
                done, total, figures = value
                progress(done, total, **figures)
            case "note":
                note(value)
            case "error":
                raise value
            case _:
                return value


def main(answer: int) -> None:
    """The life of the new process."""
    from vae_serve import start

    start.prepare()
    with os.fdopen(answer, "wb") as out:
        try:
            _serve(out)
            out.flush()
        except BrokenPipeError:  # the program is gone
            os._exit(1)
    start.leave(0)


def _serve(out: BinaryIO) -> None:
    def tell(kind: str, value: object) -> None:
        pickle.dump((kind, value), out, pickle.HIGHEST_PROTOCOL)
        out.flush()

    def progress(done: int, total: int | None = None, /, **figures: float | str) -> None:
        tell("progress", (done, total, figures))

    try:
        work: Work[Any, Any] = pickle.load(sys.stdin.buffer)  # noqa: S301  from our own parent
        steps = work.function(work.request, progress, lambda line: tell("note", line))
        while True:
            try:
                row = next(steps)
            except StopIteration as end:
                tell("result", end.value)
                return
            tell("row", row)
    except BrokenPipeError:
        raise
    except (VaeServeError, OSError, MemoryError) as error:
        tell("error", error)
