"""A proxy in front of a real object store that does to requests what networks and clouds do: refuse, delay, cut.

    with faulty(server.endpoint, lambda request: Answer(503) if request.number % 10 == 3 else None) as proxy:
        ... proxy.endpoint ... proxy.requests

A rule sees each request before it is passed on, and gives the answer that the client gets in place of the server's;
None passes it on. Requests keep their Host, so that their signatures hold.
"""

import http.client
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from urllib.parse import urlsplit

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "upgrade", "expect"}


@dataclass(frozen=True)
class Request:
    """A request, counted from 1."""

    number: int
    method: str
    path: str
    """With the query."""
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """What is answered instead of the server."""

    status: int
    body: bytes = b""
    after: bool = False
    """The server gets the request first: it is done, and only the answer is lost."""
    silent: bool = False
    """Nothing is answered; the connection stays open until the proxy ends."""


Rule = Callable[[Request], Answer | None]


@dataclass
class Proxy:
    """A running proxy."""

    endpoint: str
    requests: list[Request] = field(default_factory=list)
    """All that has come in."""


def error(code: str, message: str = "") -> bytes:
    """The body of an error as S3 and Azure send it."""
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code>{message}</Error>'.encode()


@contextmanager
def faulty(endpoint: str, rule: Rule) -> Iterator[Proxy]:
    """A proxy for an endpoint such as http://127.0.0.1:8333, until the block ends."""
    target = urlsplit(endpoint)
    lock, ended = Lock(), Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except (ConnectionError, TimeoutError):
                self.close_connection = True

        def answer(self) -> None:
            """Answers any request."""
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with lock:
                request = Request(len(proxy.requests) + 1, self.command, self.path, dict(self.headers.items()), body)
                proxy.requests.append(request)
            answer = rule(request)
            if answer is None or answer.after:
                status, headers, contents = self._pass_on(request)
            if answer is not None:
                if answer.silent:
                    ended.wait()
                    self.close_connection = True
                    return
                status, headers, contents = answer.status, [("Content-Type", "application/xml")], answer.body
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() not in _HOP_BY_HOP | {"content-length"}:
                    self.send_header(name, value)
            length = len(contents)
            if self.command == "HEAD":
                length = int({name.lower(): value for name, value in headers}.get("content-length", 0))
            if status != 204:
                self.send_header("Content-Length", str(length))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(contents)

        def _pass_on(self, request: Request) -> tuple[int, list[tuple[str, str]], bytes]:
            connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=60)
            try:
                connection.putrequest(request.method, request.path, skip_host=True, skip_accept_encoding=True)
                for name, value in request.headers.items():
                    if name.lower() not in _HOP_BY_HOP:
                        connection.putheader(name, value)
                connection.endheaders(request.body or None)
                answer = connection.getresponse()
                return answer.status, answer.getheaders(), answer.read()
            finally:
                connection.close()

        def log_message(self, format: str, *arguments: object) -> None:
            """Says nothing."""

    for method in ("GET", "PUT", "HEAD", "POST", "DELETE"):
        setattr(Handler, f"do_{method}", Handler.answer)

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def server_bind(self) -> None:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            super().server_bind()

    with Server(("127.0.0.1", 0), Handler) as server:
        proxy = Proxy(f"http://127.0.0.1:{server.server_port}")
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield proxy
        finally:
            ended.set()
            server.shutdown()
            thread.join()
