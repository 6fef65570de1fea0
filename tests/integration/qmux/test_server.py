"""Sessions over WebSocket at a server: what clients of another kind see, and what handlers see.

The clients are the library ``websockets`` with frames that the tests write out.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from typing import Any

import pytest
import websockets

from pywebtransport import WebTransportClient
from pywebtransport.exceptions import SessionRejectedError
from pywebtransport.forwarder import WebTransportForwarder
from pywebtransport.session import WebTransportSession
from tests.support.certificates import Certificates
from tests.support.endpoints import make_client_config
from tests.support.leaks import ExpectedLogs
from tests.support.qmux_server import QMuxServed, qmux_served, stream, varint
from tests.support.steps import until

Log = pytest.LogCaptureFixture


async def echo(session: WebTransportSession) -> None:
    """Answers streams and datagrams."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_echo_datagrams(session))
        async for each in session.incoming_bidirectional_streams():
            await each.write_all(await each.read_all())


async def _echo_datagrams(session: WebTransportSession) -> None:
    async for datagram in session.datagrams:
        await session.datagrams.send(datagram)


async def rejected(served: QMuxServed, path: str = "/", **options: Any) -> Any:
    """The answer to a session that the server does not accept."""
    with pytest.raises(websockets.InvalidStatus) as caught:
        async with served.session(path, **options):
            pass
    return caught.value.response


# --------------------------------------------------------------------------- the session


async def test_one_handler_serves_both_transports(certs: Certificates) -> None:
    transports = []

    async def handler(session: WebTransportSession) -> None:
        transports.append((session.transport, session.path, session.origin))
        await echo(session)

    async with (
        qmux_served(certs, handler) as served,
        WebTransportClient(config=make_client_config(certs, network=None)) as client,
        served.session("/a?b=c", origin="https://x.test") as over_tcp,
    ):
        over_quic = await client.connect(served.served.url("/q"))
        there = await over_quic.create_bidirectional_stream()
        await there.write_all(b"quic")
        assert await there.read_all() == b"quic"
        assert await over_tcp.echo(0, b"tcp" * 10_000) == b"tcp" * 10_000
        await over_tcp.send(varint(0x31) + varint(2) + b"hi")
        assert (await over_tcp.wait_for(0x30)).data == b"hi"
        assert {each.transport for each in served.server.sessions} == {"quic", "websocket"}
    assert transports == [
        ("websocket", "/a?b=c", "https://x.test"),
        ("quic", "/q", None),
    ]


async def test_what_a_handler_sees(certs: Certificates) -> None:
    seen: dict[str, Any] = {}

    async def handler(session: WebTransportSession) -> None:
        seen.update(
            path=session.path,
            headers=session.headers.get("x-token"),
            remote=session.remote_address,
            offered=session.offered_protocols,
            reliability=session.reliability,
            params=session.path_params,
        )
        await session.wait_closed()

    async with (
        qmux_served(certs, {"/room/{name}": handler}) as served,
        served.session("/room/blue", additional_headers={"x-token": "t"}) as client,
    ):
        address = client.socket.local_address
        await until(lambda: bool(seen))
    assert seen == {
        "path": "/room/blue",
        "headers": "t",
        "remote": address,
        "offered": (),
        "reliability": "reliable-only",
        "params": ("blue",),
    }


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (["qmux-02"], "qmux-02"),
        (["qmux-01"], "qmux-01"),
        (["qmux-00", "qmux-01", "qmux-02"], "qmux-02"),
        (["chat", "qmux-01"], "qmux-01"),
        (["qmux-02.other", "qmux-02.chat", "qmux-01.chat", "qmux-02", "qmux-01"], "qmux-02.chat"),
        (["qmux-01.chat", "qmux-02"], "qmux-01.chat"),
        (["qmux-02.other", "qmux-02"], "qmux-02"),
    ],
    ids=",".join,
)
async def test_subprotocols(certs: Certificates, offered: list[str], chosen: str) -> None:
    """The application protocol of the route, then the newest version."""
    seen = []

    async def handler(session: WebTransportSession) -> None:
        seen.append(session.application_protocol)
        await echo(session)

    async with (
        qmux_served(certs, handler, application_protocols=["chat"]) as served,
        served.session("/", offered) as client,
    ):
        assert client.socket.subprotocol == chosen
        assert await client.echo(0, b"x") == b"x"
    assert seen == [chosen.partition(".")[2] or None]


