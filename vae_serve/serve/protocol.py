"""Connections: HTTP/1.1 over asyncio, parsed by httptools, with a deadline and a limit for all that a caller may do.

What is HTTP and nothing else is here: where a request begins and ends, the order of answers, keeping and closing
connections, and not reading faster than is wanted. Paths and answers are the application's.
"""

import asyncio
import http
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from email.utils import formatdate
from typing import TYPE_CHECKING
from urllib.parse import unquote

import httptools

from vae_serve.serve.answers import JSON, Answer, Refusal
from vae_serve.serve.body import DRAIN_SECONDS
from vae_serve.serve.limits import Limits
from vae_serve.serve.request import Request

if TYPE_CHECKING:
    from vae_serve.serve.app import App

AHEAD = 100  # requests that a connection may have sent before their turn has come
UNREAD = 1 << 18  # bytes of a body that nobody has asked for yet, beyond which no more is read
JOINED = 1 << 16  # bytes of a body that are copied to go along with the head

_STATUS = {int(status): b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode()) for status in http.HTTPStatus}


class Connections:
    """All connections of a service: what makes them, and how they end."""

    def __init__(self, app: "App", limits: Limits) -> None:
        self.app, self.limits = app, limits
        self.open: set[Connection] = set()
        self._empty = asyncio.Event()
        self._date, self._second = b"", 0

    def __call__(self) -> "Connection":
        """The protocol of a new connection, as asyncio's servers ask for it."""
        return Connection(self)

    def leave(self, connection: "Connection") -> None:
        """A connection has ended."""
        self.open.discard(connection)
        if not self.open:
            self._empty.set()

    async def end(self) -> None:
        """Ends all connections, each after what is being answered on it."""
        self._empty.clear()
        for connection in [*self.open]:
            connection.end()
        if self.open:
            await self._empty.wait()

    def date(self) -> bytes:
        """The header field Date (RFC 9110, 6.6.1), made once a second."""
        now = int(time.time())
        if now != self._second:
            self._date, self._second = f"date: {formatdate(now, usegmt=True)}\r\n".encode(), now
        return self._date


