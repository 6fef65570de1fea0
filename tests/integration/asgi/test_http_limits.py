"""Limits, statistics, logs and the end of a server that has a mounted application."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from pywebtransport import ConfigurationError, ServerApp, ServerConfig, WebTransportClient
from pywebtransport.exceptions import ServerError, SessionRejectedError
from pywebtransport.server import WebTransportServer
from tests.support.asgi_http import (
    answer,
    asgi_served,
    body_of,
    by_path,
    echo,
    hello,
    start,
    until_over,
)
from tests.support.certificates import Certificates
from tests.support.endpoints import make_client_config, make_server_config, serving
from tests.support.http3 import http3
from tests.support.leaks import ExpectedLogs
from tests.support.steps import until

INTERNAL_ERROR = 0x102
EXCESSIVE_LOAD = 0x107
REQUEST_CANCELLED = 0x10C

pytestmark = pytest.mark.loops("asyncio")


class Gate:
    """An application whose requests wait until they are let through."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.waiting = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.waiting += 1
        await self.open.wait()
        self.waiting -= 1
        await answer(send, b"through")


# ------------------------------------------------------------------------------ limits


async def test_max_requests(certs: Certificates, caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate()
    async with asgi_served(certs, gate, max_requests=2) as asgi:
        waiting = [asgi.client.open("GET", "/") for _ in range(2)]
        await until(lambda: gate.waiting == 2)
        refused = await asgi.client.get("/")
        assert (refused.status, refused.get("retry-after")) == (503, "10")
        gate.open.set()
        for exchange in waiting:
            assert (await exchange.finish()).body == b"through"
        await until(lambda: not asgi.server.http_requests.tasks)
        assert (await asgi.client.get("/")).status == 200
        stats = await asgi.server.get_server_stats()
        assert (stats["requests"], stats["requests_limited"]) == (4, 1)
        issues = await asgi.server.diagnose_issues()
        assert "1 HTTP requests were refused for max_requests" in issues
    assert "refused / with status 503: max_requests=2 is reached" in caplog.text


async def test_announced_body_above_the_limit(certs: Certificates) -> None:
    called = False

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal called
        called = True

    async with asgi_served(certs, app, max_request_body=1000) as asgi:
        exchange = asgi.client.open("POST", "/", [("content-length", "1001")], fin=False)
        assert (await exchange.finish()).status == 413
    assert not called


async def test_body_above_the_limit(certs: Certificates) -> None:
    """413 if nothing was answered, else a reset; the application sees ``http.disconnect``."""
    errors = []

    async def read(scope: Any, receive: Any, send: Any) -> None:
        assert await until_over(receive) <= 1000
        try:
            await answer(send)
        except OSError as error:
            errors.append(error)
            raise

    async def begin(scope: Any, receive: Any, send: Any) -> None:
        await send(start())
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        await read(scope, receive, send)

    app = by_path(read=read, begin=begin, echo=echo)
    async with asgi_served(certs, app, max_request_body=1000) as asgi:
        assert (await asgi.client.post("/echo", bytes(1000))).body == bytes(1000)
        assert (await asgi.client.post("/read", bytes(1001))).status == 413
        exchange = asgi.client.open("POST", "/begin", fin=False)
        exchange.send(bytes(1001))
        assert await exchange.reset_code() == EXCESSIVE_LOAD
        await until(lambda: not asgi.server.http_requests.tasks)
    assert len(errors) == 2


async def test_request_that_stalls(certs: Certificates) -> None:
    async def read(scope: Any, receive: Any, send: Any) -> None:
        await until_over(receive)

    async def begin(scope: Any, receive: Any, send: Any) -> None:
        await send(start())
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        await until_over(receive)

    async with asgi_served(certs, by_path(read=read, begin=begin), request_timeout=0.05) as asgi:
        exchange = asgi.client.open("POST", "/read", fin=False)
        exchange.send(b"a little")
        assert (await exchange.finish()).status == 408
        exchange = asgi.client.open("POST", "/begin", fin=False)
        assert await exchange.reset_code() == REQUEST_CANCELLED
        await until(lambda: not asgi.server.http_requests.tasks)


@pytest.mark.loops("virtual")
async def test_request_timeout_begins_anew_with_each_piece(certs: Certificates) -> None:
    """And it does not count after the end of the request, nor while nobody asks."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(8)
        data = await body_of(receive)
        watching = asyncio.create_task(receive())
        await asyncio.sleep(8)
        assert not watching.done()
        await answer(send, data)
        assert (await watching)["type"] == "http.disconnect"

    async with asgi_served(certs, app, request_timeout=5.0) as asgi:
        exchange = asgi.client.open("POST", "/", fin=False)
        await asyncio.sleep(9)
        for _ in range(4):
            exchange.send(b"ab")
            await asyncio.sleep(4)
        exchange.send(b"", True)
        assert (await exchange.finish()).body == b"abababab"


async def test_client_that_does_not_read(certs: Certificates) -> None:
    """``write_timeout`` limits each wait of ``send``, as it does on streams of a session."""
    errors = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start())
        try:
            while True:
                body = bytes(1_000_000)
                await send({"type": "http.response.body", "body": body, "more_body": True})
        except OSError as error:
            errors.append(error)
            raise

    async with asgi_served(certs, app, write_timeout=0.05) as asgi:
        exchange = asgi.client.open("GET", "/")
        await exchange.head()
        await until(lambda: not asgi.server.http_requests.tasks)
        assert await exchange.reset_code() == REQUEST_CANCELLED
    assert len(errors) == 1


async def test_more_requests_than_streams(certs: Certificates) -> None:
    """The transport limits what one connection has open; ended requests make room."""
    async with asgi_served(certs, hello, initial_max_streams_bidi=4) as asgi:
        for _ in range(40):
            exchanges = [asgi.client.open("GET", "/") for _ in range(20)]
            assert {(await one.finish()).status for one in exchanges} == {200}


# ------------------------------------------------------------- requests that are taken back


@pytest.mark.loops("asyncio", "uvloop")
async def test_storm_of_cancelled_requests(certs: Certificates) -> None:
    """Nothing is left of them, and the server goes on."""
    answered = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal answered
        await send(start())
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        answered += 1
        await until_over(receive)

    async with asgi_served(certs, by_path(wait=app, hello=hello)) as asgi:
        for _ in range(10):
            exchanges = [asgi.client.open("POST", "/wait", fin=False) for _ in range(50)]
            for exchange in exchanges:
                await exchange.read()
                exchange.cancel()
        await until(lambda: not asgi.server.http_requests.tasks)
        assert answered == 500
        assert (await asgi.client.get("/hello")).status == 200
        (connection,) = asgi.server.connections
        assert connection.h3 is not None
        assert not connection.h3.exchanges


async def test_resets_before_any_answer_end_the_connection(certs: Certificates) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await until_over(receive)

    async with asgi_served(certs, app) as asgi:
        connection = asgi.client.connection
        for _ in range(100_000):
            if connection.is_closed:
                break
            exchange = asgi.client.open("POST", "/", fin=False)
            await asyncio.sleep(0)
            exchange.cancel()
        assert getattr(connection.error, "error_code", None) == EXCESSIVE_LOAD
        await until(lambda: not asgi.server.http_requests.tasks)


# ------------------------------------------------------------------- statistics and logs


async def test_statistics(certs: Certificates, expected_logs: ExpectedLogs) -> None:
    expected_logs("oops")

    async def status(scope: Any, receive: Any, send: Any) -> None:
        code = int(scope["query_string"])
        if code == 500:
            raise ValueError("oops")
        await answer(send, await body_of(receive), code)

    async with asgi_served(certs, status) as asgi:
        for code in (200, 201, 302, 404, 410, 418, 500, 503):
            await asgi.client.post(f"/?{code}", b"four")
        await until(lambda: not asgi.server.http_requests.tasks)
        stats = await asgi.server.get_server_stats()
    assert stats["requests"] == 8
    assert stats["active_requests"] == 0
    classes = [stats[f"responses_{digit}xx"] for digit in (2, 3, 4, 5)]
    assert classes == [2, 1, 3, 2]
    assert (stats["request_bytes"], stats["response_bytes"]) == (28, 28)
    assert stats["connections_unused"] == 0


async def test_access_log_has_requests_and_sessions(
    certs: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pywebtransport.access")
    went = asyncio.Event()

    async def lost(scope: Any, receive: Any, send: Any) -> None:
        went.set()
        await until_over(receive)

    async with asgi_served(certs, by_path(hello=hello, lost=lost)) as asgi:
        asgi.served.app.route("/session")(lambda session: asyncio.sleep(0))
        await asgi.client.get("/hello?secret=1", [("origin", "https://a.test")])
        exchange = asgi.client.open("GET", "/lost")
        await went.wait()
        exchange.cancel()
        await until(lambda: len(caplog.records) == 2)
        async with (
            WebTransportClient(config=make_client_config(certs)) as client,
            client.connect(asgi.served.url("/session")),
        ):
            pass
    lines = [record.getMessage() for record in caplog.records]
    port = asgi.client.connection.info.local_address
    assert '"GET /hello?… HTTP/3" 200 ' in lines[0]
    assert lines[0].startswith("127.0.0.1:")
    assert lines[0].endswith("ms origin=https://a.test")
    assert '"GET /lost HTTP/3" 499 ' in lines[1]
    assert '"CONNECT /session" 200 ' in lines[2]
    record = vars(caplog.records[0])
    assert (record["method"], record["path"], record["status"]) == ("GET", "/hello?…", 200)
    assert port is None or record["duration_ms"] >= 0


async def test_access_log_can_be_switched_off(
    certs: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pywebtransport.access")
    async with asgi_served(certs, hello, access_log=False) as asgi:
        await asgi.client.get("/")
    assert not caplog.records


async def test_metrics(certs: Certificates) -> None:
    pytest.importorskip("prometheus_client")
    from pywebtransport.monitoring import Metrics

    async with asgi_served(certs, echo) as asgi:
        metrics = Metrics(asgi.served.app)
        await asgi.client.post("/", b"12345")
        await until(lambda: not asgi.server.http_requests.tasks)
        samples = {
            (sample.name, sample.labels.get("status")): sample.value
            for family in metrics.collect()
            for sample in family.samples
        }
    assert samples["webtransport_requests_total", None] == 1
    assert samples["webtransport_responses_total", "2xx"] == 1
    assert samples["webtransport_responses_total", "5xx"] == 0
    assert samples["webtransport_request_bytes_total", None] == 5
    assert samples["webtransport_response_bytes_total", None] == 5


# ------------------------------------------------------------------------------ routing


async def test_routes_come_first(certs: Certificates) -> None:
    """Sessions on other paths, and all HTTP requests, go to the application."""
    kinds = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        kinds.append((scope["type"], scope["path"]))
        if scope["type"] == "http":
            await answer(send, b"page")
        else:
            await receive()
            await send({"type": "webtransport.accept"})
            await receive()

    handled = []

    async def handler(session: Any) -> None:
        handled.append(session.path)

    async with asgi_served(certs, app) as asgi:
        asgi.served.app.route("/ours")(handler)
        async with WebTransportClient(config=make_client_config(certs)) as client:
            for path in ("/ours", "/theirs"):
                await (await client.connect(asgi.served.url(path))).close()
        assert (await asgi.client.get("/ours")).body == b"page"
    assert handled == ["/ours"]
    assert kinds == [("webtransport", "/theirs"), ("http", "/ours")]


async def test_origins_and_middleware_hold_for_sessions_of_the_application(
    certs: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pywebtransport.access")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("never called")

    async def forbid(*, session: Any) -> bool:
        return False

    fields = {"middleware": [forbid], "allowed_origins": ["https://a.test"]}
    async with (
        asgi_served(certs, app, **fields) as asgi,
        WebTransportClient(config=make_client_config(certs)) as client,
    ):
        for headers in ({}, {"origin": "https://b.test"}):
            with pytest.raises(SessionRejectedError) as caught:
                await client.connect(asgi.served.url("/x"), headers=headers)
            assert caught.value.status_code == 403
    assert ['"CONNECT /x" 403' in item.getMessage() for item in caplog.records] == [True]


async def test_other_servers_of_an_application(certs: Certificates) -> None:
    """``attach`` gives the mounted application the requests of a further server."""
    app = ServerApp(config=make_server_config(certs))
    app.mount(hello, lifespan="off", tcp=False)
    other = WebTransportServer(config=make_server_config(certs))
    app.attach(other)
    async with serving(certs, app) as served, other:
        await other.listen()
        for port in (served.port, other.port):
            async with http3(certs, port=port) as client:
                assert (await client.get("/")).body == b"hello"
        for server in (served.server, other):
            assert (await server.get_server_stats())["requests"] == 1


async def test_unknown_scope_is_500_with_a_hint(
    certs: Certificates, expected_logs: ExpectedLogs, caplog: pytest.LogCaptureFixture
) -> None:
    expected_logs("AssertionError")
    expected_logs("WebTransportRouter")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] in ("http", "websocket", "lifespan")

    async with (
        asgi_served(certs, app) as asgi,
        WebTransportClient(config=make_client_config(certs)) as client,
    ):
        with pytest.raises(SessionRejectedError) as caught:
            await client.connect(asgi.served.url("/"))
        assert caught.value.status_code == 500


# ----------------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({"app": None}, "app"),
        ({"app": "module:app"}, "app"),
        ({"app": ServerApp}, "app"),
        ({"app": len}, "app"),
        ({"app": by_path}, "app"),
        ({"root_path": "shop"}, "root_path"),
        ({"root_path": "/shop/"}, "root_path"),
        ({"root_path": None}, "root_path"),
        ({"root_path": "/a b"}, "root_path"),
        ({"root_path": "/a\r\nb"}, "root_path"),
        ({"root_path": "/a?b"}, "root_path"),
        ({"root_path": "/a%20b"}, "root_path"),
        ({"root_path": "//a"}, "root_path"),
        ({"lifespan": "yes"}, "lifespan"),
        ({"startup_timeout": 0}, "startup_timeout"),
        ({"shutdown_timeout": "1"}, "shutdown_timeout"),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else value,
)
async def test_arguments_of_mount(fields: dict[str, Any], key: str) -> None:
    app = ServerApp()
    with pytest.raises(ConfigurationError) as caught:
        app.mount(**{"app": hello, **fields})
    assert caught.value.config_key == key
    app.mount(hello)  # nothing was changed
    with pytest.raises(ConfigurationError, match="mounted already"):
        app.mount(hello)


async def test_mount_comes_before_the_start(server_config: Any) -> None:
    app = ServerApp(config=server_config())
    async with app:
        with pytest.raises(ServerError, match="before the server is started"):
            app.mount(hello)


# ------------------------------------------------------------------------------ the end


@pytest.mark.loops("asyncio", "uvloop")
async def test_drain_waits_for_requests(certs: Certificates) -> None:
    """Requests that are under way are answered; bodies arrive whole; then the server ends."""
    gate = Gate()
    big = bytes(2_000_000)

    async def large(scope: Any, receive: Any, send: Any) -> None:
        await gate.open.wait()
        await answer(send, big)

    async with asgi_served(certs, by_path(gate=gate, large=large), drain_timeout=20.0) as asgi:
        waiting = [asgi.client.open("GET", path) for path in ("/gate", "/large")]
        await until(lambda: len(asgi.server.http_requests.tasks) == 2)
        closing = asyncio.create_task(asgi.server.close())
        client_h3 = asgi.client.connection.h3
        assert client_h3 is not None
        await until(lambda: client_h3.goaway_received)
        assert not closing.done()
        gate.open.set()
        assert (await waiting[0].finish()).body == b"through"
        assert (await waiting[1].finish()).body == big
        await closing


async def test_drain_waits_for_work_after_the_answer(certs: Certificates) -> None:
    ended = False

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal ended
        await answer(send, b"first")
        await go.wait()
        ended = True

    go = asyncio.Event()
    async with asgi_served(certs, app, drain_timeout=20.0) as asgi:
        assert (await asgi.client.get("/")).body == b"first"
        closing = asyncio.create_task(asgi.server.close())
        await until(lambda: asgi.client.connection.state != "connected")
        go.set()
        await closing
        assert ended


async def test_end_without_drain_cancels(certs: Certificates) -> None:
    cancelled = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(scope["path"])
            raise

    async with asgi_served(certs, app) as asgi:
        exchanges = [asgi.client.open("GET", path) for path in ("/one", "/two")]
        await until(lambda: len(asgi.server.http_requests.tasks) == 2)
        await asgi.server.close(drain_timeout=0)
        assert not asgi.server.http_requests.tasks
        assert [(await each.finish()).status for each in exchanges] == [503, 503]
    assert sorted(cancelled) == ["/one", "/two"]


@pytest.mark.loops("virtual")
async def test_drain_ends_after_its_time(certs: Certificates) -> None:
    """A request without response is answered with 503, one with half a response is reset."""

    async def wait(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    async def half(scope: Any, receive: Any, send: Any) -> None:
        await send(start())
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        await asyncio.Event().wait()

    async with asgi_served(certs, by_path(wait=wait, half=half), drain_timeout=3.0) as asgi:
        exchanges = [asgi.client.open("GET", path) for path in ("/wait", "/half")]
        await until(lambda: len(asgi.server.http_requests.tasks) == 2)
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asgi.server.close()
        assert 3.0 <= loop.time() - began < 4.0
        assert (await exchanges[0].finish()).status == 503
        assert await exchanges[1].reset_code() == INTERNAL_ERROR


async def test_request_that_closes_the_server(certs: Certificates) -> None:
    closed = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, b"bye")
        await asgi.server.close(drain_timeout=20)
        closed.set()

    async with asgi_served(certs, app) as asgi:
        assert (await asgi.client.get("/")).body == b"bye"
        await closed.wait()


async def test_configuration_can_be_changed_before_the_start(certs: Certificates) -> None:
    app = ServerApp(config=make_server_config(certs, max_requests=5))
    app.mount(hello)
    app.server.configure(app.server.config.update(max_requests=1, request_timeout=None))
    async with serving(certs, app) as served, http3(certs, served) as client:
        assert (await client.get("/")).status == 200
        assert served.server.http_requests.timeout is None


def test_fields_are_checked() -> None:
    for name, value in (
        ("max_requests", 0),
        ("max_requests", None),
        ("max_request_body", -1),
        ("max_request_body", 1.5),
        ("request_timeout", 0),
        ("request_timeout", "30"),
    ):
        with pytest.raises(ConfigurationError) as caught:
            ServerConfig.from_dict({name: value})
        assert caught.value.config_key == name
