"""Ready-made middleware, handlers and applications."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import threading
from pathlib import Path

import pytest

from pywebtransport import ServerApp, WebTransportClient, create_development_server
from pywebtransport.exceptions import (
    ConfigurationError,
    SessionRejectedError,
    StreamResetError,
    StreamStoppedError,
)
from pywebtransport.server import (
    RateLimiter,
    create_auth_middleware,
    create_cors_middleware,
    create_echo_server_app,
    create_logging_middleware,
    create_rate_limit_middleware,
    create_simple_app,
)
from pywebtransport.types import Headers, SessionCloseInfo
from tests.support.certificates import Certificates
from tests.support.endpoints import ClientFactory, ServerFactory, Serving
from tests.support.leaks import ExpectedLogs
from tests.support.loops import DEFAULT_LOOPS, FACTORIES
from tests.support.steps import round_trip, take_unidirectional, until


async def status_of(client: WebTransportClient, url: str, **headers: str) -> int:
    """Status of a request."""
    try:
        async with client.connect(url, headers=headers):
            return 200
    except SessionRejectedError as error:
        return error.status_code


# -------------------------------------------------------------------------- middleware


async def test_rate_limit(serving: Serving, client_config: ClientFactory) -> None:
    limiter = create_rate_limit_middleware(max_requests=2, window_seconds=1000)
    assert isinstance(limiter, RateLimiter)
    async with (
        limiter,
        serving() as served,
        WebTransportClient(config=client_config()) as client,
    ):
        served.app.add_middleware(limiter)
        assert [await status_of(client, served.url()) for _ in range(3)] == [200, 200, 429]
        with pytest.raises(SessionRejectedError) as caught:
            await client.connect(served.url())
        assert 1 <= int(caught.value.headers["retry-after"]) <= 1000
        # Another address has its own count.
        connection_of_another = client_config(ip_family="ipv6")
        await served.app.listen(host="::1", port=0)
        port = served.server.local_addresses[-1][1]
        async with WebTransportClient(config=connection_of_another) as other:
            assert await status_of(other, f"https://[::1]:{port}/") == 200


async def test_rate_limit_forgets_after_its_window(
    serving: Serving, client_config: ClientFactory
) -> None:
    limiter = RateLimiter(max_requests=1, window_seconds=60)
    async with serving() as served, WebTransportClient(config=client_config()) as client:
        served.app.add_middleware(limiter)
        assert await status_of(client, served.url()) == 200
        assert await status_of(client, served.url()) == 429
        # As if a minute had passed since.
        for times in limiter._seen.values():
            times[0] -= 60
        assert await status_of(client, served.url()) == 200


async def test_rate_limit_remembers_few_addresses(
    serving: Serving, client_config: ClientFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    limiter = create_rate_limit_middleware(max_requests=5, window_seconds=60)
    async with serving() as served, WebTransportClient(config=client_config()) as client:
        served.app.add_middleware(limiter)
        await served.app.listen(host="::1", port=0)
        other = f"https://[::1]:{served.server.local_addresses[-1][1]}/"
        assert await status_of(client, served.url()) == 200
        assert await status_of(client, other) == 200
        assert list(limiter._seen) == ["127.0.0.1", "::1"]
        # An address whose window has passed is forgotten with anybody's next request.
        limiter._seen["127.0.0.1"][0] -= 60
        assert await status_of(client, other) == 200
        assert {host: len(times) for host, times in limiter._seen.items()} == {"::1": 2}
        # The most recent are kept when there are too many.
        monkeypatch.setattr("pywebtransport.server.middleware._MAX_CLIENTS", 1)
        assert await status_of(client, served.url()) == 200
        assert list(limiter._seen) == ["127.0.0.1"]
    async with limiter:
        pass
    assert not limiter._seen


@pytest.mark.parametrize("field", ["max_requests", "window_seconds"])
def test_rate_limit_refuses_senseless_values(field: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{field} must be >= 1, got 0"):
        RateLimiter(**{field: 0})


async def test_authentication(
    serving: Serving, client_config: ClientFactory, expected_logs: ExpectedLogs
) -> None:
    expected_logs("request for / failed")

    async def check(*, headers: Headers) -> bool:
        if headers.get("authorization") == "explode":
            raise LookupError("no such user table")
        return headers.get("authorization") == "Bearer secret"

    async with serving() as served, WebTransportClient(config=client_config()) as client:
        served.app.add_middleware(create_auth_middleware(check))
        assert await status_of(client, served.url()) == 401
        assert await status_of(client, served.url(), authorization="Bearer wrong") == 401
        assert await status_of(client, served.url(), authorization="Bearer secret") == 200
        assert await status_of(client, served.url(), authorization="explode") == 500


async def test_origins(serving: Serving, client_config: ClientFactory) -> None:
    async with serving() as served, WebTransportClient(config=client_config()) as client:
        middleware = create_cors_middleware(allowed_origins=["https://good.example"])
        served.app.add_middleware(middleware)
        assert await status_of(client, served.url()) == 200
        assert await status_of(client, served.url(), origin="https://Good.example") == 200
        assert await status_of(client, served.url(), origin="https://bad.example") == 403
        with pytest.raises(ConfigurationError, match=r"allowed_origins = .* a list of strings"):
            create_cors_middleware("https://good.example")
        served.app._middleware.remove_middleware(middleware)
        served.app.add_middleware(create_cors_middleware(["*"]))
        assert await status_of(client, served.url(), origin="https://bad.example") == 200


async def test_logging(
    serving: Serving, client_config: ClientFactory, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pywebtransport")
    async with serving() as served, WebTransportClient(config=client_config()) as client:
        served.app.add_middleware(create_logging_middleware())
        session = await client.connect(served.url("/logged"))
        await session.close(code=17, reason="bye")
        await until(lambda: "ended /logged: code 17 bye" in caplog.text)
    assert "requested /logged" in caplog.text
    access = [record for record in caplog.records if record.name == "pywebtransport.access"]
    assert '"CONNECT /logged" 200' in access[0].getMessage()


# -------------------------------------------------------------------------- applications


async def test_echo_application(
    serving: Serving, client_config: ClientFactory, server_config: ServerFactory
) -> None:
    app = create_echo_server_app(config=server_config())
    async with serving(app) as served, WebTransportClient(config=client_config()) as client:
        session = await client.connect(served.url("/anything"))
        stream = await session.create_bidirectional_stream()
        await stream.write_all(b"both ways")
        assert await stream.read_all() == b"both ways"
        uni = await session.create_unidirectional_stream()
        await uni.write_all(b"one way")
        assert await (await take_unidirectional(session)).read_all() == b"one way"
        await session.datagrams.send(b"datagram")
        assert await session.datagrams.receive() == b"datagram"
        # A stream that is given up ends its echo and nothing else.
        given_up = await session.create_bidirectional_stream()
        await given_up.write(b"never mind")
        await given_up.abort(3)
        another = await session.create_bidirectional_stream()
        await another.write_all(b"still here")
        assert await another.read_all() == b"still here"


async def test_echo_goes_on_after_what_cannot_be_echoed(
    serving: Serving, client_config: ClientFactory, server_config: ServerFactory
) -> None:
    app = create_echo_server_app(config=server_config(read_timeout=0.1))
    config = client_config(max_datagram_size=200)
    async with serving(app) as served, WebTransportClient(config=config) as client:
        session = await client.connect(served.url())
        # More than the client takes, so that it cannot come back.
        await session.datagrams.send(bytes(500))
        await session.datagrams.send(b"small enough")
        assert await session.datagrams.receive() == b"small enough"
        stalled = await session.create_bidirectional_stream()
        await stalled.write(b"...")
        with pytest.raises(StreamResetError):
            await stalled.read_all()
        stream = await session.create_bidirectional_stream()
        await stream.write_all(b"works")
        assert await stream.read_all() == b"works"
        await session.close()
        await until(lambda: not served.server._tasks)
        assert (await served.server.get_server_stats())["handler_errors"] == 0


async def test_echo_gives_a_stream_up_when_none_can_be_opened_for_the_answer(
    serving: Serving, client_config: ClientFactory, server_config: ServerFactory
) -> None:
    app = create_echo_server_app(config=server_config(max_streams_per_connection=1))
    async with serving(app) as served, WebTransportClient(config=client_config()) as client:
        session = await client.connect(served.url())
        # Its answer occupies the only stream that the server may have open.
        first = await session.create_unidirectional_stream()
        await first.write(b"first")
        answer = await take_unidirectional(session)
        assert await answer.read() == b"first"
        second = await session.create_unidirectional_stream()
        await second.write(b"second")
        far = served.server.sessions[0]
        connection = far._connection
        await until(lambda: connection._stream_gates)
        assert connection._stream_gates is not None
        for gate in connection._stream_gates._gates.values():
            for place in gate.waiting.values():
                place.future.set_result(False)  # as if stream_creation_timeout had passed
        with pytest.raises(StreamStoppedError):
            await second.write_all(bytes(16 * 1024 * 1024))  # more than fits on the way
        await first.write_all(b" of two")
        assert await answer.read_all() == b" of two"


async def test_simple_application(client_config: ClientFactory, certs: Certificates) -> None:
    app = create_simple_app()
    async with app, WebTransportClient(config=client_config()) as client:
        await app.listen(host="127.0.0.1", port=0, **certs.server.files)
        assert app.server.local_address is not None
        base = f"https://127.0.0.1:{app.server.local_address[1]}"
        session = await client.connect(f"{base}/health")
        report = json.loads(await (await take_unidirectional(session)).read_all())
        assert report["status"] == "healthy"
        assert await session.wait_closed() == SessionCloseInfo(0, "", True)
        echoing = await client.connect(f"{base}/echo")
        await echoing.datagrams.send(b"x")
        assert await echoing.datagrams.receive() == b"x"
        await echoing.close()
        await app.server.close(drain_timeout=0)


async def test_development_server_makes_and_removes_its_certificate(
    client_config: ClientFactory,
) -> None:
    app = create_development_server(host="localhost", port=0)
    config = app.server.config
    app.router.set_default_handler(lambda session: session.wait_closed())
    async with app:
        await app.listen()
        assert app.server.local_address is not None
        client_settings = client_config(ca_certs=config.certfile)
        async with WebTransportClient(config=client_settings) as client:
            url = f"https://localhost:{app.server.local_address[1]}/"
            session = await client.connect(url)
            await round_trip(session, app.server.sessions[0], b"developing")
    assert is_there(config.certfile)
    del app, session
    gc.collect()
    assert not is_there(config.certfile)


def is_there(path: str) -> bool:
    """Whether a file exists."""
    return os.path.exists(path)


def test_development_server_with_own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=r"localhost\.crt"):
        create_development_server(generate_certs=False)


# --------------------------------------------------------------------------------- run


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("loop_name", DEFAULT_LOOPS)
def test_run_serves_until_a_signal(
    server_config: ServerFactory, number: signal.Signals, loop_name: str
) -> None:
    calls: list[str] = []
    app = ServerApp(config=server_config())
    before = [signal.getsignal(item) for item in (signal.SIGINT, signal.SIGTERM)]

    async def stop_when_serving() -> None:
        await until(lambda: app.server.is_serving)
        calls.append("serving")
        os.kill(os.getpid(), number)

    tasks: list[asyncio.Task[None]] = []

    @app.on_startup
    async def started() -> None:
        assert threading.current_thread() is threading.main_thread()
        tasks.append(asyncio.create_task(stop_when_serving()))

    app.on_shutdown(lambda: calls.append("stopped"))
    app.run(host="127.0.0.1", port=0, loop_factory=FACTORIES[loop_name], access_log=False)
    assert calls == ["serving", "stopped"]
    assert [signal.getsignal(item) for item in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.parametrize("loop_name", DEFAULT_LOOPS)
def test_run_ends_when_the_server_is_closed(server_config: ServerFactory, loop_name: str) -> None:
    app = ServerApp(config=server_config())
    tasks: list[asyncio.Task[None]] = []

    async def close_when_serving() -> None:
        await until(lambda: app.server.is_serving)
        await app.server.close()

    @app.on_startup
    def started() -> None:
        tasks.append(asyncio.get_running_loop().create_task(close_when_serving()))

    app.run(host="127.0.0.1", port=0, loop_factory=FACTORIES[loop_name])
    assert not app.server.is_serving


def test_run_tells_what_keeps_it_from_starting(server_config: ServerFactory) -> None:
    app = ServerApp(config=server_config(certfile="", keyfile=""))
    with pytest.raises(ConfigurationError, match="certfile"):
        app.run()
