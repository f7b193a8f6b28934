"""Connections: uvicorn's HTTP by httptools, with the deadlines and limits that it lacks.

uvicorn 0.54 waits for ever for header fields and for a caller who reads no answer, and takes header fields of any
length. What is overridden here are the methods that the parser and the transport call; `tests/serve/test_manners.py`
sends each of these callers.
"""

import asyncio
from contextlib import suppress
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from vae_serve.serve.answers import Refusal
from vae_serve.serve.body import DRAIN_SECONDS, WHOLE
from vae_serve.serve.limits import Limits
from vae_serve.serve.request import TASK

JOINED = 1 << 16  # bytes of a body that are copied to go along with the head

_REASONS = {400: b"Bad Request", 408: b"Request Timeout", 431: b"Request Header Fields Too Large"}
_REASONS |= {503: b"Service Unavailable"}


class _Joining:
    """A transport that sends the head of an answer together with its body: one call of the system less, 10 us."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport, self._head = transport, b""
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        """The head comes first, then the body, whole or in parts."""
        if self._head:
            data, self._head = (self._head + data if len(data) < JOINED else self._first(data)), b""
            self._transport.write(data)
        elif data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 100"):
            self._head = data
        else:
            self._transport.write(data)

    def _first(self, data: bytes) -> bytes:
        self._transport.write(self._head)
        return data

    def close(self) -> None:
        """Closes the connection when all is sent."""
        if self._head:
            self._transport.write(self._head)
            self._head = b""
        self._transport.close()


class Protocol(HttpToolsProtocol):
    """One connection."""

    limits = Limits()

    _header_timer: asyncio.TimerHandle | None = None
    _answer_timer: asyncio.TimerHandle | None = None
    _in_header = False
    _header_bytes = 0
    _refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A caller has come; one too many is told so."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            self._refuse(503, "there are too many connections; try again in a second", b"retry-after: 1\r\n")
            return
        self._await_header()

    def connection_lost(self, exc: Exception | None) -> None:
        """The caller is gone: what is being done for it is given up."""
        self._cancel_timers()
        task = self.cycle.scope.get(TASK) if self.cycle is not None and not self.cycle.response_complete else None
        if isinstance(task, asyncio.Task):
            task.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        if self.parser is None or self._refused or self.transport.is_closing():
            return
        super().data_received(data)
        if self._in_header and not self.transport.is_closing():
            self._header_bytes += len(data)
            if self._header_bytes > self.limits.header_bytes:
                self._refuse_header()
            elif self._header_timer is None:
                self._await_header()

    def on_message_begin(self) -> None:
        """The first byte of a request has come."""
        super().on_message_begin()
        self._in_header, self._header_bytes = True, 0

    def on_headers_complete(self) -> None:
        """The header fields have come."""
        self._in_header = False
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None
        if sum(len(name) + len(value) for name, value in self.headers) + len(self.url) > self.limits.header_bytes:
            self._refuse_header()
            raise ValueError("what follows in the buffer is not to be parsed")
        super().on_headers_complete()
        if self.scope["method"] != "HEAD":  # whose answer is a head alone
            self.cycle.transport = _Joining(self.transport)  # type: ignore[assignment]  # it has what a cycle calls

    def on_body(self, body: bytes) -> None:
        """A part of the body has come."""
        if self.cycle is not None:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The whole request has come; as a rule before the application has begun, which then need not wait for it."""
        if self.cycle is not None:
            self.scope[WHOLE] = True  # type: ignore[literal-required]  # of ours
            super().on_message_complete()

    def pause_writing(self) -> None:
        """The caller does not read as fast as the answer is sent."""
        super().pause_writing()
        if self._answer_timer is None:
            self._answer_timer = self.loop.call_later(self.limits.answer_seconds, self._give_up)

    def resume_writing(self) -> None:
        """The caller has read most of it."""
        if self._answer_timer is not None:
            self._answer_timer.cancel()
            self._answer_timer = None
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """No further request has come."""
        if self.transport.get_write_buffer_size():  # of the last answer: the caller will not read it any more
            self.transport.abort()
        super().timeout_keep_alive_handler()

    def send_400_response(self, msg: str) -> None:
        """What came is no HTTP."""
        self._refuse(400, "the request is no HTTP/1.1 request")

    def _await_header(self) -> None:
        self._header_timer = self.loop.call_later(self.limits.header_seconds, self._header_late)

    def _header_late(self) -> None:
        self._header_timer = None
        if not self.transport.is_closing():
            self._refuse(408, f"the header did not come within {self.limits.header_seconds:g} s")

    def _refuse_header(self) -> None:
        self._refuse(431, f"the header is larger than {self.limits.header_bytes:,} bytes, which is the limit here")

    def _refuse(self, status: int, sentence: str, more: bytes = b"") -> None:
        """Answers in the protocol's error form, unless an answer is under way, and ends the connection.

        What still comes is dropped for a while: a connection that is closed with bytes unread is reset, and a caller
        who is still sending may never see why.
        """
        if self._refused:
            return
        self._refused = True
        self._cancel_timers()
        cycle = self.cycle
        if not self.pipeline and (cycle is None or cycle.response_complete or not cycle.response_started):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True  # what the application says to it now goes nowhere
                cycle.message_event.set()
            contents = Refusal(status, sentence).answer().body
            head = b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n" % (
                status,
                _REASONS[status],
                len(contents),
            )
            self.transport.write(head + more + b"connection: close\r\n\r\n" + contents)
        with suppress(OSError):  # the caller is gone already
            self.transport.write_eof()
        self._header_timer = self.loop.call_later(DRAIN_SECONDS, self.transport.close)

    def _give_up(self) -> None:
        self._answer_timer = None
        self.transport.abort()

    def _cancel_timers(self) -> None:
        for timer in (self._header_timer, self._answer_timer):
            if timer is not None:
                timer.cancel()
        self._header_timer = self._answer_timer = None


def limited(limits: Limits) -> type[Protocol]:
    """The protocol with its limits; uvicorn makes one for each connection and passes none along."""
    fields: dict[str, Any] = {"limits": limits}
    return type("LimitedProtocol", (Protocol,), fields)
