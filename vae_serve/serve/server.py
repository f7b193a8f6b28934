"""The service's life: it binds, loads, listens, answers, and ends when it is told to."""

import asyncio
import errno
import gc
import ipaddress
import signal
import socket
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import msgspec

from vae_serve.errors import MissingExtra, ServiceError
from vae_serve.serve.limits import Limits
from vae_serve.serve.served import Served, load

if TYPE_CHECKING:
    from vae_serve.storage.object_url import Place

COLLECT_AFTER = 5_000  # new objects: here there is garbage, and it may hold bodies and answers
BACKLOG = 2048  # connections that the system keeps for us
EXTRA = ("httptools", "orjson", "prometheus_client")


class Options(msgspec.Struct, frozen=True):
    """What is served, where and how."""

    find: Callable[[], "Place"]
    """Which bundle is to be served; asked again for each reload."""
    host: str = "127.0.0.1"
    """An address of this machine, or a name of one."""
    port: int = 8000
    """0 for any that is free."""
    grpc_port: int | None = None
    """Where gRPC is answered; None for nowhere."""
    workers: int = 1
    """Threads that run networks, and processes that decode pictures."""
    watch: bool = False
    """Whether a changed bundle is loaded by itself."""
    access_log: bool = False
    """Whether each request is a line of JSON on stdout."""
    origins: tuple[str, ...] = ()
    """Of the pages of other hosts that may read answers."""
    limits: Limits = Limits()
    """How much callers may ask for."""


class Started(msgspec.Struct, frozen=True):
    """What is told when the service answers."""

    url: str
    """Where."""
    grpc: str | None
    """Where, if at all."""
    model: str
    """The bundle's name."""
    bundle: str
    """Its folder."""
    networks: tuple[str, ...]
    """Under which names."""
    loopback: bool
    """Whether this machine alone can reach it."""


def run(options: Options, started: Callable[[Started], None], say: Callable[[str], None]) -> None:
    """Serves until SIGTERM or Ctrl-C. `started` is called once, when the first request can be answered.

    Raises:
        MissingExtra: packages are missing.
        ServiceError: the port cannot be had.
        BundleError: the bundle cannot be served.
    """
    if any(find_spec(name) is None for name in EXTRA):
        raise MissingExtra("serve", "serve")
    if options.grpc_port is not None and find_spec("grpc") is None:
        raise MissingExtra("grpc", "serve --grpc-port")
    listener = bind(options.host, options.port)
    try:
        asyncio.run(_serve(options, listener, load(options.find()), started, say))
    finally:
        listener.close()


async def _serve(
    options: Options,
    listener: socket.socket,
    served: Served,
    started: Callable[[Started], None],
    say: Callable[[str], None],
) -> None:
    from vae_serve.serve.access_log import AccessLog
    from vae_serve.serve.app import App
    from vae_serve.serve.endpoints import routes
    from vae_serve.serve.metrics import Metrics
    from vae_serve.serve.protocol import Connections
    from vae_serve.serve.reloading import Reloader
    from vae_serve.serve.service import Service

    limits = options.limits
    service, metrics, log = Service(limits, options.workers), Metrics(), AccessLog(options.access_log)
    app = App(service, metrics, log, frozenset(origin.encode() for origin in options.origins))
    app.serve(served, routes(service, metrics, served))
    connections = Connections(app, limits)
    told, told_twice = asyncio.Event(), asyncio.Event()

    def end() -> None:
        if told.is_set():
            told_twice.set()
        service.ending = True
        told.set()

    grpc, grpc_port = None, None
    if options.grpc_port is not None:
        from vae_serve.serve.grpc_service import GrpcService

        grpc = GrpcService(service, lambda: app.served)
        grpc_port = await grpc.start(listener.getsockname()[0], options.grpc_port)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    reloader = Reloader(options.find, lambda new: app.serve(new, routes(service, metrics, new)), metrics, say)
    running: set[asyncio.Task[None]] = set()

    def begin(work: Callable[[], "asyncio._CoroutineLike[None]"]) -> None:
        task = loop.create_task(work())
        running.add(task)
        task.add_done_callback(running.discard)

    loop.add_signal_handler(signal.SIGHUP, partial(begin, reloader.reload))
    if options.watch:
        begin(reloader.watch)
    try:
        server = await loop.create_server(connections, sock=listener, backlog=BACKLOG)
        gc.freeze()  # what is there now stays: going through it takes the collector tens of milliseconds
        gc.set_threshold(COLLECT_AFTER)
        started(_told(listener, app.served, grpc_port))
        await told.wait()
        server.close()
        endings = [connections.end(), *([grpc.stop(limits.grace_seconds)] if grpc else [])]
        ended: list[asyncio.Future[Any]] = [asyncio.gather(*endings), loop.create_task(told_twice.wait())]
        await asyncio.wait(ended, timeout=limits.grace_seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in [*running]:
            task.cancel()
        await service.stop()
        log.stop()


def bind(host: str, port: int) -> socket.socket:
    """A socket at an address of this machine, not yet listening: until then callers are refused, not kept waiting.

    Raises:
        ServiceError: it is taken, not allowed, or not of this machine.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise ServiceError(f"--host {host} is not an address of this machine: {error}") from None
    family, kind, protocol, _, address = found[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise ServiceError(_why(error, host, port)) from None
    return bound


def _why(error: OSError, host: str, port: int) -> str:
    where = f"port {port} of {host}"
    match error.errno:
        case errno.EADDRINUSE:
            return f"{where} is taken by another program; end it, or choose another: --port {port + 1}"
        case errno.EACCES:
            return f"{where} is not allowed for this user; choose one from 1024: --port 8000"
        case errno.EADDRNOTAVAIL:
            return f"--host {host} is not an address of this machine"
    return f"{where} cannot be had: {error.strerror}"


def _told(listener: socket.socket, served: Served, grpc_port: int | None) -> Started:
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return Started(
        f"http://{shown}:{port}",
        f"{shown}:{grpc_port}" if grpc_port is not None else None,
        served.manifest.name,
        str(served.path),
        tuple(served.networks),
        ipaddress.ip_address(host.partition("%")[0]).is_loopback,
    )
