"""Prometheus metrics: real values, from the loop's own thread and from another, over HTTP."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import ssl
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from pywebtransport import (
    ClientConfig,
    ConfigurationError,
    ServerError,
    WebTransportClient,
    WebTransportSession,
)
from pywebtransport.exceptions import CertificateError, UnreachableError
from pywebtransport.monitoring import Metrics, MetricsEndpoint
from tests.support.certificates import Certificates
from tests.support.endpoints import ClientFactory, Serving
from tests.support.steps import until

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def echo_datagrams(session: WebTransportSession) -> None:
    while True:
        await session.datagrams.send(await session.datagrams.receive())


def parse(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scrape(metrics: Metrics) -> Samples:
    return parse(generate_latest(metrics.registry).decode())


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


async def fetch(url: str, certs: Certificates | None = None) -> str:
    context = None
    if certs is not None:
        context = ssl.create_default_context(cafile=certs.authority.certfile)

    def get() -> str:
        with urllib.request.urlopen(url, timeout=20, context=context) as answer:
            body: bytes = answer.read()
            return body.decode()

    return await asyncio.to_thread(get)


async def test_metrics_are_what_happened(serving: Serving, client_config: ClientFactory) -> None:
    async with (
        serving(echo_datagrams) as served,
        WebTransportClient(config=client_config()) as client,
    ):
        metrics = Metrics(served.app, client)
        samples = scrape(metrics)
        assert value(samples, "webtransport_sessions", side="server") == 0
        assert value(samples, "webtransport_rtt_seconds_gcount", side="client") == 0
        session = await client.connect(served.url())
        for _ in range(3):
            await session.datagrams.send(b"x")
            await session.datagrams.receive(timeout=20)
        stream = await session.create_bidirectional_stream()
        await stream.write(b"y" * 1000)
        await until(lambda: served.server._figures.collect(served.server.connections)
                    ["stream_bytes_received"] >= 1000)  # fmt: skip
        samples = scrape(metrics)
        for side in ("server", "client"):
            assert value(samples, "webtransport_sessions", side=side) == 1
            assert value(samples, "webtransport_connections", side=side) == 1
            assert value(samples, "webtransport_rtt_seconds_gcount", side=side) == 1
            assert 0 < value(samples, "webtransport_rtt_seconds_gsum", side=side) < 20
            for direction in ("sent", "received"):
                name = "webtransport_datagrams_total"
                assert value(samples, name, side=side, direction=direction) == 3
        assert value(samples, "webtransport_connections_accepted_total", side="server") == 1
        assert value(samples, "webtransport_sessions_accepted_total", side="server") == 1
        assert value(samples, "webtransport_connects_attempted_total", side="client") == 1
        name = "webtransport_stream_bytes_total"
        assert value(samples, name, side="server", direction="received") >= 1000
        name = "webtransport_streams_opened_total"
        assert value(samples, name, side="server", initiator="remote") >= 2
        await session.close()
        await until(lambda: not served.server.connections)
        before, samples = samples, scrape(metrics)
        assert value(samples, "webtransport_connections", side="server") == 0
        # No counter goes back when a connection ends.
        for (name, labels), count in before.items():
            if name.endswith("_total"):
                assert samples[name, labels] >= count, name


async def test_failures_are_counted(serving: Serving, client_config: ClientFactory) -> None:
    async def refuse(session: WebTransportSession) -> bool:
        return False

    async with (
        serving(None) as served,
        WebTransportClient(config=client_config()) as client,
        WebTransportClient(config=client_config(ca_certs=None)) as wary,
    ):
        served.app.add_middleware(refuse)
        metrics = Metrics(served.server, client, wary, namespace="wt", labels={"worker": "3"})
        for opener in (client, wary):
            outcome = await asyncio.gather(opener.connect(served.url()), return_exceptions=True)
            assert isinstance(outcome[0], Exception)
        await until(lambda: served.server.measure()["engine"]["handshake_failed"] == 1)
        samples = scrape(metrics)
        assert value(samples, "wt_handshake_failures_total", side="server", worker="3") == 1
        # The two clients are added up.
        assert value(samples, "wt_connects_failed_total", side="client", worker="3") == 2
        assert value(samples, "wt_connects_attempted_total", side="client", worker="3") == 2


async def test_endpoint_serves_metrics(serving: Serving, client_config: ClientFactory) -> None:
    async with (
        serving(echo_datagrams) as served,
        WebTransportClient(config=client_config()) as client,
    ):
        endpoint = MetricsEndpoint(Metrics(served.app), port=0)
        with pytest.raises(ServerError, match="does not listen"):
            endpoint.url  # noqa: B018
        async with endpoint:
            await endpoint.start()
            await client.connect(served.url())
            samples = parse(await fetch(endpoint.url))
            assert value(samples, "webtransport_sessions", side="server") == 1
            taken = MetricsEndpoint(Metrics(served.app), port=int(endpoint.url.split(":")[2][:-8]))
            with pytest.raises(ServerError, match="cannot serve metrics"):
                await taken.start()
        await endpoint.close()


async def test_endpoint_with_tls(serving: Serving, certs: Certificates) -> None:
    async with serving(None) as served:
        files = certs.server.files
        endpoint = MetricsEndpoint(
            Metrics(served.app), port=0, certfile=files["certfile"], keyfile=files["keyfile"]
        )
        async with endpoint:
            assert endpoint.url.startswith("https://127.0.0.1:")
            assert "webtransport_sessions" in await fetch(endpoint.url, certs)


async def test_registry_of_the_program(serving: Serving) -> None:
    """A registry that the program has already, and scrapes of other threads."""
    registry = CollectorRegistry()
    async with serving(None) as served:
        registry.register(Metrics(served.server))
        text = (await asyncio.to_thread(generate_latest, registry)).decode()
        assert value(parse(text), "webtransport_sessions", side="server") == 0


def test_no_metrics_when_the_loop_is_closed() -> None:
    async def make() -> Metrics:
        async with WebTransportClient(config=ClientConfig()) as client:
            return Metrics(client)

    metrics = asyncio.run(make())
    metrics._thread = -1  # as from another thread
    assert list(metrics.collect()) == []


async def test_an_error_while_measuring_reaches_the_scraper(serving: Serving) -> None:
    async with serving(None) as served:
        metrics = Metrics(served.server)
        del served.server._figures
        with pytest.raises(AttributeError, match="_figures"):
            await asyncio.to_thread(metrics.collect)


async def test_bad_arguments(serving: Serving) -> None:
    async with serving(None) as served:
        with pytest.raises(ConfigurationError, match="at least one"):
            Metrics()
        with pytest.raises(ConfigurationError, match="namespace"):
            Metrics(served.app, namespace="a-b")
        for label in ("side", "a-b", "__name"):
            with pytest.raises(ConfigurationError, match="labels"):
                Metrics(served.app, labels={label: "x"})
        with pytest.raises(ConfigurationError, match=r"labels\['worker'\] = 0"):
            Metrics(served.app, labels={"worker": 0})  # type: ignore[dict-item]
        metrics = Metrics(served.app)
        with pytest.raises(ConfigurationError, match="port"):
            MetricsEndpoint(metrics, port=65536)
        with pytest.raises(ConfigurationError, match="keyfile"):
            MetricsEndpoint(metrics, certfile="a.crt")


@pytest.mark.loops("asyncio")
async def test_arguments_of_other_types(serving: Serving) -> None:
    async with serving() as served:
        for source in (5, None, "server", WebTransportClient):
            with pytest.raises(ConfigurationError, match="sources"):
                Metrics(source)  # type: ignore[arg-type]
        for options in ({"namespace": 5}, {"labels": 5}, {"labels": {5: "a"}}, {"labels": "ab"}):
            with pytest.raises(ConfigurationError, match=next(iter(options))):
                Metrics(served.server, **options)  # type: ignore[arg-type]
        metrics = Metrics(served.server)
        for options in ({"host": 5}, {"port": "9464"}, {"port": True}, {"port": None}):
            with pytest.raises(ConfigurationError, match=next(iter(options))):
                MetricsEndpoint(metrics, **options)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="metrics"):
            MetricsEndpoint(served.server)  # type: ignore[arg-type]


async def test_server_that_is_named_twice_counts_once(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with (
        serving(None) as served,
        WebTransportClient(config=client_config()) as client,
    ):
        await client.connect(served.url())
        samples = scrape(Metrics(served.app, served.server, client, client))
        for side in ("server", "client"):
            assert value(samples, "webtransport_sessions", side=side) == 1


async def test_unusable_certificate_leaves_no_port_taken(
    serving: Serving, certs: Certificates
) -> None:
    files = certs.server.files
    async with serving(None) as served:
        for keyfile in ("missing.key", files["certfile"]):
            endpoint = MetricsEndpoint(
                Metrics(served.app), port=0, certfile=files["certfile"], keyfile=keyfile
            )
            with pytest.raises(CertificateError, match=re.escape(keyfile)):
                await endpoint.start()


async def test_missing_package_is_named(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client.core", None)
    async with serving(None) as served:
        with pytest.raises(ConfigurationError, match=r"pip install .prometheus-client>=0\.20"):
            Metrics(served.app)


async def test_unreachable_server_is_a_failed_connect(client_config: ClientFactory) -> None:
    async with WebTransportClient(config=client_config()) as client:
        metrics = Metrics(client)
        with pytest.raises(UnreachableError):
            await client.connect("https://127.0.0.1:1/")
        samples = scrape(metrics)
        assert value(samples, "webtransport_connects_failed_total", side="client") == 1


def test_example_serves_metrics_and_ends_on_interrupt(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(
        [sys.executable, str(root / "examples" / "metrics.py"), "0", "0"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("metrics at http://127.0.0.1:"), line
            samples = parse(asyncio.run(fetch(line.split()[2])))
            assert value(samples, "webtransport_sessions", side="server") == 0
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, errors) == (0, "")
