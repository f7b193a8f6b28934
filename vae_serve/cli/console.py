"""What the commands say: talk and progress to stderr, data to stdout."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Protocol

import typer

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object with the result to stdout at the end.")]

PLAIN_SECONDS = 10.0  # between two progress lines where there is no terminal


def say(text: str) -> None:
    """One line to the person, on stderr."""
    print(f"vae-serve: {text}", file=sys.stderr, flush=True)


def emit(result: dict[str, Any]) -> None:
    """The machine-readable result, on stdout."""
    text = json.dumps(result, indent=1, ensure_ascii=False, default=str)
    # a path that is not UTF-8 holds lone surrogates; their backslash escapes are JSON's own
    print(text.encode("utf-8", "backslashreplace").decode(), flush=True)


class Report(Protocol):
    """Told how far a long job is: units done in all, and figures worth seeing, such as errors=3 or loss=151.2."""

    def __call__(self, done: int, total: int | None = None, /, **figures: float | str) -> None: ...  # noqa: D102


@contextmanager
def progress(what: str, total: int | None, unit: str, quiet: bool = False) -> Iterator[Report]:
    """A progress bar on a terminal, a plain line now and then where there is none, nothing when quiet.

    Shows units done, units per second, time left and the figures last reported.
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
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=False) as bar:
        task = bar.add_task(what, total=total, rate="", figures="")
        rate = _Rate()

        def report(done: int, new_total: int | None = None, /, **figures: float | str) -> None:
            if new_total:
                bar.update(task, total=new_total)
            bar.update(task, completed=done, rate=f"{rate(done):,.0f} {unit}/s", figures=_figures(figures))

        yield report


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
