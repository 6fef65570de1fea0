"""WebSockets over HTTP/3 with code of others: aioquic as the client, frameworks as applications."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

import pytest
from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent
from fastapi import FastAPI, WebSocket
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocketDisconnect
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Event, TextMessage

from tests.support.asgi_http import asgi_served
from tests.support.certificates import Certificates
from tests.support.websocket import WebSocketClient

from .conftest import Mounting


class AioquicClient(QuicConnectionProtocol):
    """A WebSocket client of aioquic and wsproto."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.http = H3Connection(self._quic)
        self.headers: asyncio.Queue[dict[bytes, bytes]] = asyncio.Queue()
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.ws = Connection(ConnectionType.CLIENT)
        self.ended = asyncio.Event()

    def quic_event_received(self, event: QuicEvent) -> None:
        for item in self.http.handle_event(event):
            self.take(item)

    def take(self, item: H3Event) -> None:
        if isinstance(item, HeadersReceived):
            self.headers.put_nowait(dict(item.headers))
        elif isinstance(item, DataReceived):
            if item.data:
                self.ws.receive_data(item.data)
            for event in self.ws.events():
                self.events.put_nowait(event)
            if item.stream_ended:
                self.ended.set()

    def open(self, authority: str, path: str) -> int:
        stream = self._quic.get_next_available_stream_id()
        lines = [
            (b":method", b"CONNECT"),
            (b":protocol", b"websocket"),
            (b":scheme", b"https"),
            (b":authority", authority.encode()),
            (b":path", path.encode()),
            (b"sec-websocket-version", b"13"),
        ]
        self.http.send_headers(stream, lines)
        self.transmit()
        return stream

    def send(self, stream: int, event: Event) -> None:
        self.http.send_data(stream, bytes(self.ws.send(event)), end_stream=False)
        self.transmit()


def starlette_app() -> Any:
    async def echo(socket: Any) -> None:
        await socket.accept()
        while True:
            try:
                await socket.send_text(await socket.receive_text())
            except WebSocketDisconnect:
                return

    return Starlette(routes=[WebSocketRoute("/echo", echo)])


def fastapi_app() -> Any:
    app = FastAPI()

    # The annotation is looked up in the module.
    @app.websocket("/echo")
    async def echo(socket: WebSocket) -> None:
        await socket.accept()
        async for text in socket.iter_text():
            await socket.send_text(text)

    return app


@pytest.mark.loops("asyncio")
async def test_aioquic_is_the_client(mounting: Mounting, certs: Certificates) -> None:
    configuration = QuicConfiguration(
        is_client=True, alpn_protocols=["h3"], verify_mode=ssl.CERT_REQUIRED
    )
    configuration.load_verify_locations(certs.authority.certfile)
    async with (
        mounting(starlette_app()) as served,
        connect(
            served.host,
            served.port,
            configuration=configuration,
            create_protocol=AioquicClient,
        ) as client,
    ):
        assert isinstance(client, AioquicClient)
        stream = client.open(f"{served.host}:{served.port}", "/echo")
        assert (await client.headers.get())[b":status"] == b"200"
        for text in ("hello", "☃" * 40_000):
            client.send(stream, TextMessage(data=text))
            got = ""
            while len(got) < len(text):
                event = await client.events.get()
                assert isinstance(event, TextMessage)
                got += event.data
            assert got == text
        client.send(stream, CloseConnection(code=1000))
        event = await client.events.get()
        assert isinstance(event, CloseConnection)
        assert event.code == 1000
        await client.ended.wait()


@pytest.mark.parametrize("make", [starlette_app, fastapi_app])
async def test_frameworks_are_the_application(certs: Certificates, make: Callable[[], Any]) -> None:
    async with asgi_served(certs, make()) as served:
        client = WebSocketClient(served.client, "/echo")
        assert (await client.answer()).status == 200
        for text in ("one", "☃", ""):
            client.send_text(text)
            assert await client.message() == text
        client.send(CloseConnection(code=1001))
        assert await client.closed() == (1001, "")
        unknown = WebSocketClient(served.client, "/unknown")
        assert (await unknown.exchange.finish()).status == 403
