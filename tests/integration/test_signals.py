"""What operators are told: readiness, limits, refusals; with a real Prometheus."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pywebtransport import WebTransportClient, WebTransportSession
from pywebtransport.exceptions import SessionRejectedError
from pywebtransport.monitoring import Metrics, MetricsEndpoint
from pywebtransport.monitoring._signals import LoopLag
from tests.integration.test_metrics import scrape, value
from tests.support.endpoints import ClientFactory, Serving
from tests.support.ports import free_port
from tests.support.processes import ROOT
from tests.support.steps import until, until_true

FILES = ROOT / "examples" / "monitoring"


async def get(url: str) -> tuple[int, Any]:
    """Status and JSON of an answer."""

    def fetch() -> tuple[int, Any]:
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    return await asyncio.to_thread(fetch)


async def stay(session: WebTransportSession) -> None:
    await session.wait_closed()


async def test_a_server_that_is_full_is_not_ready(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with (
        serving(stay, max_sessions=1) as served,
        WebTransportClient(config=client_config()) as client,
        MetricsEndpoint(Metrics(served.app), port=0) as endpoint,
    ):
        base = endpoint.url.removesuffix("/metrics")
        assert await get(f"{base}/live") == (200, {"live": True})
        assert await get(f"{base}/ready") == (200, {"ready": True, "reasons": []})
        session = await client.connect(served.url())
        reasons = ["max_sessions=1 is reached"]
        assert await get(f"{base}/ready") == (503, {"ready": False, "reasons": reasons})
        assert await get(f"{base}/live") == (200, {"live": True})
        await session.close()
        await until(lambda: not served.server.sessions)
        assert (await get(f"{base}/ready"))[0] == 200


async def test_a_server_that_drains_is_alive_and_not_ready(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with (
        serving(stay) as served,
        WebTransportClient(config=client_config()) as client,
    ):
        metrics = Metrics(served.app)
        samples = scrape(metrics)
        assert value(samples, "webtransport_ready", side="server") == 1
        assert value(samples, "webtransport_draining", side="server") == 0
        async with MetricsEndpoint(metrics, port=0) as endpoint:
            base = endpoint.url.removesuffix("/metrics")
            session = await client.connect(served.url())
            closing = asyncio.create_task(served.server.close(drain_timeout=60))
            await until(lambda: served.server.is_draining)
            assert await get(f"{base}/ready") == (503, {"ready": False, "reasons": ["draining"]})
            assert await get(f"{base}/live") == (200, {"live": True})
            samples = scrape(metrics)
            assert value(samples, "webtransport_ready", side="server") == 0
            assert value(samples, "webtransport_draining", side="server") == 1
            await session.close()
            await closing
            assert (await get(f"{base}/ready"))[1]["reasons"] == ["not listening"]
            assert value(scrape(metrics), "webtransport_draining", side="server") == 0


async def test_a_blocked_event_loop_is_not_alive(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pywebtransport.monitoring._prometheus._LOOP_PATIENCE", 0.05)
    async with serving(stay) as served, MetricsEndpoint(Metrics(served.app), port=0) as endpoint:
        url = endpoint.url.replace("/metrics", "/live")
        code = (
            "import sys, urllib.request, urllib.error\n"
            "try: print(urllib.request.urlopen(sys.argv[1]).status)\n"
            "except urllib.error.HTTPError as error: print(error.code)"
        )
        # Without giving the loop a turn until there is an answer.
        answer = subprocess.run(  # noqa: ASYNC221
            ["python3", "-c", code, url], capture_output=True, text=True, check=True, timeout=20
        )
        assert answer.stdout == "503\n"
        assert await get(url) == (200, {"live": True})


async def test_refusals_have_reasons_and_limits_are_exported(
    serving: Serving, client_config: ClientFactory
) -> None:
    limits = {"max_sessions": 2, "max_connections": 5, "allowed_origins": ["https://a.test"]}
    async with (
        serving({"/": stay}, **limits) as served,
        WebTransportClient(config=client_config(max_connections=7)) as client,
    ):
        metrics = Metrics(served.app, client)
        for path, headers in (("/no", {}), ("/", {"origin": "https://b.test"})):
            with pytest.raises(SessionRejectedError):
                await client.connect(served.url(path), headers=headers)
        sessions = [await client.connect(served.url()) for _ in range(2)]
        with pytest.raises(SessionRejectedError):
            await client.connect(served.url())
        samples = scrape(metrics)
        found = {
            dict(labels)["reason"]: count
            for (name, labels), count in samples.items()
            if name == "webtransport_refused_total" and count
        }
        # A client asks again with the name of older drafts.
        assert found == {"application": 2, "origin": 1, "max_sessions": 1}
        for side, name, limit in (
            ("server", "max_sessions", 2),
            ("server", "max_connections", 5),
            ("client", "max_connections", 7),
        ):
            labels = frozenset({"side": side, "name": name}.items())
            assert samples["webtransport_limit", labels] == limit
        for session in sessions:
            await session.close()


async def test_the_loop_is_measured_while_the_endpoint_listens(serving: Serving) -> None:
    async with serving(stay) as served:
        metrics = Metrics(served.app)
        count = "webtransport_event_loop_lag_seconds_count"
        assert value(scrape(metrics), count) == 0
        async with MetricsEndpoint(metrics, port=0):
            await until(lambda: value(scrape(metrics), count) >= 3)
        stop = metrics.watch_loop()
        before = value(scrape(metrics), count)
        await until(lambda: value(scrape(metrics), count) > before)
        stop()


def test_measurements_are_counted_in_their_buckets() -> None:
    lag = LoopLag()
    for seconds in (0, 0.001, 0.0011, 2):
        lag.note(seconds)
    assert lag.buckets()[0] == ("0.001", 2)
    assert lag.buckets()[1] == ("0.0025", 3)
    assert lag.buckets()[-2:] == [("1.0", 3), ("+Inf", 4)]


# ---------------------------------------------------------------- Prometheus


class Prometheus:
    """A real one, with the files of the examples, that scrapes a port of ours."""

    def __init__(self, directory: Path, target: int) -> None:
        config = yaml.safe_load((FILES / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "100ms", "evaluation_interval": "100ms"}
        config["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{target}"]
        (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
        shutil.copy(FILES / "alerts.yml", directory)
        self.port = free_port(socket.SOCK_STREAM)
        program = shutil.which("prometheus")
        assert program is not None, "prometheus is not installed; run `make setup`"
        with (directory / "log").open("w") as log:
            self.process = subprocess.Popen(
                [
                    program,
                    f"--config.file={directory / 'prometheus.yml'}",
                    f"--storage.tsdb.path={directory / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def close(self) -> None:
        self.process.kill()
        self.process.wait(20)

    async def query(self, expression: str) -> list[dict[str, Any]]:
        """The result of a query; an empty list while it does not answer."""
        url = f"http://127.0.0.1:{self.port}/api/v1/query?"
        try:
            status, answer = await get(url + urllib.parse.urlencode({"query": expression}))
        except (OSError, ValueError):  # it starts
            return []
        assert status == 200, answer
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found


def dashboard() -> Iterator[tuple[str, str]]:
    """Title and expression of each target of the panels."""
    for panel in json.loads((FILES / "grafana.json").read_text())["panels"]:
        for target in panel["targets"]:
            expression = target["expr"].replace("$__rate_interval", "1m")
            yield panel["title"], expression.replace("$instance", ".*")


async def test_dashboard_and_alerts_over_a_real_prometheus(
    serving: Serving, client_config: ClientFactory, tmp_path: Path
) -> None:
    async def echo(session: WebTransportSession) -> None:
        async for stream in session.incoming_streams():
            await stream.write_all(await stream.read_all())  # type: ignore[union-attr]

    async with (
        serving(echo) as served,
        WebTransportClient(config=client_config()) as client,
        MetricsEndpoint(Metrics(served.app), port=0) as endpoint,
    ):
        session = await client.connect(served.url())
        prometheus = Prometheus(tmp_path, int(endpoint.url.rsplit(":")[-1].split("/")[0]))
        try:

            async def scraped() -> bool:
                stream = await session.create_bidirectional_stream()
                await stream.write_all(b"x")
                await stream.read_all()
                return (
                    len(await prometheus.query("count_over_time(webtransport_ready[1m]) > 2")) > 0
                )

            await until_true(scraped)
            for title, expression in dashboard():
                found = await prometheus.query(expression)
                assert found or "lost" in expression, (title, expression)
            rules = yaml.safe_load((FILES / "alerts.yml").read_text())["groups"][0]["rules"]
            for rule in rules:
                assert await prometheus.query(rule["expr"]) == []  # all is well
            (ready,) = await prometheus.query("webtransport_ready")
            assert ready["value"][1] == "1"
        finally:
            prometheus.close()


@pytest.mark.parametrize(
    ("alert", "series", "minutes"),
    [
        ("WebTransportNotReady", {"ready": "0x10", "draining": "0x10"}, 5),
        ("WebTransportDrainTakesLong", {"draining": "1x200"}, 130),
        (
            "WebTransportNearlyFull",
            {
                'sessions{side="server",': "95x20",
                'limit{side="server",name="max_sessions",': "100x20",
            },
            10,
        ),
        ("WebTransportRefuses", {'refused_total{reason="max_sessions",': "0+60x20"}, 12),
        (
            "WebTransportEventLoopLate",
            {
                'event_loop_lag_seconds_bucket{le="0.1",': "0+1x20",
                'event_loop_lag_seconds_bucket{le="1.0",': "0+600x20",
                'event_loop_lag_seconds_bucket{le="+Inf",': "0+600x20",
            },
            12,
        ),
        ("WebTransportHandlersFail", {"handler_errors_total": "0+60x20"}, 12),
        (
            "WebTransportHandshakesFail",
            {"handshake_failures_total": "0+600x20", "connections_accepted_total": "0+60x20"},
            18,
        ),
    ],
)
def test_alerts_fire(alert: str, series: dict[str, str], minutes: int, tmp_path: Path) -> None:
    """With the series that they are for; ``promtool`` computes what Prometheus would."""

    def named(name: str) -> str:
        labels = 'instance="a:1"}'
        return f"webtransport_{name}" + (labels if "{" in name else "{" + labels)

    case = {
        "rule_files": [str(FILES / "alerts.yml")],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": named(name), "values": values} for name, values in series.items()
                ],
                "promql_expr_test": [
                    {
                        "expr": f'count(ALERTS{{alertname="{alert}", alertstate="firing"}})',
                        "eval_time": f"{minutes}m",
                        "exp_samples": [{"labels": "{}", "value": 1}],
                    }
                ],
            }
        ],
    }
    path = tmp_path / "case.yml"
    path.write_text(yaml.safe_dump(case))
    done = subprocess.run(
        ["promtool", "test", "rules", str(path)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_metric_of_the_files_is_one_of_ours() -> None:
    text = (FILES / "alerts.yml").read_text() + (FILES / "grafana.json").read_text()
    sources = "".join(
        path.read_text() for path in (ROOT / "pywebtransport/monitoring").glob("*.py")
    )
    for name in set(re.findall(r"\bwebtransport_([a-z_]+?)(?:_total|_bucket)?\b(?=[{\[ ])", text)):
        assert f'"{name}"' in sources or f"_{name}" in sources, name
