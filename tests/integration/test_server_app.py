"""The application framework: routes, middleware, hooks, origins, handlers, ``run``."""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import sys
import uuid
from typing import Any

import pytest

from pywebtransport import ServerApp, WebTransportClient
from pywebtransport.events import Event
from pywebtransport.exceptions import (
    ClientError,
    ConfigurationError,
    ServerError,
    SessionError,
    SessionRejectedError,
)
from pywebtransport.server import RequestRouter, WebTransportServer
from pywebtransport.session import WebTransportSession
from pywebtransport.types import EventType, SessionCloseInfo
from tests.support.certificates import Certificates
from tests.support.endpoints import ClientFactory, ServerFactory, Serving
from tests.support.leaks import ExpectedLogs
from tests.support.processes import ROOT, server_process
from tests.support.steps import round_trip, until


async def rejection(client: WebTransportClient, url: str, **arguments: object) -> tuple[int, dict]:
    """Status and headers of a request that must be refused."""
    with pytest.raises(SessionRejectedError) as caught:
        await client.connect(url, **arguments)
    assert caught.value.details["status_code"] == caught.value.status_code
    return caught.value.status_code, caught.value.headers


# ----------------------------------------------------------------------- routes


async def test_exact_routes_come_before_patterns_and_the_default(
    serving: Serving, client_config: ClientFactory, server_config: ServerFactory
) -> None:
    app = ServerApp(config=server_config())
    seen: list[tuple[str, str, tuple[object, ...]]] = []

    def handler(name: str) -> object:
        async def handle(session: WebTransportSession) -> None:
            seen.append((name, session.path, session.path_params))

        return handle

    app.pattern_route(r"/room/([a-z]+)/(\d+)")(handler("regex"))
    app.pattern_route("/user/{name}/{number:int}")(handler("template"))
    app.pattern_route("/file/{path:path}")(handler("file"))
    app.route("/room/special/1")(handler("exact"))
    async with serving(app) as served, WebTransportClient(config=client_config()) as client:
        for path in (
            "/room/special/1?x=1",
            "/room/abc/12",
            "/user/ada/-3",
            "/file/a/b.txt",
        ):
            async with client.connect(served.url(path)):
                await until(lambda path=path: seen and seen[-1][1] == path)
        assert seen == [
            ("exact", "/room/special/1?x=1", ()),
            ("regex", "/room/abc/12", ("abc", "12")),
            ("template", "/user/ada/-3", ("ada", -3)),
            ("file", "/file/a/b.txt", ("a/b.txt",)),
        ]
        assert seen[2][2]["name"] == "ada"  # type: ignore[call-overload]
        assert seen[2][2].named == {"name": "ada", "number": -3}  # type: ignore[attr-defined]
        assert seen[2][2].get("other", 5) == 5  # type: ignore[attr-defined]
        assert (await rejection(client, served.url("/nothing")))[0] == 404
        app.router.set_default_handler(handler("default"))
        async with client.connect(served.url("/nothing")):
            await until(lambda: seen[-1][0] == "default")
        app.router.remove_route("/room/special/1")
        async with client.connect(served.url("/room/special/1")):
            await until(lambda: seen[-1][0] == "regex")


async def test_placeholders_of_a_route_and_the_query(
    serving: Serving, client_config: ClientFactory, server_config: ServerFactory
) -> None:
    app = ServerApp(config=server_config())
    seen: list[tuple[dict[str, str], dict[str, str], list[str]]] = []

    @app.route("/room/{name}")
    async def room(session: WebTransportSession) -> None:
        assert session.path_params["name"] == session.path_params[0]
        query = session.query_params
        seen.append((dict(session.path_params), dict(query), query.get_all("a")))

    @app.route("/room/lobby")
    async def lobby(session: WebTransportSession) -> None:
        seen.append((dict(session.path_params), dict(session.query_params), []))

    async with serving(app) as served, WebTransportClient(config=client_config()) as client:
        paths = ("/room/caf%C3%A9%2F?a=1&a=%26&b", "/room/lobby", "/room/{name}?x=+")
        for number, path in enumerate(paths, 1):
            async with client.connect(served.url(path)) as session:
                assert dict(session.path_params) == {}
                assert session.query_params.get("a") == ("1" if "&" in path else None)
                await until(lambda number=number: len(seen) == number)
        assert (await rejection(client, served.url("/room/a/b")))[0] == 404
    assert seen == [
        ({"name": "café/"}, {"a": "1", "b": ""}, ["1", "&"]),
        ({}, {}, []),
        ({"name": "{name}"}, {"x": " "}, []),
    ]