async def test_the_answer_waits_for_the_handler(certs: Certificates) -> None:
    """And has its headers."""
    asked, leave = asyncio.Event(), asyncio.Event()

    async def handler(session: WebTransportSession) -> None:
        asked.set()
        await leave.wait()
        session.accept(headers={"x-answer": "yes"})
        await echo(session)

    async with qmux_served(certs, {}) as served:
        served.server.serve_with(handler)
        opening = asyncio.ensure_future(served.websocket("/", ["qmux-02"]).__aenter__())
        await asked.wait()
        assert not opening.done()
        leave.set()
        socket = await opening
        assert socket.response.status_code == 101
        assert socket.response.headers["x-answer"] == "yes"
        await socket.close()


async def test_rejections_are_answers_of_http(certs: Certificates) -> None:
    async def teapot(session: WebTransportSession) -> None:
        raise AssertionError

    async def gate(session: WebTransportSession) -> bool:
        if session.path == "/teapot":
            raise SessionRejectedError(status_code=418, headers={"x-reason": "tea"})
        return session.path != "/forbidden"

    async with qmux_served(certs, dict.fromkeys(("/teapot", "/forbidden"), teapot)) as served:
        served.app.add_middleware(gate)
        answer = await rejected(served, "/teapot")
        assert (answer.status_code, answer.headers["x-reason"]) == (418, "tea")
        assert (await rejected(served, "/forbidden")).status_code == 403
        assert (await rejected(served, "/nowhere")).status_code == 404
        await until(lambda: not served.server.connections)
        await until(lambda: served.server.measure()["active_tcp_connections"] == 0)
        stats = served.server.refresh_stats()
        assert (stats.sessions_accepted, stats.sessions_rejected) == (0, 3)


async def test_origins(certs: Certificates) -> None:
    async with qmux_served(certs, echo, allowed_origins=["https://a.test"]) as served:
        assert (await rejected(served, origin="https://b.test")).status_code == 403
        async with served.session(origin="https://a.test") as client:
            assert await client.echo(0, b"x") == b"x"
        async with served.session() as client:
            assert await client.echo(0, b"x") == b"x"
        assert served.server.refresh_stats().origins_rejected == 1


async def test_a_handler_that_raises(certs: Certificates, expected_logs: ExpectedLogs) -> None:
    """Before its answer the client gets 500, later the session ends with code 1."""

    expected_logs("of a test")

    async def fails(session: WebTransportSession) -> None:
        raise RuntimeError("of a test")

    async def fails_early(session: WebTransportSession) -> bool:
        if session.path == "/early":
            raise RuntimeError("of a test")
        return True

    async with qmux_served(certs, fails) as served:
        served.app.add_middleware(fails_early)
        assert (await rejected(served, "/early")).status_code == 500
        async with served.session() as client:
            code, frames = await client.end()
        assert (frames[-1].type, frames[-1].numbers, frames[-1].data) == (
            0x1D, (1,), b"internal error"
        )  # fmt: skip
        assert code == 1000
        assert served.server.refresh_stats().handler_errors == 2


async def test_close_codes_of_both_ends(certs: Certificates) -> None:
    infos = []

    async def handler(session: WebTransportSession) -> None:
        if session.path == "/server":
            await session.close(code=77, reason="bye é")
            return
        infos.append(await session.wait_closed())

    async with qmux_served(certs, handler) as served:
        async with served.session("/server") as client:
            code, frames = await client.end()
        assert (code, frames[-1].numbers, frames[-1].data.decode()) == (1000, (77,), "bye é")
        async with served.session("/client") as client:
            await client.send(bytes.fromhex("1d404d0662796520c3a9"))
            code, frames = await client.end()
        assert code == 1000
        await until(lambda: bool(infos))
        (info,) = infos
        assert (info.code, info.reason) == (77, "bye é")
        await until(lambda: served.server.measure()["active_tcp_connections"] == 0)


async def test_a_client_that_leaves_before_the_answer(certs: Certificates, caplog: Log) -> None:
    caplog.set_level(logging.INFO, "pywebtransport.access")
    asked = asyncio.Event()

    async def gate(session: WebTransportSession) -> bool:
        asked.set()
        await session.wait_closed()
        return True

    async with qmux_served(certs, echo) as served:
        served.app.add_middleware(gate)
        opening = asyncio.ensure_future(served.websocket("/", ["qmux-02"]).__aenter__())
        await asked.wait()
        opening.cancel()
        await until(lambda: not served.server.sessions and not served.server.connections)
        await until(lambda: '"CONNECT / WebSocket" 499' in caplog.text)


async def test_bytes_before_the_answer_end_the_connection(certs: Certificates) -> None:
    asked = asyncio.Event()

    async def gate(session: WebTransportSession) -> bool:
        asked.set()
        await session.wait_closed()
        return True

    async with qmux_served(certs, echo) as served, await served.raw() as raw:
        served.app.add_middleware(gate)
        await raw.send(
            b"GET / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
            b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n"
            b"sec-websocket-protocol: qmux-02\r\n\r\n"
        )
        await asked.wait()
        await raw.send(b"\x82\x80\0\0\0\0")
        assert await raw.rest() == b""
        await until(lambda: not served.server.sessions)


