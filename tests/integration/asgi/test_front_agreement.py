"""What the TCP side does as HTTP/3 does it: origins, unreadable requests, the end of WebSockets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import websockets
from wsproto.events import TextMessage

from pywebtransport.asgi import ClientDisconnectedError
from tests.support.asgi import Call, Stage
from tests.support.asgi_http import echo, hello, start
from tests.support.asgi_tcp import tcp_served
from tests.support.certificates import Certificates
from tests.support.steps import until

from .clients import WebSocket
from .test_front import DRIVERS, Log, accesses


@DRIVERS
@pytest.mark.parametrize("length", [True, False], ids=["length", "no length"])
async def test_a_client_of_http_1_0_gets_no_chunks(
    certs: Certificates, http2: bool, length: bool
) -> None:
    """It would take their sizes for a part of the body (RFC 9112 section 6.1)."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start(200, *[(b"content-length", b"9")] * length))
        for piece in (b"one", b"two", b""):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"end"})

    async with tcp_served(certs, app, mount={"http2": http2}) as tcp, await tcp.raw() as raw:
        await raw.send(b"GET / HTTP/1.0\r\nhost: x\r\n\r\n")
        head = await raw.head()
        assert b"transfer-encoding" not in head
        assert await raw.rest() == b"onetwoend"


@DRIVERS
async def test_websockets_of_other_origins_are_refused(
    certs: Certificates, http2: bool, caplog: Log
) -> None:
    """Browsers send cookies with them. Requests are the business of the application."""
    caplog.set_level(logging.INFO, "pywebtransport")
    fields = {"allowed_origins": ["https://a.test"], "mount": {"http2": http2}}
    async with tcp_served(certs, echo, **fields) as tcp, tcp.http() as client:
        for origin in ("https://a.test", None):
            async with tcp.websocket(origin=origin) as socket:
                await socket.send("text")
                assert await socket.recv() == "text"
        with pytest.raises(websockets.InvalidStatus) as caught:
            async with tcp.websocket(origin="https://b.test"):
                pass
        assert caught.value.response.status_code == 403
        assert tcp.server.refresh_stats().origins_rejected == 1
        assert (await client.get("/", headers={"origin": "https://b.test"})).status_code == 200
    assert 'client "GET / HTTP/1.1" 403 _ms origin=https://b.test' in accesses(caplog)


@pytest.mark.parametrize(
    ("http2", "data", "status"),
    [
        (False, b"Nonsense\r\n\r\n", 400),
        (True, b"Nonsense\r\n\r\n", 400),
        (False, b"GET / HTTP/1.1\r\nhost: x\r\na: " + b"b" * 5000, 431),
        (True, b"GET / HTTP/1.1\r\nhost: x\r\na: " + b"b" * 5000, 431),
        (False, b"GET / HTTP/1.1\r\nhost: x\r\n", 408),  # hypercorn closes it without an answer
    ],
    ids=["nonsense", "nonsense-http2", "too large", "too large-http2", "too slow"],
)
async def test_answers_to_requests_that_cannot_be_read(
    certs: Certificates, http2: bool, data: bytes, status: int, caplog: Log
) -> None:
    """They are logged and counted as others, and say where HTTP/3 is."""
    caplog.set_level(logging.INFO, "pywebtransport")
    fields = {"max_field_section_size": 4096, "handshake_timeout": 0.5, "mount": {"http2": http2}}
    async with tcp_served(certs, hello, **fields) as tcp, await tcp.raw() as raw:
        await raw.send(data)
        head = await raw.head()
        assert head.startswith(b"HTTP/1.1 %d " % status)
        assert b'alt-svc: h3=":%d"; ma=86400\r\n' % tcp.server.port in head
        await raw.rest()
        stats = tcp.server.refresh_stats()
        assert (stats.requests, stats.responses_4xx) == (1, 1)
    assert accesses(caplog) == [f'client "- - HTTP/1.1" {status} _ms origin=-']


VERSIONS = pytest.mark.parametrize("version", ["1.1", "1.1 by hypercorn", "2", "3"])


@asynccontextmanager
async def opened(
    certs: Certificates, version: str, interval: float
) -> AsyncIterator[tuple[Call, WebSocket]]:
    """A WebSocket over a version of HTTP, and its far end."""
    stage = Stage()
    mount = {"http2": version in ("1.1 by hypercorn", "2")}
    cafile = certs.authority.certfile
    async with (
        tcp_served(certs, stage, mount=mount, websocket_ping_interval=interval) as tcp,
        asyncio.TaskGroup() as group,
    ):
        opening = WebSocket.opened(version.split()[0], tcp.server.port, cafile, "/")
        entering = group.create_task(opening.__aenter__())
        call = await stage.next()
        await call.accept()
        yield call, await entering
        call.end()
        await opening.__aexit__(None, None, None)


@VERSIONS
async def test_a_client_that_does_not_answer_pings_is_1011(
    certs: Certificates, version: str
) -> None:
    async with opened(certs, version, 0.05) as (call, client):
        event = await call.receive()
        assert (event["type"], event["code"]) == ("websocket.disconnect", 1011)
        with pytest.raises(ClientDisconnectedError):
            await call.send("send", text="late")
        # Only now it looks.
        while client.closed is None:
            await client.event()
        assert client.closed == (1011, "keepalive ping timeout")


@VERSIONS
async def test_a_slow_application_is_not_taken_for_a_dead_client(
    certs: Certificates, version: str
) -> None:
    """While it takes no messages, nobody reads the answers to pings."""
    count = 30
    async with opened(certs, version, 0.03) as (call, client):
        for number in range(count):
            await client.send(TextMessage(str(number)))
        reading = asyncio.create_task(client.message())  # and answering pings
        await asyncio.sleep(0.3)
        for number in range(count):
            assert (await call.receive())["text"] == str(number)
        await call.send("send", text="still here")
        assert await reading == "still here"


@DRIVERS
@pytest.mark.parametrize("is_late", [False, True], ids=["before", "during"])
async def test_the_application_hears_that_websockets_are_closed(
    certs: Certificates, http2: bool, is_late: bool
) -> None:
    """Those that were accepted before the drain, and those that are accepted during it."""
    stage = Stage()
    async with tcp_served(certs, stage, mount={"http2": http2}) as tcp:
        opening = asyncio.ensure_future(tcp.websocket().__aenter__())
        call = await stage.next()
        if not is_late:
            await call.accept()
            await opening
        closing = asyncio.ensure_future(tcp.server.close(drain_timeout=20))
        if is_late:
            await until(lambda: tcp.server.tcp.stopping)
            await call.accept()
        socket = await opening
        await socket.wait_closed()
        assert socket.close_code == 1012
        event = await call.receive()
        assert (event["type"], event["code"]) == ("websocket.disconnect", 1012)
        with pytest.raises(ClientDisconnectedError):
            await call.send("send", text="late")
        call.end()
        await closing