@pytest.mark.parametrize(("dialect", "status"), [(2, 404), (7, 404), (14, 404), (16, 405)])
async def test_unknown_path_is_answered_as_the_dialect_wants(
    serving: Serving, client_config: ClientFactory, dialect: int, status: int
) -> None:
    async with (
        serving({"/known": lambda session: session.wait_closed()}) as served,
        WebTransportClient(config=client_config(dialects=[dialect])) as client,
    ):
        assert (await rejection(client, served.url("/unknown")))[0] == status


def test_router_as_an_object(server_config: ServerFactory) -> None:
    app = ServerApp(config=server_config())

    async def handler(session: WebTransportSession) -> None:
        """Never called."""

    router = app.router
    app.route("/a")(handler)
    app.pattern_route("/id/{id:uuid}")(handler)
    app.pattern_route("^/f/{x:float}")(handler)
    assert router.get_route_handler("/a") is handler
    assert router.get_route_handler("/b") is None
    assert set(router.get_all_routes()) == {"/a", "/id/{id:uuid}", "^/f/{x:float}"}
    assert router.get_route_stats() == {
        "exact_routes": 1,
        "pattern_routes": 2,
        "has_default_handler": False,
    }
    key = uuid.uuid4()
    found = router.match(f"/id/{key}")
    assert found is not None
    assert found[1] == (key,)
    found = router.match("/f/1.5")
    assert found is not None
    assert found[1]["x"] == 1.5
    assert router.match("/id/not-a-uuid") is None
    with pytest.raises(ConfigurationError, match="'/a' has a handler already"):
        app.route("/a")(handler)
    for bad in ("a", "", "x/y", None):
        with pytest.raises(ConfigurationError, match="must start with '/'"):
            router.add_route(bad, handler)
        with pytest.raises(ConfigurationError, match="must start with '/'"):
            router.add_pattern_route(bad, handler)
    for one in ("allowed_origins", "application_protocols"):
        with pytest.raises(ConfigurationError, match=f"{one} = 'abc': expected a list"):
            app.route("/origin", **{one: "abc"})(handler)
    for never_sent, instead in (
        ("/a?b=1", "/a"),
        ("/a#b", "/a%23b"),
        ("/a/{name}#b", "/a/%7Bname%7D%23b"),
    ):
        with pytest.raises(ConfigurationError, match=f"matches no request: .*{instead}"):
            app.route(never_sent)(handler)
    for fine in ("/a%20b", "/a|b", "/~a/(b)+c;d=[e]", "/", "//", "/café", "/a c"):
        app.route(fine)(handler)
    with pytest.raises(ConfigurationError, match="unknown type 'colour'"):
        app.pattern_route("/{x:colour}")(handler)
    with pytest.raises(ConfigurationError, match="not a valid expression"):
        app.pattern_route("/([")(handler)
    assert found[1][0] == 1.5
    router.remove_route("/id/{id:uuid}")
    assert router.match(f"/id/{key}") is None


async def test_router_without_an_application(
    client_config: ClientFactory, server_config: ServerFactory
) -> None:
    """``route_request`` finds the handler of a session and gives it its parameters."""
    router = RequestRouter()
    seen: list[object] = []

    async def handler(session: WebTransportSession) -> None:
        seen.append(session.path_params[0])

    router.add_pattern_route("/{number:int}", handler)

    async def requested(event: Event) -> None:
        session = event.data["session"]
        found = router.route_request(session)
        if found is None:
            session.reject(status_code=404)
        else:
            await session.accept()
            await found(session)

    async with WebTransportServer(config=server_config()) as server:
        server.on(EventType.SESSION_REQUEST, requested)
        await server.listen()
        assert server.local_address is not None
        base = f"https://127.0.0.1:{server.local_address[1]}"
        async with WebTransportClient(config=client_config()) as client:
            await client.connect(f"{base}/42")
            assert (await rejection(client, f"{base}/none"))[0] == 404
            await until(lambda: seen == [42])