class Connection(asyncio.Protocol):
    """One connection. Its requests are answered in turn; those that come early wait, and no more is read meanwhile."""

    _transport: asyncio.Transport

    def __init__(self, connections: Connections) -> None:
        self._all, self._limits, self._app = connections, connections.limits, connections.app
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._client: str | None = None
        # of the request whose header is being read
        self._in_header, self._header_bytes, self._unfinished = False, 0, 0
        self._url, self._headers = b"", dict[bytes, bytes]()
        self._incoming: Request | None = None  # whose body is being read
        self._current: Request | None = None  # that is being answered
        self._task: asyncio.Task[None] | None = None  # that answers it
        self._waiting: deque[Request] = deque()
        self._deaf = False  # whether what still comes is dropped
        self._last_words = b""  # that are said after all answers, where the connection is ended for a reason
        self._ending = False  # whether the answer at hand is the last one
        # One timer serves all deadlines of a caller who sends nothing: it is set anew only when it goes off too early
        self._timer: asyncio.TimerHandle | None = None
        self._deadline, self._late = 0.0, self._header_late
        self._writing_paused = False
        self._unread_timer: asyncio.TimerHandle | None = None  # of a caller who does not read

    # What asyncio calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # of a TCP connection
        """A caller has come; one too many is told so."""
        self._transport = transport
        peer = transport.get_extra_info("peername")
        self._client = str(peer[0]) if peer else None
        self._all.open.add(self)
        if len(self._all.open) > self._limits.connections:
            self._refuse(503, "there are too many connections; try again in a second", b"retry-after: 1\r\n")
        else:
            self._expect(self._limits.header_seconds, self._header_late)

    def connection_lost(self, exc: Exception | None) -> None:
        """The caller is gone: what is being done for it is given up."""
        self._deaf, self._deadline = True, 0.0
        for timer in (self._timer, self._unread_timer):
            if timer is not None:
                timer.cancel()
        self._waiting.clear()
        self._give_up()
        self._all.leave(self)
        del self._parser, self._late  # which refer to this

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        if self._deaf:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:  # the request was the last one, and is answered as if it had not asked
            pass
        except httptools.HttpParserError:
            if not self._deaf:
                self._refuse(400, "the request is no HTTP/1.1 request")
        if self._in_header and not self._deaf:
            self._unfinished += len(data)  # of a field that has no end, the parser tells nothing
            if self._unfinished > self._limits.header_bytes:
                self._refuse_header()
            elif not self._deadline and not self._waiting:  # else it is read on when those have been answered
                self._expect(self._limits.header_seconds, self._header_late)

    def pause_writing(self) -> None:
        """The caller does not read as fast as the answer is sent."""
        self._writing_paused = True
        self._limit_reading()

    def resume_writing(self) -> None:
        """The caller has read most of it."""
        self._writing_paused = False
        if self._unread_timer is not None and not self._transport.is_closing():
            self._unread_timer.cancel()
            self._unread_timer = None
        self._next()

    # What the parser calls. What is raised here is an HttpParserError there.

    def on_message_begin(self) -> None:
        """The first byte of a request has come."""
        self._in_header, self._header_bytes, self._unfinished = True, 0, 0
        self._url, self._headers = b"", {}
        self._deadline = 0.0

    def on_url(self, url: bytes) -> None:
        """A part of the address has come."""
        self._url += url
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header field has come, or one that follows the body."""
        self._headers[name.lower()] = value
        self._count(len(name) + len(value))

    def on_headers_complete(self) -> None:
        """The header fields have come."""
        self._in_header = False
        self._deadline = 0.0
        if len(self._waiting) >= AHEAD:
            self._refuse(503, f"more than {AHEAD} requests were sent ahead of their answers; wait for some")
            raise ValueError("what follows in the buffer is not to be parsed")
        url = httptools.parse_url(self._url)
        path = url.path.decode("ascii")
        request = Request(
            self._parser.get_method().decode("ascii"),
            unquote(path) if "%" in path else path,
            url.query or b"",
            self._headers,
            self._client,
            self._app.service.room,
            self._wanted,
        )
        self._headers = {}  # what follows the body is not the request's
        request.keep = (
            self._parser.get_http_version() != "1.0"
            and self._parser.should_keep_alive()
            and not self._parser.should_upgrade()
        )
        self._incoming = request
        if self._current is None and not self._writing_paused:
            self._start(request)
        else:
            self._waiting.append(request)
            self._transport.pause_reading()

    def on_body(self, body: bytes) -> None:
        """A part of the body has come."""
        if self._incoming is not None and self._incoming.feed(body) > UNREAD:
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        """The whole request has come; as a rule before the application has begun, which then need not wait for it."""
        request = self._incoming
        if request is not None:
            self._incoming = None
            request.finish()
            self._deaf = not request.keep

    # Requests and answers

    def end(self) -> None:
        """Ends the connection after what is being answered."""
        self._ending = True
        if self._current is None and not self._waiting:
            self._close()

    def _start(self, request: Request) -> None:
        self._current = request
        self._app.service.in_flight += 1
        self._task = self._loop.create_task(self._answer(request))

    async def _answer(self, request: Request) -> None:
        request.begun = True
        try:
            if not request.given_up:
                self._send(request, await self._app(request))
        except Exception:
            self._transport.abort()  # rather than leave the caller waiting
            raise
        finally:
            self._app.service.in_flight -= 1

    def _send(self, request: Request, answer: Answer) -> None:
        if self._current is not request or self._transport.is_closing():
            return
        self._current = self._task = None
        keep = request.keep and not answer.close and not self._ending
        parts = [_STATUS[answer.status], self._all.date()]
        for name, value in answer.headers:
            parts += (name, b": ", value, b"\r\n")
        parts.append(b"content-length: %d\r\n\r\n" % len(answer.body))
        if not keep:
            parts.insert(2, b"connection: close\r\n")
        if request.method != "HEAD" and len(answer.body) <= JOINED:  # one call of the system less
            parts.append(answer.body)
        self._transport.write(b"".join(parts))
        if request.method != "HEAD" and len(answer.body) > JOINED:
            self._transport.write(answer.body)
        if keep:
            self._next()
        else:
            self._deaf = True
            self._waiting.clear()
            self._close()

    def _next(self) -> None:
        """The next request, where there is one, once the caller has read most of the last answer."""
        if self._current is not None or self._writing_paused or self._transport.is_closing():
            return
        if self._waiting:
            self._start(self._waiting.popleft())
        elif self._last_words:
            self._transport.write(self._last_words)
            self._last_words = b""
            with suppress(OSError):  # the caller is gone already
                self._transport.write_eof()
            self._loop.call_later(DRAIN_SECONDS, self._close)
        elif not self._deaf:
            self._transport.resume_reading()
            if not self._in_header:
                self._expect(self._limits.idle_seconds, self._idle_late)
            elif not self._deadline:
                self._expect(self._limits.header_seconds, self._header_late)

    def _wanted(self, request: Request) -> None:
        """The application waits for the body of a request."""
        if request.headers.get(b"expect", b"").lower() == b"100-continue" and not request.size:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._transport.resume_reading()

    def _give_up(self) -> None:
        """Ends the work on the request at hand."""
        request, self._current = self._current, None
        if request is not None and self._task is not None:
            request.given_up = True
            if request.begun:  # a task that is cancelled before it begins never counts itself out
                self._task.cancel()
            self._task = None

    # Limits

    def _refuse(self, status: int, sentence: str, more: bytes = b"") -> None:
        """Ends the connection with a sentence in the protocol's error form, after the answers that are due before it.

        What still comes is dropped for a while: a connection that is closed with bytes unread is reset, and a caller
        who is still sending may never see why.
        """
        self._deaf, self._deadline = True, 0.0
        contents = Refusal(status, sentence).answer().body
        head = b"%bcontent-type: %b\r\ncontent-length: %d\r\n" % (_STATUS[status], JSON, len(contents))
        self._last_words = head + more + b"connection: close\r\n\r\n" + contents
        request, self._incoming = self._incoming, None
        if request is not None:  # it will never be whole
            if request is self._current:
                self._give_up()
            else:
                self._waiting.remove(request)
        self._transport.resume_reading()
        self._next()

    def _count(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > self._limits.header_bytes:
            self._refuse_header()
            raise ValueError("what follows in the buffer is not to be parsed")

    def _refuse_header(self) -> None:
        self._refuse(431, f"the header is larger than {self._limits.header_bytes:,} bytes, which is the limit here")

    def _expect(self, seconds: float, late: Callable[[], None]) -> None:
        """Something is to come within so many seconds."""
        self._deadline, self._late = self._loop.time() + seconds, late
        if self._timer is not None:
            if self._timer.when() <= self._deadline:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(self._deadline, self._look)

    def _look(self) -> None:
        self._timer = None
        if not self._deadline:
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._look)
        else:
            self._deadline = 0.0
            self._late()

    def _header_late(self) -> None:
        self._refuse(408, f"the header did not come within {self._limits.header_seconds:g} s")

    def _idle_late(self) -> None:
        if self._transport.get_write_buffer_size():  # of the last answer: the caller will not read it any more
            self._transport.abort()
        self._transport.close()

    def _close(self) -> None:
        """Closes the connection when all is sent."""
        self._transport.close()
        if self._transport.get_write_buffer_size():
            self._limit_reading()

    def _limit_reading(self) -> None:
        if self._unread_timer is None:
            self._unread_timer = self._loop.call_later(self._limits.answer_seconds, self._transport.abort)