async def test_client_certificates(certs: Certificates) -> None:
    seen = []

    async def handler(session: WebTransportSession) -> None:
        assert session.connection is not None
        seen.append(session.connection.peer_certificate)
        await echo(session)

    fields: dict[str, Any] = {
        "verify_mode": ssl.CERT_REQUIRED,
        "ca_certs": certs.authority.certfile,
    }
    async with qmux_served(certs, handler, **fields) as served:
        with pytest.raises((OSError, websockets.InvalidHandshake)):
            await served.websocket("/", ["qmux-02"])
        served.tls.load_cert_chain(certs.client.certfile, certs.client.keyfile)
        async with served.session() as client:
            assert await client.echo(0, b"x") == b"x"
    assert seen == [certs.client.der]


async def test_a_forwarder_joins_the_transports(certs: Certificates) -> None:
    """A client over TCP, and a server over QUIC: streams, datagrams, codes, and the end."""

    async def back(session: WebTransportSession) -> None:
        echoing = asyncio.ensure_future(_echo_datagrams(session))
        streams = session.incoming_bidirectional_streams()
        stream = await anext(streams)
        await stream.write_all(await stream.read_all())
        stopped = await anext(streams)
        await stopped.reset(code=300)
        await session.wait_closed()
        await echoing

    async with (
        qmux_served(certs, back, websocket=False) as target,
        WebTransportForwarder(
            target.served.url(), config=make_client_config(certs, network=None)
        ) as forwarder,
        qmux_served(certs, forwarder) as served,
        served.session() as client,
    ):
        assert await client.echo(0, b"x" * 50_000) == b"x" * 50_000
        await client.send(varint(0x31) + varint(2) + b"hi")
        assert (await client.wait_for(0x30)).data == b"hi"
        await client.send(stream(4, b"x"))
        assert (await client.wait_for(0x04, 4)).numbers[1] == 300
        (session,) = target.server.sessions
        await client.send(bytes.fromhex("1d404d03627965"))
        assert (await client.end())[0] == 1000
        info = await session.wait_closed()
        assert (info.code, info.reason) == (77, "bye")


# -------------------------------------------------------------------------------- limits


async def test_limits_of_sessions(certs: Certificates) -> None:
    async with qmux_served(certs, echo, max_sessions=1) as served:
        async with served.session():
            answer = await rejected(served)
            assert (answer.status_code, answer.headers["retry-after"]) == (429, "10")
        await until(lambda: not served.server.sessions)
        async with served.session():
            pass
        assert served.server.refresh_stats().sessions_limited == 1


async def test_limits_of_sessions_of_one_address(certs: Certificates) -> None:
    """Those over QUIC count, too."""
    async with (
        qmux_served(certs, echo, max_sessions_per_address=1) as served,
        WebTransportClient(config=make_client_config(certs, network=None)) as client,
    ):
        session = await client.connect(served.served.url())
        assert (await rejected(served)).status_code == 429
        await session.close()
        await until(lambda: not served.server.sessions)
        async with served.session():
            pass
        assert served.server.refresh_stats().sessions_limited_by_address == 1


async def test_limits_of_connections(certs: Certificates) -> None:
    """They are those of TCP, apart from QUIC."""
    async with (
        qmux_served(certs, echo, max_connections=1) as served,
        WebTransportClient(config=make_client_config(certs, network=None)) as client,
    ):
        await client.connect(served.served.url())
        async with served.session():
            with pytest.raises(ConnectionError):
                await served.raw()
        await until(lambda: served.server.measure()["active_tcp_connections"] == 0)
        async with served.session():
            pass


async def test_a_message_above_the_limit(certs: Certificates) -> None:
    """It is refused before it is kept."""
    async with (
        qmux_served(certs, echo, close_timeout=0.2) as served,
        served.session() as client,
    ):
        await client.send(bytes(1 << 20))
        code, frames = await client.end()
        assert (code, frames[-1].type, frames[-1].numbers[0]) == (1009, 0x1C, 7)


# ------------------------------------------------------------------------- what is told


