"""`vae-serve serve`: the networks of a bundle over HTTP and gRPC."""

from pathlib import Path
from typing import Annotated

import typer

from vae_serve import start
from vae_serve.cli import console
from vae_serve.cli.timeout import PictureTimeout
from vae_serve.cli.workers import parse_workers
from vae_serve.errors import UsageError

MOST_PORT = 65535


def serve(
    *,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="The bundle's folder or s3:// URL. [default: the newest in exports/, else the packaged one]",
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen at; 0.0.0.0 is every one of this machine.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="The port of HTTP; 0 is any that is free.")] = 8000,
    grpc_port: Annotated[int | None, typer.Option(help="Answer gRPC, too, at this port.")] = None,
    workers: Annotated[str, typer.Option(help="Threads that run the networks; auto is one for each core.")] = "auto",
    watch: Annotated[bool, typer.Option("--watch", help="Load the bundle again when its manifest changes.")] = False,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(help="Let web pages of this origin read answers, such as https://example.org; * is any. Repeat."),
    ] = None,
    access_log: Annotated[
        bool, typer.Option("--access-log", help="Write each request as a line of JSON to stdout.")
    ] = False,
    picture_timeout: PictureTimeout = 10.0,
    quiet: console.Quiet = False,
    as_json: console.AsJson = False,
) -> None:
    """Answer requests over HTTP.

    The Open Inference Protocol, pictures to vectors, points to pictures, a page to explore.

    SIGHUP loads the bundle again, SIGTERM ends the service after what it is answering.
    """
    start.prepare()
    from vae_serve.api.arguments import place_or_none
    from vae_serve.model import bundle
    from vae_serve.serve.limits import Limits
    from vae_serve.serve.server import Options, Started, run

    for name, number in (("--port", port), ("--grpc-port", grpc_port)):
        if number is not None and not 0 <= number <= MOST_PORT:
            raise UsageError(f"{name} {number}: give a port of 0..{MOST_PORT}")
    if not picture_timeout > 0:
        raise UsageError(f"--picture-timeout {picture_timeout:g}: give seconds above 0")

    place = place_or_none("model", model)
    if watch and place is not None and not isinstance(place, Path):
        raise UsageError(f"--watch looks at a folder, and {place} is none; send SIGHUP when the bundle has changed")

    def started(told: Started) -> None:
        if not quiet:
            grpc = f" and gRPC at {told.grpc}" if told.grpc else ""
            console.say(f"serving {told.model} of {told.bundle} at {told.url}{grpc} ({', '.join(told.networks)})")
        if not told.loopback:
            console.say("other machines can reach it, and it asks nobody who they are: put a proxy that does before it")
        if as_json:
            console.emit({**{name: getattr(told, name) for name in told.__struct_fields__}})

    options = Options(
        lambda: bundle.find(place),
        host,
        port,
        grpc_port,
        parse_workers(workers),
        watch,
        access_log,
        tuple(allow_origin or ()),
        Limits(picture_seconds=picture_timeout),
    )
    run(options, started, console.say)
