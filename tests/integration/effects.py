"""What each field of a configuration does, as something that can be observed.

``@effect("field", ...)`` registers a coroutine function that shows the effect of fields. It gets
a :class:`Bed`. For a field that both configurations have it runs twice: ``bed.side`` is the side
whose field is tried. ``test_config_effects.py`` runs all of them, and fails for a field without.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pywebtransport import ClientConfig, ServerConfig, WebTransportClient, WebTransportSession
from tests.integration.raw_peer import RawPeer, linked, raw_server
from tests.support.certificates import Certificates
from tests.support.endpoints import Served, make_client_config, make_server_config, pair, serving

__all__ = ["EFFECTS", "Bed", "Tap", "effect", "elapsed", "engine_stats", "refused"]

Effect = Callable[["Bed"], Awaitable[None]]
CONFIGS: dict[str, type[ClientConfig] | type[ServerConfig]] = {
    "client": ClientConfig,
    "server": ServerConfig,
}
EFFECTS: dict[tuple[str, str], Effect] = {}
"""By side and field."""


def effect(*names: str, only: str | None = None) -> Callable[[Effect], Effect]:
    """Register what shows the effect of fields, on one side or on each that has them."""

    def register(function: Effect) -> Effect:
        for side, config in CONFIGS.items():
            for name in names:
                if only in (None, side) and name in config._rules:
                    assert (side, name) not in EFFECTS, f"{name} of {side} has two effects"
                    EFFECTS[side, name] = function
        return function

    return register


class Bed:
    """A server and clients for one field.

    Attributes:
        side: "client" or "server": whose configuration the field is in.
        certs: Certificates of every kind.
        path: A directory of the test.
        logs: What was logged.
    """

    def __init__(
        self, side: str, certs: Certificates, path: Path, logs: pytest.LogCaptureFixture
    ) -> None:
        self.side = side
        self.certs = certs
        self.path = path
        self.logs = logs

    @asynccontextmanager
    async def pair(
        self, *, other: dict[str, Any] | None = None, **fields: Any
    ) -> AsyncIterator[tuple[WebTransportSession, WebTransportSession]]:
        """The end of a session whose configuration has ``fields``, and the other end."""
        far = "server" if self.side == "client" else "client"
        both: dict[str, Any] = {self.side: fields, far: other or {}}
        async with pair(self.certs, **both) as (client, server):
            yield (client, server) if self.side == "client" else (server, client)

    def serving(self, target: Any = None, **fields: Any) -> AbstractAsyncContextManager[Served]:
        """A server with ``fields``."""
        return serving(self.certs, target, **fields)

    def client(self, **fields: Any) -> WebTransportClient:
        """A client with ``fields``."""
        return WebTransportClient(config=self.client_config(**fields))

    def client_config(self, **fields: Any) -> ClientConfig:
        return make_client_config(self.certs, **fields)

    def server_config(self, **fields: Any) -> ServerConfig:
        return make_server_config(self.certs, **fields)

    @asynccontextmanager
    async def raw(self, **fields: Any) -> AsyncIterator[tuple[RawPeer, Callable[[], Any]]]:
        """A peer that sends exactly what it is told, against an end of ours with ``fields``.

        The session is on stream 0 and not established yet: the second value, called and
        awaited, establishes it and gives it.
        """
        from tests.integration import raw_h3 as h3

        if self.side == "server":
            async with linked(lambda *a, **k: self.serving(*a, **k), **fields) as it:
                request = it.peer.open_stream()

                async def establish() -> WebTransportSession:
                    it.peer.send(request, h3.connect())
                    return await it.sessions.get()

                yield it.peer, establish
            return
        async with raw_server(self.certs) as server, self.client(close_timeout=1, **fields) as ours:
            attempt = asyncio.ensure_future(ours.connect(server.url))
            attempt.add_done_callback(lambda done: done.cancelled() or done.exception())
            peer = await server.accept(h3.DRAFT16 | {h3.CONNECT_PROTOCOL: 1})
            await peer.headers(0)

            async def answer() -> WebTransportSession:
                peer.send(0, h3.encode_headers([(":status", "200")]))
                return await attempt

            try:
                yield peer, answer
            finally:
                attempt.cancel()
                await asyncio.wait({attempt})
                peer.vanish()


class Tap:
    """Passes the packets of one client on and looks at them.

    Attributes:
        up, down: Size and ECN mark of each packet to and from the server.
        first_bytes: Of each packet to the server, which has its type.
        port: Where the client connects.
        blocked: No packet gets through.
        deaf: None gets through to the client.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self.up: list[tuple[int, int]] = []
        self.down: list[tuple[int, int]] = []
        self.first_bytes: list[int] = []
        self.blocked = False
        self.deaf = False
        self._target = target
        self._client: Any = None
        self._front = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._back = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for each in (self._front, self._back):
            each.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            each.bind(("127.0.0.1", 0))
            each.setblocking(False)
        self.port: int = self._front.getsockname()[1]

    def seen(self, side: str) -> list[tuple[int, int]]:
        """What one side sent."""
        return self.up if side == "client" else self.down

    async def __aenter__(self) -> Tap:
        loop = asyncio.get_running_loop()
        loop.add_reader(self._front, self._from_client)
        loop.add_reader(self._back, self._from_server)
        return self

    async def __aexit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        for each in (self._front, self._back):
            loop.remove_reader(each)
            each.close()

    def _from_client(self) -> None:
        for data, tos, address in self._read(self._front):
            self._client = address
            self.up.append((len(data), tos & 3))
            self.first_bytes.append(data[0])
            if not self.blocked:
                self._back.sendto(data, self._target)

    def _from_server(self) -> None:
        for data, tos, _ in self._read(self._back):
            self.down.append((len(data), tos & 3))
            if not (self.blocked or self.deaf):
                self._front.sendto(data, self._client)

    @staticmethod
    def _read(sock: socket.socket) -> list[tuple[bytes, int, Any]]:
        found: list[tuple[bytes, int, Any]] = []
        while True:
            try:
                data, extra, _, address = sock.recvmsg(65536, 64)
            except BlockingIOError:
                return found
            found.append((data, extra[0][2][0] if extra else 0, address))


def engine_stats(session: WebTransportSession) -> dict[str, int]:
    """Counters of the engine of one end."""
    assert session.connection is not None
    endpoint = session.connection._endpoint
    assert endpoint is not None
    return endpoint.quic.stats()


async def elapsed(operation: Awaitable[object]) -> float:
    """Seconds that something takes."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    await operation
    return loop.time() - started


async def refused(operation: Awaitable[object], error: type[Exception], match: str = ".") -> Any:
    """Show that something raises, and return what."""
    with pytest.raises(error, match=match) as caught:
        await operation
    return caught.value
