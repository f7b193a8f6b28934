"""Which endpoint is where. See docs/service.md."""

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec

from vae_serve.serve import body, inference, metadata, openapi, planes
from vae_serve.serve.answers import Answer, Refusal
from vae_serve.serve.explorer import Explorer
from vae_serve.serve.metrics import Metrics
from vae_serve.serve.networks import Network
from vae_serve.serve.pictures import Pictures
from vae_serve.serve.request import Request
from vae_serve.serve.routes import Routes
from vae_serve.serve.served import Served
from vae_serve.serve.service import Service

EXPLORER = "/"  # by which metrics count all files of the page


def routes(service: Service, metrics: Metrics, served: Served) -> Routes:
    """The table for one bundle."""
    table = Routes()
    table.add("GET", "/v2", _record(metadata.server))
    table.add("GET", "/v2/health/live", _record(lambda: {"live": True}))
    table.add("GET", "/v2/health/ready", _ready(service))
    networks = list(served.networks.values())
    table.add("GET", "/v2/models/stats", _record(lambda: metadata.statistics(networks)))
    for network in networks:
        add = partial(table.add_of_model, "GET", network)
        add("", _record(partial(metadata.model, network)))
        add("/ready", _ready(service))
        add("/config", _record(partial(metadata.configuration, network, service.limits)))
        add("/stats", _record(partial(metadata.statistics, [network])))
        table.add_of_model("POST", network, "/infer", partial(_infer, service, network))
    pictures = Pictures(service, served)
    table.add("POST", "/v1/encode", pictures.encode)
    table.add("POST", "/v1/reconstruct", pictures.reconstruct)
    table.add("GET", "/v1/decode.png", partial(planes.decoded, service, served))
    table.add("GET", "/v1/grid.png", partial(planes.grid, service, served))
    table.add("GET", "/openapi.json", _record(partial(openapi.document, served, service.limits)))
    table.add("GET", "/metrics", partial(metrics.show, service, served))
    Explorer(served).add(lambda path, handler: table.add("GET", path, handler, EXPLORER))
    return table


def _record(make: Callable[[], dict[str, Any]]) -> Callable[[Request], Awaitable[Answer]]:
    """An endpoint that says what is so."""

    async def handler(request: Request) -> Answer:
        request.parameters()
        return Answer(msgspec.json.encode(make()))

    return handler


def _ready(service: Service) -> Callable[[Request], Awaitable[Answer]]:
    async def handler(request: Request) -> Answer:
        request.parameters()
        if service.ending:
            raise Refusal(503, "the service is ending")
        return Answer(msgspec.json.encode({"ready": True}))

    return handler


async def _infer(service: Service, network: Network, request: Request) -> Answer:
    begun = time.perf_counter_ns()
    counts = network.counts
    try:
        contents = await body.read(request, service.limits, service.limits.body_bytes)
        answer = await inference.infer(request, contents, network, service.workers, service.limits, service.alone)
    except BaseException:
        counts.fail += 1
        counts.fail_ns += time.perf_counter_ns() - begun
        raise
    counts.success += 1
    counts.success_ns += time.perf_counter_ns() - begun
    counts.last = time.time_ns() // 1_000_000
    return answer
