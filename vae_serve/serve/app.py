"""From a request to its answer, whatever happens in between."""

import asyncio
import re
import time
from typing import Any

from vae_serve.errors import VaeServeError
from vae_serve.serve import body
from vae_serve.serve.access_log import AccessLog
from vae_serve.serve.answers import BINARY, JSON, Answer, Refusal
from vae_serve.serve.metrics import Metrics
from vae_serve.serve.request import Request
from vae_serve.serve.routes import Routes
from vae_serve.serve.served import Served
from vae_serve.serve.service import Service

GONE = 499  # in metrics and log, in the place of a status: the caller went away before its answer
WORTH_PACKING = 1 << 10  # bytes of an answer
PACKED = (JSON, BINARY)  # pictures are packed already

_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")


class App:
    """The application. `serve` says what it answers, and says so again when another bundle is served."""

    served: Served
    routes: Routes

    def __init__(self, service: Service, metrics: Metrics, log: AccessLog, origins: frozenset[bytes]) -> None:
        """`origins`: of the pages of other hosts that may read answers; `*` is all of them."""
        self.service, self._metrics, self._log, self._origins = service, metrics, log, origins
        self._number, self._prefix = 0, f"{time.time_ns():x}"

    def serve(self, served: Served, routes: Routes) -> None:
        """From now on requests are answered from this bundle; those that are being answered keep theirs."""
        self.served, self.routes = served, routes

    async def __call__(self, request: Request) -> Answer:
        """Answers one request. Nothing is raised but that it is cancelled, where the caller goes away."""
        begun = time.perf_counter()
        request.id = self._id(request)
        label, answer, status, size = "other", None, GONE, 0
        try:
            try:
                route = self.routes.find(request.path)
                label = route.label
                answer = await self._answer(request, route)
            except Refusal as refusal:
                answer = refusal.answer()
            if not request.complete and (answer.status == 408 or not await body.drop(request)):
                answer.close = True
            size = len(answer.body)
            await self._complete(request, answer)
            status = answer.status
            return answer
        finally:  # where the caller has gone away, too
            request.release()
            seconds = time.perf_counter() - begun
            self._metrics.observe(label, request.method, status, seconds)
            if self._log.on:
                self._log.write(request, status, size, seconds)

    async def _answer(self, request: Request, route: Any) -> Answer:
        if self._origins and request.method == "OPTIONS" and b"origin" in request.headers:
            return _preflight(route.allow)
        handler = self.routes.handler(route, request.method)
        try:
            return await handler(request)
        except Refusal:
            raise
        except VaeServeError as error:
            self._log.fault(request, error)
            raise Refusal(500, f"the model could not be run: {error}") from error
        except MemoryError as error:
            self._log.fault(request, error)
            raise Refusal(503, "there is not enough memory to answer this; send less at once") from error
        except Exception as error:
            self._log.fault(request, error)
            raise Refusal(500, "the service has met a fault of its own; its log says which") from error

    async def _complete(self, request: Request, answer: Answer) -> None:
        """Adds the header fields that every answer has, and packs its body where the caller takes it packed."""
        headers = [(b"content-type", answer.media), (b"x-request-id", request.id.encode()), *answer.headers]
        if len(answer.body) >= WORTH_PACKING and answer.media in PACKED:
            coding = body.wanted_coding(request)
            headers.append((b"vary", b"accept-encoding"))
            if coding:
                aside = len(answer.body) > body.ASIDE
                answer.body = (
                    await asyncio.to_thread(body.pack, answer.body, coding) if aside else body.pack(answer.body, coding)
                )
                headers.append((b"content-encoding", coding))
        if self._origins:
            headers += self._cors(request)
        answer.headers = headers

    def _id(self, request: Request) -> str:
        """The caller's, where it is short and plain; else a new one."""
        given = request.headers.get(b"x-request-id")
        if given is not None and _ID.fullmatch(given):
            return given.decode()
        self._number += 1
        return f"{self._prefix}-{self._number:x}"

    def _cors(self, request: Request) -> list[tuple[bytes, bytes]]:
        origin = request.headers.get(b"origin", b"")
        if b"*" in self._origins:
            return [(b"access-control-allow-origin", b"*"), _EXPOSED]
        if origin in self._origins:
            return [(b"access-control-allow-origin", origin), (b"vary", b"origin"), _EXPOSED]
        return [(b"vary", b"origin")]


_EXPOSED = (b"access-control-expose-headers", b"inference-header-content-length, x-request-id")


def _preflight(allow: bytes) -> Answer:
    headers = [
        (b"access-control-allow-methods", allow),
        (
            b"access-control-allow-headers",
            b"content-type, content-encoding, inference-header-content-length, x-request-id",
        ),
        (b"access-control-max-age", b"600"),
    ]
    return Answer(b"", JSON, 204, headers)
