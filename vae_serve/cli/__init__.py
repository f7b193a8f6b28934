"""The command line: options become one call, its result one line. Nothing heavy is imported before it is needed.

Each command lives in a module of its own; here are the table from error to exit code and the way out.
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, NoReturn

import typer

from vae_serve import __version__, errors
from vae_serve.cli import console

OK, FAILED, USAGE, SOME_FAILED, INTERRUPTED = 0, 1, 2, 3, 130

EXIT_CODES: dict[type[Exception], int] = {  # the first that fits
    errors.UsageError: USAGE,
    errors.VaeServeError: FAILED,
    OSError: FAILED,
    MemoryError: FAILED,
}

COMMANDS = (  # in the order of the help; each is the function of this name in the module of this name
    "train",
    "evaluate",
    "plot",
    "runs",
    "export",
    "deploy",
    "verify",
    "inspect",
    "embed",
    "generate",
    "reconstruct",
    "serve",
)


def _version(show: bool) -> None:
    if show:
        print(f"vae-serve {__version__}")
        raise typer.Exit


def _vae_serve(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", "-V", help="Show the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Train a variational autoencoder, export it to ONNX, and run it over any number of pictures.

    Exit codes: 0 success, 1 failure, 2 wrong usage, 3 finished but some inputs failed, 130 interrupted.
    """


def app(arguments: Sequence[str] = ()) -> typer.Typer:
    """The command line with the one command that `arguments` name, or with all: others need not be imported."""
    application = typer.Typer(
        name="vae-serve",
        rich_markup_mode=None,  # plain help answers four times faster
        add_completion=False,
        pretty_exceptions_enable=False,
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    application.callback()(_vae_serve)
    command = next((word for word in arguments if not word.startswith("-")), None)
    for name in (command,) if command in COMMANDS else COMMANDS:
        application.command()(getattr(import_module(f"{__name__}.{name}"), name))
    return application


def main(arguments: list[str] | None = None) -> NoReturn:
    """Runs one command and leaves the process with its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments  # wherever it was typed
    try:
        app(arguments)([word for word in arguments if word != "--debug"], prog_name="vae-serve")
    except SystemExit as exit_:  # Typer's: the command ended, its options were wrong, or Ctrl-C
        if exit_.code == INTERRUPTED:
            console.say("interrupted")
        raise
    except (errors.VaeServeError, OSError, MemoryError) as error:
        if debug:
            console.say_traceback(error)
        console.say(f"error: {_sentence(error)}")
        sys.exit(next(code for kind, code in EXIT_CODES.items() if isinstance(error, kind)))
    sys.exit(OK)


def _sentence(error: Exception) -> str:
    match error:
        case OSError(filename=str() | bytes() as name, strerror=str() as reason):
            return f"{os.fsdecode(name)}: {reason}"
        case MemoryError():
            return f"out of memory {error}".strip()
    return str(error)
