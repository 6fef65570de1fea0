"""Prometheus metrics of servers and clients, and an endpoint that serves them."""

from __future__ import annotations

import asyncio
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING, Any, Self, TypeVar

from ..client import WebTransportClient
from ..exceptions import ConfigurationError, ServerError, invalid_config
from ..server import ServerApp, WebTransportServer
from ..utils._certificates import load_certificate
from ..utils._checks import check_instance, check_integer, check_text
from ..utils._closing import AsyncCloseable
from ..utils._extras import require
from ..utils._system import explain_os_error
from ._probes import with_probes
from ._signals import LIMITS, LoopLag, limits_of, refusals, unready

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

__all__ = ["Metrics", "MetricsEndpoint"]

# Seconds that a scrape on another thread waits for the event loop.
_LOOP_PATIENCE = 5.0
# Round-trip times in seconds, from one rack to the other side of the world.
_RTT_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)

# Name, help, key in the statistics. Values that a source does not have are left out.
_COUNTERS = (
    ("connections_accepted", "QUIC connections accepted", "connections_accepted"),
    ("connections_refused", "QUIC connections refused for a limit", "connections_rejected"),
    ("connection_errors", "Connections that ended with an error", "connection_errors"),
    ("protocol_errors", "Connections that broke a protocol rule", "protocol_errors"),
    ("handshake_failures", "QUIC handshakes that failed", "handshake_failed"),
    ("retries_sent", "Retry packets sent", "retries_sent"),
    ("stateless_resets_sent", "Stateless resets sent", "stateless_resets_sent"),
    ("packets_dropped", "UDP packets that belong to no connection", "dropped_packets"),
    ("packets_overflowed", "UDP packets above the share of their connection", "backlog_dropped"),
    ("packets_rate_limited", "Answers withheld by the rate limit", "rate_limited"),
    ("sessions_accepted", "Sessions accepted", "sessions_accepted"),
    ("sessions_rejected", "Sessions rejected", "sessions_rejected"),
    ("handler_errors", "Handlers and applications that raised", "handler_errors"),
    ("requests", "HTTP requests", "requests"),
    ("requests_refused", "HTTP requests refused for a limit", "requests_limited"),
    ("requests_cancelled", "HTTP requests that ended before their answer", "requests_cancelled"),
    ("request_bytes", "Bytes of request bodies", "request_bytes"),
    ("response_bytes", "Bytes of response bodies", "response_bytes"),
    ("connects_attempted", "Sessions that a client asked for", "attempted"),
    ("connects_failed", "Sessions that a client did not get", "failed"),
    ("connections_lost", "Connections of a client that were up, and lost", "lost"),
    ("connect_seconds", "Time a client waited for sessions that it got", "total_connect_time"),
    ("packets_lost", "QUIC packets declared lost", "packets_lost"),
    ("stream_resets_received", "RESET_STREAM frames received", "resets_received"),
    ("key_updates", "TLS key updates", "key_updates"),
)
# Groups in the statistics of a source; the engine has "connections", too.
_GROUPS = ("connections", "performance", "traffic", "engine")
# Name, help, (value of the label, key) pairs, name of the label.
_LABELLED = (
    ("sessions_accepted_by_transport", "Sessions accepted", "transport", (
        ("quic", "quic_sessions_accepted"), ("websocket", "websocket_sessions_accepted"))),
    ("responses", "Answers to HTTP requests", "status", (
        ("2xx", "responses_2xx"), ("3xx", "responses_3xx"),
        ("4xx", "responses_4xx"), ("5xx", "responses_5xx"))),
    ("packets", "UDP packets", "direction", (
        ("sent", "packets_sent"), ("received", "packets_received"))),
    ("bytes", "Bytes of UDP payload", "direction", (
        ("sent", "bytes_sent"), ("received", "bytes_received"))),
    ("stream_bytes", "Bytes of stream data", "direction", (
        ("sent", "stream_bytes_sent"), ("received", "stream_bytes_received"))),
    ("streams_opened", "QUIC streams opened", "initiator", (
        ("local", "streams_opened_local"), ("remote", "streams_opened_remote"))),
    ("datagrams", "DATAGRAM frames", "direction", (
        ("sent", "datagrams_sent"), ("received", "datagrams_received"))),
    ("datagrams_acknowledged", "DATAGRAM frames acknowledged", None, ((None, "datagrams_acked"),)),
    ("datagrams_lost", "DATAGRAM frames declared lost", None, ((None, "datagrams_lost"),)),
    ("datagrams_dropped", "Datagrams dropped", "reason", (
        ("not_sent", "datagrams_dropped"), ("expired", "datagrams_expired"),
        ("not_read", "datagrams_unread"), ("not_delivered", "datagrams_missed"))),
)  # fmt: skip
_GAUGES = (
    ("connections", "QUIC connections alive", "active_connections"),
    ("handshakes_in_progress", "Handshakes in progress", "half_open"),
    ("sessions", "Sessions alive", "active_sessions"),
    ("requests_active", "HTTP requests being served", "active_requests"),
    ("streams", "QUIC streams alive", "streams_alive"),
    ("bytes_in_flight", "Bytes sent and not acknowledged", "bytes_in_flight"),
)
_LABELLED_GAUGES = (
    ("sessions_by_transport", "Sessions alive", "transport", (
        ("quic", "active_quic_sessions"), ("websocket", "active_websocket_sessions"))),
    ("datagram_queue", "Datagrams that wait in queues", "direction", (
        ("outgoing", "datagrams_queued"), ("incoming", "datagrams_waiting"))),
)  # fmt: skip
# Those of QUIC are the others.
_OF_QUIC = (
    ("quic_sessions_accepted", "sessions_accepted", "websocket_sessions_accepted"),
    ("active_quic_sessions", "active_sessions", "active_websocket_sessions"),
)

