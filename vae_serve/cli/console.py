"""What the commands print: messages and progress to stderr, results to stdout.

Nothing else in the package prints. The text may come from an untrusted file, so all of it goes through
`vae_serve.quoting`: a terminal shows control characters and does not obey them.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Annotated, Any, Protocol

import typer

from vae_serve import quoting
from vae_serve.cli import progress_line

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object to stdout.")]

PLAIN_SECONDS = 10.0  # between two progress lines where there is no terminal


def say(text: str) -> None:
    """One line to the person, on stderr."""
    print(f"vae-serve: {quoting.terminal(text)}", file=sys.stderr, flush=True)


def say_traceback(error: BaseException) -> None:
    """The traceback of `error`, on stderr."""
    import traceback

    for block in traceback.format_exception(error):
        for line in block.splitlines():
            print(quoting.terminal(line), file=sys.stderr)


def show(line: object) -> None:
    """One line of a result that is meant for a person, on stdout."""
    print(quoting.terminal(line))


def emit(result: dict[str, Any]) -> None:
    """The machine-readable result, on stdout."""
    print(quoting.json(result, indent=1), flush=True)


class Report(Protocol):
    """Told how far a long job is: units done in all, and figures worth seeing, such as errors=3 or loss=151.2."""

    def __call__(self, done: int, total: int | None = None, /, **figures: float | str) -> None: ...  # noqa: D102


@contextmanager
def progress(what: str, total: int | None, unit: str, quiet: bool = False) -> Iterator[Report]:
    """A progress bar on a terminal, a plain line now and then where there is none, nothing when quiet.

    Shows units done, units per second, time left and the figures last reported, as far as there is room. The bar comes
    with the first report: it has a thread, and before there is anything to report processes may be forked.
    """
    if quiet:
        yield lambda *_, **__: None
    elif sys.stderr.isatty():
        with _bar(what, total, unit) as report:
            yield report
    else:
        yield _lines(what, total, unit)


class _Rate:
    """Units a second since the first report: what was done before, and the start-up, do not count."""

    def __init__(self) -> None:
        self._first: tuple[int, float] | None = None
        self.seconds = 0.0
        """From the first report to the last."""

    def __call__(self, done: int) -> float:
        now = time.monotonic()
        first_done, first = self._first = self._first or (done, now)
        self.seconds = now - first
        return (done - first_done) / self.seconds if self.seconds else 0.0


@contextmanager
def _bar(what: str, total: int | None, unit: str) -> Iterator[Report]:
    """Its last line says 100 % where the job has come to its end."""
    rate = _Rate()
    state = progress_line.State(quoting.terminal(what), unit, total=total)
    with ExitStack() as opened:
        show: Callable[[progress_line.State], None] | None = None

        def report(done: int, new_total: int | None = None, /, **figures: float | str) -> None:
            nonlocal show, state
            if show is None:
                show = opened.enter_context(_opened_bar(state))
            shown = {
                name: quoting.terminal(value) if isinstance(value, str) else value for name, value in figures.items()
            }
            speed = rate(done)
            total = new_total or state.total
            state = state._replace(done=done, total=total, seconds=rate.seconds, rate=speed, figures=shown)
            show(state)

        yield report
        if show is not None and state.total:
            show(state._replace(done=state.total))


@contextmanager
def _opened_bar(state: progress_line.State) -> Iterator[Callable[[progress_line.State], None]]:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn, Task
    from rich.text import Text

    console = Console(stderr=True)
    unicode = (sys.stderr.encoding or "").lower().startswith("utf")
    marks = progress_line.MARKS if unicode else progress_line.ASCII_MARKS

    class Line(ProgressColumn):
        def render(self, task: Task) -> Text:
            # a terminal may wrap a line that ends at its edge, and the column has a space after it
            return Text(
                progress_line.line(task.fields["state"], console.width - 2, marks), no_wrap=True, overflow="crop"
            )

    with Progress(Line(), console=console, transient=False) as bar:
        task = bar.add_task("", total=state.total, state=state)
        yield lambda state: bar.update(task, total=state.total, completed=state.done, state=state)


def _lines(what: str, total: int | None, unit: str) -> Report:
    last = time.monotonic()
    rate = _Rate()

    def report(done: int, new_total: int | None = None, /, **figures: float | str) -> None:
        nonlocal last, total
        total = new_total or total
        speed = rate(done)
        now = time.monotonic()
        if now - last < PLAIN_SECONDS:
            return
        last = now
        of = f"/{total:,}" if total else ""
        state = progress_line.State(what, unit, done, total, rate.seconds, speed, figures)
        told = (f"{what}: {done:,}{of} {unit}", progress_line.rate(state), progress_line.time_left(state))
        say("  ".join((", ".join(filter(None, told)), *progress_line.figures(state))))

    return report