# ------------------------------------------------------------------- middleware


async def test_middleware_runs_in_order_and_the_first_refusal_ends_it(
    serving: Serving, client_config: ClientFactory, server_config: ServerFactory
) -> None:
    calls: list[str] = []

    def middleware(name: str) -> object:
        async def check(session: WebTransportSession) -> bool:
            assert session.state == "connecting"
            calls.append(name)
            return session.headers.get("refuse") != name

        return check

    app = ServerApp(config=server_config(middleware=[middleware("first")]))
    app.router.set_default_handler(lambda session: session.wait_closed())
    app.add_middleware(middleware("second"))
    third = app.middleware(middleware("third"))
    async with serving(app) as served, WebTransportClient(config=client_config()) as client:
        async with client.connect(served.url()):
            assert calls == ["first", "second", "third"]
        calls.clear()
        status, _ = await rejection(client, served.url(), headers={"refuse": "second"})
        assert status == 403
        assert calls == ["first", "second"]
        app._middleware.remove_middleware(third)
        assert app._middleware.get_middleware_count() == 2
        calls.clear()
        async with client.connect(served.url(), headers={"refuse": "third"}):
            assert calls == ["first", "second"]
        stats = await served.server.get_server_stats()
        assert stats["sessions_rejected"] == 1
        assert stats["sessions_accepted"] == 2


async def test_middleware_chooses_status_and_headers(
    serving: Serving, client_config: ClientFactory
) -> None:
    async def by_exception(session: WebTransportSession) -> bool:
        if session.path == "/exception":
            raise SessionRejectedError(status_code=401, headers={"WWW-Authenticate": "Bearer"})
        if session.path == "/verb":
            await session.reject(status_code=302, headers={"location": "/elsewhere"})
        if session.path == "/bad-verb":
            session.reject(status_code=200)
        return True

    handled: list[str] = []

    async def handler(session: WebTransportSession) -> None:
        handled.append(session.path)

    async with serving(handler) as served, WebTransportClient(config=client_config()) as client:
        served.app.add_middleware(by_exception)
        status, headers = await rejection(client, served.url("/exception"))
        assert (status, headers["www-authenticate"]) == (401, "Bearer")
        status, headers = await rejection(client, served.url("/verb"))
        assert (status, headers["location"]) == (302, "/elsewhere")
        await until(lambda: not served.server.sessions)
        assert handled == []


