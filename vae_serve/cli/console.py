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

    Shows units done, units per second, time left and the figures last reported. The bar comes with the first report:
    it has a thread, and before there is anything to report processes may be forked.
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

    def __call__(self, done: int) -> float:
        now = time.monotonic()
        first_done, first = self._first = self._first or (done, now)
        return (done - first_done) / (now - first) if now > first else 0.0


def _figures(figures: dict[str, float | str]) -> str:
    return "  ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in figures.items()
    )


@contextmanager
def _bar(what: str, total: int | None, unit: str) -> Iterator[Report]:
    with ExitStack() as opened:
        rate, report_to = _Rate(), None

        def report(done: int, new_total: int | None = None, /, **figures: float | str) -> None:
            nonlocal report_to
            if report_to is None:
                report_to = opened.enter_context(_opened_bar(what, total))
            report_to(new_total, done, f"{rate(done):,.0f} {unit}/s", quoting.terminal(_figures(figures)))

        yield report


@contextmanager
def _opened_bar(what: str, total: int | None) -> Iterator[Callable[[int | None, int, str, str], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True), transient=False) as bar:
        task = bar.add_task(quoting.terminal(what), total=total, rate="", figures="")

        def update(new_total: int | None, done: int, rate: str, figures: str) -> None:
            if new_total:
                bar.update(task, total=new_total)
            bar.update(task, completed=done, rate=rate, figures=figures)

        yield update


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
        at = f", {speed:,.1f}/s" if speed else ""
        left = f", {(total - done) / speed:,.0f} s left" if total and speed else ""
        of = f"/{total:,}" if total else ""
        say(f"{what}: {done:,}{of} {unit}{at}{left}  {_figures(figures)}".rstrip())

    return report