async def test_the_access_log_names_the_transport(certs: Certificates, caplog: Log) -> None:
    caplog.set_level(logging.INFO, "pywebtransport.access")
    async with (
        qmux_served(certs, {"/echo": echo}) as served,
        WebTransportClient(config=make_client_config(certs, network=None)) as client,
    ):
        await client.connect(served.served.url("/echo"))
        async with served.session("/echo?secret", origin="https://a.test"):
            pass
        await rejected(served, "/no")
    lines = [record for record in caplog.records if record.name == "pywebtransport.access"]
    texts = [re.sub(r"\S+:\d+|[\d.]+ms", "_", record.getMessage()) for record in lines]
    assert texts == [
        '_ "CONNECT /echo" 200 _ origin=-',
        '_ "CONNECT /echo?… WebSocket" 200 _ origin=https://a.test',
        '_ "CONNECT /no WebSocket" 404 _ origin=-',
    ]
    assert [vars(record)["transport"] for record in lines] == ["quic", "websocket", "websocket"]


async def test_statistics_count_them_apart(certs: Certificates) -> None:
    async with (
        qmux_served(certs, echo) as served,
        WebTransportClient(config=make_client_config(certs, network=None)) as client,
        served.session() as over_tcp,
    ):
        await client.connect(served.served.url())
        assert await over_tcp.echo(0, b"x" * 1000) == b"x" * 1000
        stats = await served.server.get_server_stats()
        assert (stats["sessions_accepted"], stats["websocket_sessions_accepted"]) == (2, 1)
        assert (stats["active_sessions"], stats["active_websocket_sessions"]) == (2, 1)
        assert (stats["active_connections"], stats["active_websocket_connections"]) == (1, 1)
        assert (stats["connections_accepted"], stats["tcp_connections_accepted"]) == (1, 1)
        assert stats["traffic"]["stream_bytes_received"] >= 1000
        assert len((await served.server.debug_state())["connections"]) == 2
        await over_tcp.socket.close()
        await until(lambda: served.server.measure()["active_websocket_sessions"] == 0)
        stats = await served.server.get_server_stats()
        assert (stats["active_sessions"], stats["active_websocket_connections"]) == (1, 0)
        assert stats["traffic"]["stream_bytes_received"] >= 1000


async def test_metrics_have_the_transport(certs: Certificates) -> None:
    from prometheus_client import generate_latest

    from pywebtransport.monitoring import Metrics

    async with qmux_served(certs, echo) as served, served.session():
        text = generate_latest(Metrics(served.app).registry).decode()
    for kind, count in (("quic", 0), ("websocket", 1)):
        label = f'{{side="server",transport="{kind}"}} {count}.0'
        assert f"webtransport_sessions_by_transport{label}" in text
        assert f"webtransport_sessions_accepted_by_transport_total{label}" in text


# ----------------------------------------------------------------- beside an application


@pytest.mark.parametrize("http2", [False, True], ids=["uvicorn", "hypercorn"])
async def test_one_port_for_a_page_a_websocket_and_a_session(
    certs: Certificates, http2: bool
) -> None:
    import httpx
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route, WebSocketRoute

    async def page(request: Any) -> PlainTextResponse:
        return PlainTextResponse("page")

    async def socket(websocket: Any) -> None:
        await websocket.accept()
        await websocket.send_text("socket")
        await websocket.receive()

    web = Starlette(routes=[Route("/", page), WebSocketRoute("/ws", socket)])
    async with (
        qmux_served(certs, {"/wt": echo}, mount=web, mount_options={"http2": http2}) as served,
        served.session("/wt") as session,
        served.websocket("/ws") as plain,
        httpx.AsyncClient(verify=served.tls, http2=http2, trust_env=False) as client,
    ):
        response = await client.get(served.served.url("/"))
        assert (response.text, response.http_version) == ("page", "HTTP/2" if http2 else "HTTP/1.1")
        assert await plain.recv() == "socket"
        assert await session.echo(0, b"session") == b"session"
        assert served.server.measure()["active_tcp_connections"] == 3


async def test_sessions_of_an_asgi_application(certs: Certificates) -> None:
    """Paths without a route belong to it, over WebSocket as over HTTP/3."""
    from pywebtransport.asgi import WebTransportRouter

    async def nothing(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError

    web = WebTransportRouter(nothing)

    @web.route("/wt")
    async def handle(session: Any) -> None:
        await echo(session)

    async with qmux_served(certs, {}, mount=web) as served, served.session("/wt") as session:
        assert await session.echo(0, b"x") == b"x"


# ---------------------------------------------------------------------- the older framing


async def test_the_older_framing(certs: Certificates) -> None:
    async with (
        qmux_served(certs, echo, websocket_legacy=True) as served,
        served.websocket("/", ["webtransport"]) as socket,
    ):
        assert socket.subprotocol == "webtransport"
        await socket.send(bytes.fromhex("080068656c6c6f"))
        await socket.send(bytes.fromhex("0900"))
        answer = b""
        while True:
            message = await socket.recv()
            assert message[:2] in (b"\x08\x00", b"\x09\x00")
            answer += message[2:]
            if message[0] == 0x09:
                break
        assert answer == b"hello"
