"""Forks decoding processes for a process that must not: it has threads, and works on one shard after another.

The server is forked once, before threads are started and large libraries loaded, and has then what a decoder needs. It
is told of a pool of decoders through a socket: which files are shared, one of them with a picklable source, which is
replaced for the next shard. The source is opened by the decoding process: a client of an object store does not survive
a fork.
"""

import importlib
import mmap
import os
import pickle
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from vae_serve.forks import fork
from vae_serve.jobs.decode_supervisor import PoolSetup, Supervisor
from vae_serve.sources.described import Described
from vae_serve.sources.files import Pictures

_MOST_FILES = 253  # that Linux lets one message carry

_running: "DecodeServer | None" = None


class DecodeServer:
    """The server of this process, from this process' side."""

    def __init__(self, private: tuple[int, ...]) -> None:
        """Forks it. The `private` files stay this process' alone."""
        self._socket, served = socket.socketpair()

        def serve() -> None:
            self._socket.close()
            for file in private:
                os.close(file)
            _serve(served)

        fork(serve)
        served.close()

    def start(self, request: int, memory: int, take: int, answers: list[int]) -> None:
        """Has a pool's processes started; the files are sent along, that of the `request` with what was `told`."""
        with suppress(BrokenPipeError):  # the server is gone; whoever follows the answers is told
            socket.send_fds(self._socket, [b"\0"], [request, memory, take, *answers])


def start(private: tuple[int, ...] = ()) -> None:
    """Starts the server of this process; before threads are started, which the fork would not copy."""
    global _running  # noqa: PLW0603
    _running = DecodeServer(private)


def running() -> DecodeServer | None:
    """The server of this process, where it has one."""
    return _running


def tell(request: int, setup: PoolSetup, source: Described[Pictures]) -> None:
    """Writes into a shared file what a pool is to know; not while it has tasks."""
    with os.fdopen(os.dup(request), "wb") as file:
        file.seek(0)
        file.truncate()
        pickle.dump(setup, file, pickle.HIGHEST_PROTOCOL)
        pickle.dump(source, file, pickle.HIGHEST_PROTOCOL)


@contextmanager
def shared_file(size: int) -> Iterator[int]:
    """A file in memory that other processes can be given; without a name, so that it ends with its last user."""
    if hasattr(os, "memfd_create"):
        file = os.memfd_create("vae-serve")
    else:
        with tempfile.TemporaryFile() as unnamed:
            file = os.dup(unnamed.fileno())
    try:
        os.ftruncate(file, size)
        yield file
    finally:
        os.close(file)


def _serve(requests: socket.socket) -> None:
    """The life of the server, until the process that it serves is gone."""
    global _running  # noqa: PLW0603
    _running = None
    for module in ("vae_serve.images.pillow", "vae_serve.images.fast"):
        importlib.import_module(module)  # once here, not once a shard
    while True:
        message, files, _, _ = socket.recv_fds(requests, 1, _MOST_FILES)
        if not message:
            return

        def supervise(files: list[int] = files) -> None:
            requests.close()
            _supervise(*files)

        fork(supervise)
        for file in files:
            os.close(file)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:  # nobody asks how an earlier one ended
                pass


def _supervise(request: int, memory: int, take: int, *answers: int) -> None:

    def told(source: bool) -> Any:
        with os.fdopen(os.dup(request), "rb") as file:
            file.seek(0)
            setup = pickle.load(file)  # noqa: S301  from the process that this one was forked from
            return pickle.load(file) if source else setup  # noqa: S301  as above

    def open_source() -> Pictures:
        described: Described[Pictures] = told(source=True)
        return described.open()

    setup: PoolSetup = told(source=False)
    shared = mmap.mmap(memory, setup.memory_size)
    os.close(memory)
    Supervisor(setup, open_source, shared, take, [*answers]).run()
