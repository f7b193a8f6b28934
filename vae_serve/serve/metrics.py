"""What has been asked and how long it took, as Prometheus reads it.

Counting is a look into a dict and some additions; prometheus-client makes the text when it is asked for.
"""

from bisect import bisect_left
from collections.abc import Iterator
from typing import Any

from vae_serve import __version__
from vae_serve.serve.answers import Answer
from vae_serve.serve.request import Request
from vae_serve.serve.served import Served
from vae_serve.serve.service import Service

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)  # seconds


class Metrics:
    """Counts of requests, by endpoint, method and status."""

    def __init__(self) -> None:
        self._requests: dict[tuple[str, str, int], int] = {}
        self._seconds: dict[str, list[float]] = {}  # by endpoint: a count for each bucket, one for more, the sum
        self.reloads = {"swapped": 0, "refused": 0}

    def observe(self, label: str, method: str, status: int, seconds: float) -> None:
        """One request that has been answered."""
        key = (label, method if method in _METHODS else "other", status)
        self._requests[key] = self._requests.get(key, 0) + 1
        counts = self._seconds.get(label)
        if counts is None:
            counts = self._seconds[label] = [0.0] * (len(BUCKETS) + 2)
        counts[bisect_left(BUCKETS, seconds)] += 1
        counts[-1] += seconds

    async def show(self, service: Service, served: Served, request: Request) -> Answer:
        """The endpoint /metrics."""
        from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
        from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

        request.parameters()
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        registry.register(_Collector(self, service, served))
        return Answer(generate_latest(registry), CONTENT_TYPE_LATEST.encode())

    def families(self, service: Service, served: Served) -> Iterator[Any]:
        """What there is to tell, as prometheus-client takes it."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        requests = CounterMetricFamily(
            "vae_serve_requests", "Requests answered.", labels=["endpoint", "method", "status"]
        )
        for (label, method, status), answers in self._requests.items():
            requests.add_metric([label, method, str(status)], answers)
        yield requests
        seconds = HistogramMetricFamily(
            "vae_serve_request_seconds", "From a request's header to its answer.", labels=["endpoint"]
        )
        for label, counts in self._seconds.items():
            total, buckets = 0.0, []
            for bound, count in zip((*map(str, BUCKETS), "+Inf"), counts, strict=False):
                total += count
                buckets.append((bound, total))
            seconds.add_metric([label], buckets, counts[-1])
        yield seconds
        rows = CounterMetricFamily("vae_serve_rows", "Rows that a network has been run for.", labels=["model"])
        calls = CounterMetricFamily("vae_serve_calls", "Calls of a network; each is a batch.", labels=["model"])
        spent = CounterMetricFamily("vae_serve_network_seconds", "Time within calls of a network.", labels=["model"])
        for network in served.networks.values():
            batches = [batch for lane in network.lanes.values() for batch in lane.statistics.batches.copy().items()]
            rows.add_metric([network.name], sum(size * count for size, (count, _) in batches))
            calls.add_metric([network.name], sum(count for _, (count, _) in batches))
            spent.add_metric([network.name], sum(ns for _, (_, ns) in batches) / 1e9)
        yield from (rows, calls, spent)
        reloads = CounterMetricFamily("vae_serve_reloads", "Bundles loaded since the start.", labels=["result"])
        for result, times in self.reloads.items():
            reloads.add_metric([result], times)
        yield reloads
        for name, text, value in (
            ("in_flight", "Requests that are being answered.", service.in_flight),
            ("waiting", "Requests that wait for a network.", service.workers.waiting),
            ("held_bytes", "Bodies and answers of large requests in flight.", service.room.taken),
            ("pictures_in_flight", "Pictures that are decoded or wait for it.", service.pool.in_flight),
        ):
            yield GaugeMetricFamily(f"vae_serve_{name}", text, value)
        info = GaugeMetricFamily("vae_serve_info", "The version and the model.", labels=["version", "model"])
        info.add_metric([__version__, served.manifest.name], 1)
        yield info


_METHODS = {"GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE", "PATCH"}


class _Collector:
    """What prometheus-client asks."""

    def __init__(self, metrics: Metrics, service: Service, served: Served) -> None:
        self._ask = metrics, service, served

    def collect(self) -> Iterator[Any]:
        """The families."""
        metrics, service, served = self._ask
        return metrics.families(service, served)
