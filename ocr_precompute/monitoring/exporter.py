"""Where metrics can be had: a port of this machine, and a file for node-exporter's textfiles."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from ocr_precompute.errors import PrecomputeError
from ocr_precompute.files import replace_file, writing
from ocr_precompute.monitoring.metrics import METRICS
from ocr_precompute.monitoring.monitor import Seen
from ocr_precompute.runtime.forks import in_children, undisturbed
from ocr_precompute.runtime.stages import Totals

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer

    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric as Family

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
"""The only address that metrics can be asked for at: they are for programs of this machine."""

_FILE_EVERY = 15.0  # seconds, at least, from one writing of a file to the next


class _Collector:
    """What prometheus-client asks for metrics, whenever somebody asks it."""

    def __init__(
        self, labels: Mapping[str, str], totals: Callable[[], Totals], seen: Callable[[], Seen]
    ) -> None:
        self._labels, self._totals, self._seen = dict(labels), totals, seen

    def collect(self) -> Iterator[Family]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        seen, totals = self._seen(), self._totals()
        for metric in METRICS:
            found = list(metric.samples(seen, totals))
            if not found:
                continue
            own = list(found[0][0])
            kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            family = kind(metric.name, metric.help, labels=[*self._labels, *own])
            for labels, value in found:
                family.add_metric([*self._labels.values(), *labels.values()], value)
            yield family


def registry(
    labels: Mapping[str, str], totals: Callable[[], Totals], seen: Callable[[], Seen]
) -> CollectorRegistry:
    """A registry of prometheus-client's that holds a run's metrics and nothing else.

    labels: of every metric. totals, seen: give what there is to show when it is asked for.
    Raises PrecomputeError if prometheus-client is not installed.
    """
    try:
        with undisturbed:
            from prometheus_client import CollectorRegistry
    except ImportError as error:
        raise PrecomputeError(
            "metrics need prometheus-client: pip install 'ocr-precompute[monitor]'"
        ) from error
    made = CollectorRegistry(auto_describe=False)
    made.register(_Collector(labels, totals, seen))
    return made


class MetricsPort:
    """Shows metrics over HTTP to programs of this machine while the run goes on."""

    def __init__(self, port: int, labels: Mapping[str, str], totals: Callable[[], Totals]) -> None:
        """port: 0 takes one that is free."""
        self.port = port
        self._labels, self._totals = labels, totals
        self._server: WSGIServer | None = None
        self._thread: threading.Thread | None = None

    def open(self, seen: Callable[[], Seen]) -> None:
        """Listen. Raises PrecomputeError if that cannot be."""
        made = registry(self._labels, self._totals, seen)
        from prometheus_client import start_http_server

        try:
            self._server, self._thread = start_http_server(self.port, addr=HOST, registry=made)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise PrecomputeError(f"metrics port {self.port} cannot be used: {reason}") from error
        self.port = self._server.server_port
        _listening.append(self)
        log.info("metrics at %s", self.url)

    @property
    def url(self) -> str:
        """Where metrics are shown; empty while they are not."""
        return "" if self._server is None else f"http://{HOST}:{self.port}/metrics"

    def show(self, seen: Seen) -> None:
        """Whoever wants to know asks."""

    def close(self, seen: Seen) -> None:
        """Listen no more."""
        if self._server is None or self._thread is None:
            return
        _listening.remove(self)
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server = None

    def forsake(self) -> None:
        """In a child process: let go of the port, which is the parent's."""
        if self._server is not None:
            self._server.socket.close()
            self._server = None


_listening: list[MetricsPort] = []


def _forsake_all() -> None:
    while _listening:
        _listening.pop().forsake()


in_children(_forsake_all)


class MetricsFile:
    """Writes metrics to a file, whole each time: when a run begins and ends, and now and then."""

    def __init__(self, path: Path, labels: Mapping[str, str], totals: Callable[[], Totals]) -> None:
        """path: node-exporter's textfile collector reads names that end in .prom."""
        self._path, self._labels, self._totals = path, labels, totals
        self._registry: CollectorRegistry | None = None
        self._written = 0.0

    def open(self, seen: Callable[[], Seen]) -> None:
        """Write it for the first time. Raises PrecomputeError if that cannot be."""
        self._registry = registry(self._labels, self._totals, seen)
        self._write()

    def show(self, seen: Seen) -> None:
        """Write it again if some time has passed. Raises PrecomputeError if that cannot be."""
        if monotonic() - self._written >= _FILE_EVERY:
            self._write()

    def close(self, seen: Seen) -> None:
        """Write it for the last time. Raises PrecomputeError if that cannot be."""
        self._write()

    def _write(self) -> None:
        from prometheus_client import generate_latest

        if self._registry is not None:
            with writing(self._path):
                replace_file(self._path, generate_latest(self._registry))
            self._written = monotonic()