async def test_access_log_tells_the_status_that_was_answered(
    serving: Serving, client_config: ClientFactory, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pywebtransport.access")
    asked, leave, late = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def check(session: WebTransportSession) -> bool:
        if session.path == "/verb":
            session.reject(status_code=302, headers={"location": "/elsewhere"})
        elif session.path == "/both":
            session.reject(status_code=410)
        elif session.path == "/slow":
            asked.set()
            await leave.wait()
        elif session.path == "/late":
            late.set()
            await asyncio.Event().wait()
        return session.path not in ("/false", "/both")

    async with serving() as served, WebTransportClient(config=client_config()) as client:
        served.app.add_middleware(check)
        for path in ("/verb", "/false", "/both"):
            await rejection(client, served.url(path))
        async with client.connect(served.url("/fine")):
            pass
        connecting = asyncio.create_task(client.connect(served.url("/slow")))
        await asked.wait()
        connecting.cancel()
        await until(lambda: all(s.path != "/slow" for s in served.server.sessions))
        leave.set()
        await until(lambda: len(caplog.records) == 5)
        unanswered = asyncio.create_task(client.connect(served.url("/late")))
        await late.wait()
        await served.server.close(drain_timeout=0)
        with pytest.raises(ClientError):
            await unanswered
    lines = [record.getMessage() for record in caplog.records]
    for line, expected in zip(
        lines,
        ('/verb" 302', '/false" 403', '/both" 410', '/fine" 200', '/slow" 499', '/late" 503'),
        strict=True,
    ):
        assert f'"CONNECT {expected} ' in line


async def test_middleware_that_raises_answers_500_and_logs(
    serving: Serving, client_config: ClientFactory, expected_logs: ExpectedLogs
) -> None:
    expected_logs(r"request for /broken failed")

    async def broken(session: WebTransportSession) -> bool:
        if session.path == "/broken":
            raise LookupError("forgot it")
        return True

    async with serving() as served, WebTransportClient(config=client_config()) as client:
        served.app.add_middleware(broken)
        assert (await rejection(client, served.url("/broken")))[0] == 500
        async with client.connect(served.url("/fine")) as session:
            await round_trip(session, served.server.sessions[0], b"works")
        assert (await served.server.get_server_stats())["handler_errors"] == 1


async def test_client_that_leaves_during_middleware_is_no_error(
    serving: Serving, client_config: ClientFactory
) -> None:
    entered, leave = asyncio.Event(), asyncio.Event()
    handled: list[str] = []

    async def slow(session: WebTransportSession) -> bool:
        entered.set()
        await leave.wait()
        return True

    async def handler(session: WebTransportSession) -> None:
        handled.append(session.path)

    async with serving(handler) as served, WebTransportClient(config=client_config()) as client:
        served.app.add_middleware(slow)
        connecting = asyncio.create_task(client.connect(served.url()))
        await entered.wait()
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        await until(lambda: not served.server.sessions)
        leave.set()
    assert handled == []


# ---------------------------------------------------------------------- origins


async def test_origins_are_checked_before_anything_else(
    serving: Serving, client_config: ClientFactory, server_config: ServerFactory
) -> None:
    app = ServerApp(config=server_config(allowed_origins=["https://good.example"]))
    requests: list[str] = []

    async def count(session: WebTransportSession) -> bool:
        requests.append(session.path)
        return True

    async def handler(session: WebTransportSession) -> None:
        """Leaves the session to the client."""

    app.add_middleware(count)
    app.route("/")(handler)
    app.route("/open", allowed_origins=["*"])(handler)
    app.route("/other", allowed_origins=["https://other.example:8443"])(handler)
    cases = [
        ("/", None, True),
        ("/", "https://good.example", True),
        ("/", "https://GOOD.example", True),
        ("/", "https://evil.example", False),
        ("/", "null", False),
        ("/", "http://good.example", False),
        ("/open", "https://evil.example", True),
        ("/other", "https://other.example:8443", True),
        ("/other", "https://good.example", False),
    ]
    async with serving(app) as served, WebTransportClient(config=client_config()) as client:
        for path, origin, allowed in cases:
            headers = {} if origin is None else {"origin": origin}
            if allowed:
                async with client.connect(served.url(path), headers=headers):
                    pass
            else:
                assert (await rejection(client, served.url(path), headers=headers))[0] == 403
    assert len(requests) == sum(allowed for _, _, allowed in cases)


# ---------------------------------------------------------- application protocols


async def test_routes_have_their_own_application_protocols(
    serving: Serving, client_config: ClientFactory, server_config: ServerFactory
) -> None:
    app = ServerApp(config=server_config(application_protocols=["common"]))

    async def handler(session: WebTransportSession) -> None:
        """Leaves the session to the client."""

    app.route("/common")(handler)
    app.route("/own", application_protocols=["chat-2", "chat-1"])(handler)
    app.route("/none", application_protocols=[])(handler)
    config = client_config(application_protocols=["chat-1", "chat-2", "common"])
    async with serving(app) as served, WebTransportClient(config=config) as client:
        chosen = {}
        for path in ("/common", "/own", "/none"):
            async with client.connect(served.url(path)) as session:
                chosen[path] = session.application_protocol
    assert chosen == {"/common": "common", "/own": "chat-1", "/none": None}


# ----------------------------------------------------------------------- handlers


async def test_handler_that_returns_leaves_the_session_open(
    serving: Serving, client_config: ClientFactory
) -> None:
    returned = asyncio.Event()

    async def handler(session: WebTransportSession) -> None:
        returned.set()

    async with serving(handler) as served, WebTransportClient(config=client_config()) as client:
        session = await client.connect(served.url())
        await returned.wait()
        await round_trip(session, served.server.sessions[0], b"long after")


async def test_handler_that_raises_closes_the_session_and_logs_one_line(
    serving: Serving, client_config: ClientFactory, expected_logs: ExpectedLogs
) -> None:
    expected_logs(r"handler of /bad raised LookupError: 'my mistake'|LookupError: my mistake")

    async def handler(session: WebTransportSession) -> None:
        raise LookupError("my mistake")

    async with serving(handler) as served, WebTransportClient(config=client_config()) as client:
        session = await client.connect(served.url("/bad"))
        info = await session.wait_closed()
        assert info == SessionCloseInfo(1, "internal error", True)
        assert (await served.server.get_server_stats())["handler_errors"] == 1
        issues = await served.server.diagnose_issues()
        assert any("handlers raised" in issue for issue in issues)


async def test_rejection_that_comes_too_late_closes_the_session(
    serving: Serving, client_config: ClientFactory, expected_logs: ExpectedLogs
) -> None:
    """Out of a handler, or of a middleware after one that accepted."""
    expected_logs(r"handler of /(handler|middleware) raised SessionRejectedError: .* 4(03|18)")

    async def accepts(session: WebTransportSession) -> bool:
        if session.path == "/middleware":
            session.accept()
        return True

    async def refuses(session: WebTransportSession) -> bool:
        return session.path != "/middleware"

    async def handler(session: WebTransportSession) -> None:
        raise SessionRejectedError(status_code=418)

    async with serving(handler) as served, WebTransportClient(config=client_config()) as client:
        served.app.add_middleware(accepts)
        served.app.add_middleware(refuses)
        for path in ("/handler", "/middleware"):
            session = await client.connect(served.url(path))
            assert await session.wait_closed() == SessionCloseInfo(1, "internal error", True)
        stats = await served.server.get_server_stats()
        assert (stats["sessions_accepted"], stats["sessions_rejected"]) == (2, 0)
        assert stats["handler_errors"] == 2


@pytest.mark.parametrize(
    "unfit", [{"status_code": 200}, {"status_code": 403, "headers": {"bad name": "x"}}]
)
async def test_rejection_that_cannot_be_sent_answers_500_and_logs(
    serving: Serving,
    client_config: ClientFactory,
    expected_logs: ExpectedLogs,
    unfit: dict[str, Any],
) -> None:
    expected_logs(r"request for / failed")

    async def refuses(session: WebTransportSession) -> bool:
        raise SessionRejectedError(**unfit)

    async with serving() as served, WebTransportClient(config=client_config()) as client:
        served.app.add_middleware(refuses)
        assert (await rejection(client, served.url()))[0] == 500


async def test_handler_whose_session_went_away_is_no_error(
    serving: Serving, client_config: ClientFactory
) -> None:
    ended = asyncio.Event()

    async def handler(session: WebTransportSession) -> None:
        try:
            await session.datagrams.receive()
        finally:
            ended.set()

    async with serving(handler) as served, WebTransportClient(config=client_config()) as client:
        session = await client.connect(served.url())
        await session.close()
        await ended.wait()
        await until(lambda: not served.server._tasks)
        assert (await served.server.get_server_stats())["handler_errors"] == 0


# -------------------------------------------------------------------------- hooks


async def test_hooks_run_once_in_order_and_in_reverse(
    client_config: ClientFactory, server_config: ServerFactory
) -> None:
    calls: list[str] = []
    app = ServerApp(config=server_config())

    @app.on_startup
    async def first() -> None:
        calls.append("up 1")

    @app.on_startup
    def second() -> None:
        calls.append("up 2")

    @app.on_shutdown
    async def last() -> None:
        calls.append("down 1")

    @app.on_shutdown
    def before_last() -> None:
        calls.append("down 2")

    async with app:
        assert calls == ["up 1", "up 2"]
        serving = asyncio.create_task(app.serve(host="127.0.0.1", port=0))
        await until(lambda: app.server.is_serving)
        assert calls == ["up 1", "up 2"]
        assert app.server.local_address is not None
        async with WebTransportClient(config=client_config()) as client:
            with pytest.raises(SessionRejectedError):
                await client.connect(f"https://127.0.0.1:{app.server.local_address[1]}/")
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
    await app.shutdown()
    assert calls == ["up 1", "up 2", "down 2", "down 1"]


async def test_startup_that_fails_shuts_down_what_was_started(
    server_config: ServerFactory,
) -> None:
    calls: list[str] = []
    app = ServerApp(config=server_config())

    @app.on_startup
    def fail() -> None:
        raise LookupError("no database")

    app.on_shutdown(lambda: calls.append("down"))
    with pytest.raises(LookupError, match="no database"):
        await app.__aenter__()
    assert calls == ["down"]


async def test_shutdown_hook_that_fails_is_logged_and_the_others_run(
    server_config: ServerFactory, expected_logs: ExpectedLogs
) -> None:
    expected_logs("shutdown handler")
    calls: list[str] = []
    app = ServerApp(config=server_config())
    app.on_shutdown(lambda: calls.append("other"))

    @app.on_shutdown
    def fail() -> None:
        raise LookupError

    async with app:
        pass
    assert calls == ["other"]


# ------------------------------------------------------------------ the server below


async def test_listener_that_raises_ends_the_session(
    client_config: ClientFactory, server_config: ServerFactory, expected_logs: ExpectedLogs
) -> None:
    expected_logs("handler .* failed for event session_request")

    def requested(event: Event) -> None:
        session = event.data["session"]
        if session.path == "/late":
            session.accept()
        raise ValueError("a mistake")

    async with (
        WebTransportServer(config=server_config()) as server,
        WebTransportClient(config=client_config()) as client,
    ):
        server.on(EventType.SESSION_REQUEST, requested)
        await server.listen()
        assert server.local_address is not None
        base = f"https://127.0.0.1:{server.local_address[1]}"
        assert (await rejection(client, f"{base}/early"))[0] == 500
        session = await client.connect(f"{base}/late")
        info = await session.wait_closed()
        assert (info.code, info.reason) == (1, "internal error")
        assert (await server.get_server_stats())["handler_errors"] == 2


async def test_server_without_the_framework(
    client_config: ClientFactory, server_config: ServerFactory
) -> None:
    async with WebTransportServer(config=server_config()) as server:

        async def requested(event: object) -> None:
            session = event.data["session"]  # type: ignore[attr-defined]
            if session.path == "/no":
                session.reject(status_code=410)
            else:
                session.accept()

        async with WebTransportClient(config=client_config()) as client:
            with pytest.raises(ServerError, match="listen"):
                await server.serve_forever()
            with pytest.raises(ServerError, match="nothing to reload"):
                server.reload_certificates()
            await server.listen()
            assert server.local_address is not None
            base = f"https://127.0.0.1:{server.local_address[1]}"
            assert (await rejection(client, f"{base}/unheard"))[0] == 404
            server.on(EventType.SESSION_REQUEST, requested)
            before = (await server.get_server_stats())["sessions_rejected"]
            assert (await rejection(client, f"{base}/no"))[0] == 410
            session = await client.connect(f"{base}/yes")
            await round_trip(session, server.sessions[0], b"hello")
            state = await server.debug_state()
            assert state["server_info"]["serving"]
            assert len(state["connections"]) == len(state["sessions"]) == 1
            assert state["aggregated_stats"]["active_sessions"] == 1
            assert state["aggregated_stats"]["sessions_accepted"] == 1
            assert state["aggregated_stats"]["sessions_rejected"] == before + 1
            await session.close()
            await until(lambda: not server.sessions)
            stats = await server.get_server_stats()
            assert (stats["active_sessions"], stats["sessions_accepted"]) == (0, 1)
            assert state["aggregated_stats"]["engine"]
            assert state["aggregated_stats"]["uptime"] > 0
            (issue,) = await server.diagnose_issues()
            assert "session requests were rejected; the last: rejected /no with status 410" in issue
    assert not server.is_serving
    assert server.local_address is None
    assert await server.diagnose_issues()
    with pytest.raises(ServerError, match="closed"):
        await server.listen()


async def test_limits_of_the_server_are_enforced_with_an_answer(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with (
        serving(max_sessions=2) as served,
        WebTransportClient(config=client_config()) as client,
    ):
        first = await client.connect(served.url())
        await client.connect(served.url())
        assert (await rejection(client, served.url()))[0] == 429
        issues = await served.server.diagnose_issues()
        assert any("max_sessions=2" in issue for issue in issues)
        await first.close()
        await until(lambda: len(served.server.sessions) == 1)
        await client.connect(served.url())


async def test_sessions_of_one_connection_beyond_the_limit_are_refused(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with (
        serving(max_sessions=2) as served,
        WebTransportClient(config=client_config(allow_pooling=True, max_retries=0)) as client,
    ):
        await client.connect(served.url())
        second = await client.connect(served.url())
        with pytest.raises(ClientError, match="did not open the session") as caught:
            await client.connect(served.url())
        assert caught.value.target_url == served.url()
        assert caught.value.error_code == 0x10B
        await second.close()
        await until(lambda: len(served.server.sessions) == 1)
        await client.connect(served.url())


async def test_connections_beyond_the_limit_are_refused(
    serving: Serving, client_config: ClientFactory
) -> None:
    async with (
        serving(max_connections=1) as served,
        WebTransportClient(config=client_config(connect_timeout=5.0)) as client,
    ):
        first = await client.connect(served.url())
        with pytest.raises(ConnectionError, match="refused"):
            await client.connect(served.url())
        assert (await served.server.get_server_stats())["connections_rejected"] >= 1
        await first.close()
        await until(lambda: not served.server.connections)
        await client.connect(served.url())


async def test_a_server_needs_a_certificate(server_config: ServerFactory) -> None:
    async with ServerApp(config=server_config(certfile="", keyfile="")) as app:
        with pytest.raises(ConfigurationError, match="generate_self_signed_cert"):
            await app.listen()


async def test_fields_can_be_set_when_serving(
    client_config: ClientFactory, server_config: ServerFactory, certs: Certificates
) -> None:
    app = ServerApp(config=server_config(certfile="", keyfile=""))
    app.router.set_default_handler(lambda session: session.wait_closed())
    async with app, WebTransportClient(config=client_config()) as client:
        await app.listen(**certs.server.files, max_sessions=1)
        assert app.server.config.max_sessions == 1
        with pytest.raises(ServerError, match="listens already"):
            await app.listen(max_sessions=2)
        with pytest.raises(ConfigurationError, match="max_session_count"):
            await app.listen(max_session_count=2)
        assert app.server.local_address is not None
        async with client.connect(f"https://127.0.0.1:{app.server.local_address[1]}/") as session:
            with pytest.raises(SessionError):
                session.accept()


# ---------------------------------------------------------------------------- run


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("loop_name", ["asyncio", "uvloop"])
def test_run_ends_cleanly_on_signals(
    certs: Certificates, number: signal.Signals, loop_name: str
) -> None:
    pair = certs.server
    program = ["-m", "tests.support.echo_process", pair.certfile, pair.keyfile, loop_name]
    with server_process(*program) as server:
        client = subprocess.run(
            [sys.executable, "-c", _CLIENT, str(server.port), certs.authority.certfile],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (client.returncode, client.stdout, client.stderr) == (0, "echo\n", "")
        server.stop(number)
        server.assert_clean_end()


_CLIENT = """
import asyncio, sys
from pywebtransport import ClientConfig, WebTransportClient

async def main():
    config = ClientConfig(ca_certs=sys.argv[2])
    async with WebTransportClient(config=config) as client:
        session = await client.connect(f"https://127.0.0.1:{sys.argv[1]}/echo")
        stream = await session.create_bidirectional_stream()
        await stream.write_all(b"echo")
        print((await stream.read_all()).decode())

asyncio.run(main())
"""


def test_run_tells_open_sessions_before_it_ends(certs: Certificates) -> None:
    """SIGTERM with a session open: the client sees a close, not a loss."""
    pair = certs.server
    with (
        server_process("-m", "tests.support.echo_process", pair.certfile, pair.keyfile) as server,
        subprocess.Popen(
            [sys.executable, "-c", _WAITING_CLIENT, str(server.port), certs.authority.certfile],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as client,
    ):
        assert client.stdout is not None
        assert client.stdout.readline() == "open\n"
        server.stop()
        output, errors = client.communicate(timeout=60)
    assert (output, errors) == ("0 True\n", "")


_WAITING_CLIENT = """
import asyncio, sys
from pywebtransport import ClientConfig, WebTransportClient

async def main():
    config = ClientConfig(ca_certs=sys.argv[2])
    async with WebTransportClient(config=config) as client:
        session = await client.connect(f"https://127.0.0.1:{sys.argv[1]}/echo")
        print("open", flush=True)
        info = await session.wait_closed()
        print(info.code, info.remote)

asyncio.run(main())
"""