_Answer = TypeVar("_Answer")
Source = WebTransportServer | ServerApp | WebTransportClient


class Metrics:
    """Metrics of servers and clients, for a Prometheus registry.

    This is a collector for ``prometheus_client``: each scrape measures again, nothing is counted
    twice, and nothing costs time between scrapes. Create it on the event loop of its sources. That
    loop answers scrapes from other threads, with many connections over several of its turns; once
    it is closed, there are no metrics. A scrape on the thread of the loop measures up to 200
    connections. With more, it returns the values of the last measurement and starts the next one.

    ::

        metrics = Metrics(app)
        async with app, MetricsEndpoint(metrics, port=9464):
            await app.serve()
    """

    def __init__(
        self,
        *sources: Source,
        namespace: str = "webtransport",
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Metrics of ``sources``.

        Args:
            *sources: Servers, applications, clients. The values of all servers are added up with
                ``side="server"``, those of all clients with ``side="client"``.
            namespace: Prefix of the metric names.
            labels: Further labels of every sample, such as ``{"worker": "0"}``.

        Raises:
            ConfigurationError: There is no source; ``namespace`` or a label cannot be used, for
                instance because its value is not a string; prometheus-client is not installed.
            RuntimeError: No event loop is running.
        """
        self._core = require("prometheus_client.core", extra="prometheus")
        if not sources:
            raise invalid_config(
                key="sources",
                value=sources,
                reason="expected at least one WebTransportServer, ServerApp or WebTransportClient",
            )
        for source in sources:
            check_instance("sources", source, WebTransportServer, ServerApp, WebTransportClient)
        check_text("namespace", namespace)
        if not namespace.isidentifier():
            raise invalid_config(
                key="namespace", value=namespace, reason="expected letters, digits and underscores"
            )
        if labels is not None:
            check_instance("labels", labels, Mapping)
        self._labels = dict(labels or {})
        for name, text in self._labels.items():
            if not isinstance(text, str):
                raise invalid_config(
                    key=f"labels[{name!r}]", value=text, reason="expected the value as a string"
                )
            if (
                not isinstance(name, str)
                or not name.isidentifier()
                or name.startswith("__")
                or name in _OWN_LABELS
            ):
                raise invalid_config(
                    key="labels",
                    value=name,
                    reason=f"expected a name of its own, not one of {sorted(_OWN_LABELS)}",
                )
        self._namespace = namespace
        self._sources: dict[str, list[WebTransportServer | WebTransportClient]] = {}
        for source in sources:
            side = "client" if isinstance(source, WebTransportClient) else "server"
            target = source.server if isinstance(source, ServerApp) else source
            targets = self._sources.setdefault(side, [])
            if target not in targets:  # an application and its server are one
                targets.append(target)
        self._loop = asyncio.get_running_loop()
        self._lag = LoopLag()
        self._thread = threading.get_ident()

    @property
    def registry(self) -> CollectorRegistry:
        """A new registry with only these metrics."""
        registry: CollectorRegistry = require(
            "prometheus_client", extra="prometheus"
        ).CollectorRegistry()
        registry.register(self)
        return registry

    def watch_loop(self) -> Callable[[], None]:
        """Measure from now on how late the event loop is, ten times a second.

        ``MetricsEndpoint`` does it while it listens. Call it on the thread of the event loop if
        you serve the metrics in another way.

        Returns:
            A function that stops it.
        """
        return self._lag.watch(self._loop)

    def collect(self) -> Iterable[Metric]:
        """Measure; called by a registry at each scrape, on any thread."""
        if threading.get_ident() == self._thread:
            for source in self._all():
                source.measure()
            return self._metrics()
        answer: Future[list[Metric]] = Future()

        def finish() -> None:
            _settle(answer, self._metrics)

        def measure() -> None:
            if answer.set_running_or_notify_cancel():
                try:
                    self._look_again(finish)
                except BaseException as error:
                    answer.set_exception(error)

        found = self._answer(answer, measure)
        return [] if found is None else found

    def why_unready(self) -> list[str] | None:
        """Return why servers should get no new clients now; an empty list if they should.

        For health checks on any thread but that of the event loop. None: the event loop is
        closed, or did not answer within five seconds.
        """
        answer: Future[list[str]] = Future()

        def look() -> None:
            if answer.set_running_or_notify_cancel():
                _settle(answer, self._reasons)

        try:
            return self._answer(answer, look)
        except FutureTimeoutError:
            return None

    def describe(self) -> Iterable[Metric]:
        """Nothing: a registry need not measure to register."""
        return ()

    # ------------------------------------------------------------------ internal

    def _answer(self, answer: Future[_Answer], ask: Callable[[], object]) -> _Answer | None:
        """Call a function in the event loop, and wait for its answer; None: the loop is closed."""
        try:
            self._loop.call_soon_threadsafe(ask)
        except RuntimeError:  # and so are the sources
            return None
        try:
            return answer.result(_LOOP_PATIENCE)
        except FutureTimeoutError:
            answer.cancel()
            raise

    def _reasons(self) -> list[str]:
        found = (unready(server) for server in self._servers())
        return [reason for reason in found if reason is not None]

    def _servers(self) -> Iterator[WebTransportServer]:
        for source in self._sources.get("server", ()):
            assert isinstance(source, WebTransportServer)
            yield source

    def _all(self) -> list[WebTransportServer | WebTransportClient]:
        return [source for sources in self._sources.values() for source in sources]

    def _look_again(self, then: Callable[[], object]) -> None:
        """Measure all connections, over some turns of the event loop when they are many."""
        rounds = [source.begin_round() for source in self._all()]
        left = len(rounds)

        def over() -> None:
            nonlocal left
            left -= 1
            if not left:
                then()

        for one in rounds:
            one.when_over(over)

    def _metrics(self) -> list[Metric]:
        figures = {
            side: self._add(source.last_measured() for source in sources)
            for side, sources in self._sources.items()
        }
        return [
            *self._counters(figures),
            *self._gauges(figures),
            *self._states(),
            self._rtt(),
            self._loop_lag(),
        ]

    @staticmethod
    def _add(stats: Iterable[dict[str, Any]]) -> dict[str, float]:
        sums: dict[str, float] = {}
        for one in stats:
            for group in _GROUPS:
                one |= one.pop(group, {})
            for name, value in one.items():
                if not isinstance(value, dict):  # "transports" of a client
                    sums[name] = sums.get(name, 0) + value
        for name, total, rest in _OF_QUIC:
            if rest in sums:
                sums[name] = sums[total] - sums[rest]
        return sums

    def _counters(self, figures: dict[str, dict[str, float]]) -> Iterator[Metric]:
        for name, text, key in _COUNTERS:
            yield from self._family("Counter", name, text, None, ((None, key),), figures)
        for name, text, label, pairs in _LABELLED:
            yield from self._family("Counter", name, text, label, pairs, figures)
        refused = {side: refusals(sums) for side, sums in figures.items()}
        reasons = {reason: reason for sums in refused.values() for reason in sums}
        text = "Session requests, connections and HTTP requests refused"
        yield from self._family("Counter", "refused", text, "reason", reasons.items(), refused)

    def _gauges(self, figures: dict[str, dict[str, float]]) -> Iterator[Metric]:
        for name, text, key in _GAUGES:
            yield from self._family("Gauge", name, text, None, ((None, key),), figures)
        for name, text, label, pairs in _LABELLED_GAUGES:
            yield from self._family("Gauge", name, text, label, pairs, figures)

    def _family(
        self,
        kind: str,
        name: str,
        text: str,
        label: str | None,
        pairs: Iterable[tuple[str | None, str]],
        figures: dict[str, dict[str, float]],
    ) -> Iterator[Metric]:
        """One metric with a sample for each side and each value of the label."""
        names = ["side", *([label] if label else []), *self._labels]
        make = getattr(self._core, f"{kind}MetricFamily")
        family = make(f"{self._namespace}_{name}", text, labels=names)
        for side, sums in figures.items():
            for value, key in pairs:
                if key in sums:
                    labels = [side, *([value] if label else []), *self._labels.values()]
                    family.add_metric(labels, sums[key])
        if family.samples:
            yield family

    def _states(self) -> Iterator[Metric]:
        """Limits of the configurations, and whether servers are ready."""
        limits: dict[str, dict[str, float]] = {}
        for side, sources in self._sources.items():
            sums = limits[side] = {}
            for source in sources:
                for name, value in limits_of(source).items():
                    sums[name] = sums.get(name, 0) + value
        names = [(name, name) for name in LIMITS]
        text = "Limits of the configuration"
        yield from self._family("Gauge", "limit", text, "name", names, limits)
        servers = list(self._servers())
        if servers:
            states = {
                "ready": sum(unready(server) is None for server in servers),
                "draining": sum(server.is_draining for server in servers),
            }
            for name, text in (
                ("ready", "Servers that take new clients"),
                ("draining", "Servers that let their sessions end"),
            ):
                figures = {"server": {name: float(states[name])}}
                yield from self._family("Gauge", name, text, None, ((None, name),), figures)

    def _loop_lag(self) -> Metric:
        """How late the event loop was."""
        family: Any = self._core.HistogramMetricFamily(
            f"{self._namespace}_event_loop_lag_seconds",
            "How late the event loop called what was due",
            labels=list(self._labels),
        )
        family.add_metric(list(self._labels.values()), self._lag.buckets(), self._lag.total)
        metric: Metric = family
        return metric

    def _rtt(self) -> Metric:
        """Smoothed round-trip times of the open connections, as a histogram."""
        family: Any = self._core.GaugeHistogramMetricFamily(
            f"{self._namespace}_rtt_seconds",
            "Smoothed round-trip times of the connections alive",
            labels=["side", *self._labels],
        )
        for side, sources in self._sources.items():
            values = sorted(value for source in sources for value in source.round_trip_times())
            buckets = [(str(bound), float(bisect_right(values, bound))) for bound in _RTT_BOUNDS]
            buckets.append(("+Inf", float(len(values))))
            family.add_metric([side, *self._labels.values()], buckets, sum(values))
        metric: Metric = family
        return metric


_OWN_LABELS = frozenset(
    {"side", "direction", "initiator", "reason", "status", "transport", "name", "le"}
)


class MetricsEndpoint(AsyncCloseable):
    """Serves metrics over HTTP, by default on ``http://127.0.0.1:9464/metrics``.

    ``async with MetricsEndpoint(metrics):``. Beside it are two paths for health checks. ``/live``
    answers 200 if the event loop answers within five seconds, otherwise 503. ``/ready`` answers 200
    if all servers take new clients, and 503 with the reasons in JSON while one drains, has reached
    ``max_sessions`` or ``max_connections``, or does not listen.

    The HTTP server is that of prometheus-client, on a separate thread; it measures on the event
    loop. Each worker process needs its own port.
    """

    def __init__(
        self,
        metrics: Metrics,
        *,
        host: str = "127.0.0.1",
        port: int = 9464,
        certfile: str | None = None,
        keyfile: str | None = None,
    ) -> None:
        """Create an endpoint that does not listen yet.

        Args:
            metrics: The metrics to serve.
            host: Address to listen on; everyone who can reach it can read the metrics.
            port: TCP port; 0 chooses a free one.
            certfile: Certificate for HTTPS, with ``keyfile``.
            keyfile: Its key.

        Raises:
            ConfigurationError: An argument has the wrong type, the port is out of range, or only
                one of the files is given.
        """
        check_instance("metrics", metrics, Metrics)
        check_text("host", host)
        check_integer("port", port, 0, 65535)
        if (certfile is None) != (keyfile is None):
            missing = "keyfile" if keyfile is None else "certfile"
            raise ConfigurationError(
                "HTTPS needs both certfile and keyfile", config_key=missing, config_value=None
            )
        self._metrics = metrics
        self._host = host
        self._port = port
        self._files = {"certfile": certfile, "keyfile": keyfile}
        self._running: tuple[Any, threading.Thread] | None = None
        self._unwatch: Callable[[], None] = lambda: None

    @property
    def url(self) -> str:
        """The URL of the metrics.

        Raises:
            ServerError: The endpoint does not listen.
        """
        if self._running is None:
            raise ServerError("the metrics endpoint does not listen; use it in `async with`")
        scheme = "http" if self._files["certfile"] is None else "https"
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{scheme}://{host}:{self._running[0].server_port}/metrics"

    async def start(self) -> None:
        """Listen; idempotent.

        Raises:
            ServerError: The address cannot be bound.
            CertificateError: The certificate or key file is missing or unusable.
        """
        if self._running is not None:
            return
        certfile, keyfile = self._files["certfile"], self._files["keyfile"]
        if certfile is not None and keyfile is not None:
            # The HTTP server would find out once it has the port, and keep it.
            load_certificate(certfile=certfile, keyfile=keyfile)
        start = require("prometheus_client", extra="prometheus").start_http_server
        registry = self._metrics.registry
        try:
            server, thread = start(self._port, addr=self._host, registry=registry, **self._files)
        except OSError as error:
            raise ServerError(
                f"cannot serve metrics on {self._host} port {self._port}: "
                f"{explain_os_error(error)}",
                bind_address=(self._host, self._port),
            ) from error
        server.set_app(with_probes(server.get_app(), self._metrics.why_unready))
        self._running = server, thread
        self._unwatch = self._metrics.watch_loop()

    async def close(self) -> None:
        """Stop listening; idempotent. Takes up to half a second.

        Cancellation: the endpoint is closed anyway, in the background.
        """
        running, self._running = self._running, None
        if running is not None:
            self._unwatch()
            await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, _stop, *running))

    async def __aenter__(self) -> Self:
        await self.start()
        return self


def _settle(answer: Future[_Answer], make: Callable[[], _Answer]) -> None:
    try:
        answer.set_result(make())
    except BaseException as error:
        answer.set_exception(error)


def _stop(server: Any, thread: threading.Thread) -> None:
    server.shutdown()
    server.server_close()
    thread.join()
