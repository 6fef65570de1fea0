"""Two ends of a connection over WebSocket, joined in memory: no sockets, and nothing faked above.

A record that one end sends reaches the other one in a later turn of the event loop, as over TCP:
in order, or not at all.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self

from pywebtransport import ClientConfig, ServerConfig
from pywebtransport._core.fallback import establish_over, serve_over
from pywebtransport._header_map import HeaderMap
from pywebtransport._transport import LayerSession
from pywebtransport.connection import WebTransportConnection
from pywebtransport.session import WebTransportSession

Handler = Callable[[WebTransportSession], Awaitable[None]]

CLIENT = {"user_agent": "bed"}


class Link:
    """One end of a pair; satisfies ``Link`` and, by its subclasses, the upgrades.

    Attributes:
        is_stuck: The kernel takes nothing: records stay where they are made.
        sent: The records that this end sent.
    """

    local_address = ("192.0.2.1", 1)
    remote_address = ("192.0.2.2", 2)
    peer_certificate: bytes | None = None
    server_name = "example.org"
    alpn = "http/1.1"
    unsent = 0

    def __init__(self) -> None:
        self.peer: Link | None = None
        self.records: Any = None
        self.is_open = False
        self.is_stuck = False
        self.sent: list[bytes] = []
        self._loop = asyncio.get_running_loop()
        self._flush: asyncio.Handle | None = None
        self._closing = False
        self._is_paused = False
        self._arrived: deque[bytes | None] = deque()  # None: the peer's Close

    def attach(self, records: Any) -> None:
        self.records = records

    def open(self) -> None:
        self.is_open = True

    def stats(self) -> dict[str, int | None]:
        return {"smoothed_rtt": 1_000_000, "rttvar": 0, "min_rtt": 1_000_000}

    def wants_to_send(self) -> None:
        if self._flush is None and self.is_open and not self.is_stuck:
            self._flush = self._loop.call_soon(self._send)

    def unblock(self) -> None:
        self.is_stuck = False
        self.unsent = 0
        if self.records is not None:
            self.records.handed_over()
        self.wants_to_send()

    def _send(self) -> None:
        self._flush = None
        if self.records is None or not self.is_open:
            return
        count = 0
        while not self.is_stuck and (record := self.records.next_record()) is not None:
            self.sent.append(record)
            self._pass(record)
            count += 1
        if count:
            self.records.handed_over()
        if self._closing and not self.is_stuck:
            self.is_open = False
            self._pass(None)

    def _pass(self, record: bytes | None) -> None:
        peer = self.peer
        if peer is not None:
            peer._arrived.append(record)
            self._loop.call_soon(peer._receive)

    def release(self) -> None:
        self.is_open = False

    def pause_reading(self) -> None:
        self._is_paused = True

    def resume_reading(self) -> None:
        self._is_paused = False
        for _ in self._arrived:
            self._loop.call_soon(self._receive)

    def _receive(self) -> None:
        if self._is_paused or not self._arrived:
            return
        record = self._arrived.popleft()
        if record is not None:
            if self.records is not None and not self._closing:
                self.records.receive(record)
            return
        if self.is_open:  # answer the Close
            self.is_open = False
            self._pass(None)
        self.end()

    def close(self, code: int, reason: str = "") -> None:
        if self._closing:
            return
        self._closing = True
        if self.is_open:
            self.wants_to_send()
        else:
            self.abort()

    def abort(self) -> None:
        self.cut()

    def cut(self, error: BaseException | None = None) -> None:
        """The TCP connection is gone: both ends hear of it in later turns."""
        for end in (self, self.peer):
            if end is not None:
                end.is_open = False
                end._arrived.clear()
                self._loop.call_soon(end.end, error)

    def end(self, error: BaseException | None = None) -> None:
        self.is_open = False
        records, self.records, self.peer = self.records, None, None
        if records is not None:
            records.link_closed(error=error)


class ServerLink(Link):
    """Has the request of the client, until it is answered."""

    def __init__(self) -> None:
        super().__init__()
        self.path = self.authority = ""
        self.origin: str | None = None
        self.headers = HeaderMap()
        self.offered: tuple[str, ...] = ()
        self._answer: Callable[[int, HeaderMap, str | None], None] | None = None

    def ask(
        self,
        path: str,
        authority: str,
        headers: HeaderMap,
        offered: Sequence[str],
        answer: Callable[[int, HeaderMap, str | None], None],
    ) -> None:
        self.path, self.authority = path, authority
        self.origin = headers.get("origin")
        self.headers = HeaderMap((n, v) for n, v in headers.lines if n != "origin")
        self.offered = tuple(offered)
        self._answer = answer

    def accept(self, subprotocol: str | None, headers: HeaderMap) -> bool:
        answer, self._answer = self._answer, None
        if answer is None or self.peer is None:
            return False
        self.open()
        peer = self.peer

        def arrive() -> None:
            if peer.records is not None:
                peer.open()
                answer(101, headers, subprotocol)

        self._loop.call_soon(arrive)
        return True

    def reject(self, status: int, headers: HeaderMap) -> bool:
        answer, self._answer = self._answer, None
        if answer is None or self.peer is None:
            return False
        self._loop.call_soon(answer, status, headers, None)
        self._loop.call_soon(self.cut)
        return True


class ClientLink(Link):
    """Asks for the upgrade: the server hears of it in a later turn.

    Args:
        serve: Gets the server's end with the request.
    """

    def __init__(self, serve: Callable[[ServerLink], object]) -> None:
        super().__init__()
        self._serve = serve
        self.far = ServerLink()
        self.peer, self.far.peer = self.far, self

    def request(
        self,
        *,
        path: str,
        authority: str,
        headers: HeaderMap,
        subprotocols: Sequence[str],
        on_answer: Callable[[int, HeaderMap, str | None], None],
    ) -> None:
        self.far.ask(path, authority, headers, subprotocols, on_answer)
        self._loop.call_soon(self._serve, self.far)


class Bed:
    """A client and a server whose handler serves each session in a task.

    Attributes:
        sessions: The server's sessions.
        connections: The server's connections.
        failures: What handlers raised.
    """

    def __init__(self, handler: Handler, server: dict[str, Any] | None = None) -> None:
        self._handler = handler
        self.server_config = ServerConfig(certfile="-", keyfile="-", **(server or {}))
        self.sessions: list[WebTransportSession] = []
        self.connections: list[WebTransportConnection] = []
        self.failures: list[BaseException] = []
        self._tasks: list[asyncio.Task[None]] = []

    def _serve(self, link: ServerLink) -> None:
        connection = WebTransportConnection(config=self.server_config)
        connection.on_request = self._requested
        self.connections.append(connection)
        serve_over(connection, link, "192.0.2.1")

    def _requested(self, connection: WebTransportConnection, layer: LayerSession) -> None:
        session = WebTransportSession.attach(connection, layer)
        self.sessions.append(session)
        self._tasks.append(asyncio.get_running_loop().create_task(self._run(session)))

    async def _run(self, session: WebTransportSession) -> None:
        try:
            await self._handler(session)
        except Exception as error:
            self.failures.append(error)

    async def dial(self, **fields: Any) -> tuple[WebTransportConnection, ClientLink]:
        """A client's connection that has no session yet, and its link."""
        connection = WebTransportConnection(config=ClientConfig(**{**CLIENT, **fields}))
        link = ClientLink(self._serve)
        await establish_over(connection, link, "example.org", 443)
        return connection, link

    @asynccontextmanager
    async def session(
        self, path: str = "/", *, config: dict[str, Any] | None = None, **arguments: Any
    ) -> AsyncIterator[WebTransportSession]:
        """A session that is ready; it is closed with its connection at the end."""
        connection, _ = await self.dial(**(config or {}))
        try:
            session = await connection.create_session(path, **arguments)
            await session.ready()
            yield session
        finally:
            await connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for connection in self.connections:
            await connection.close()
        if self._tasks:  # their sessions have ended
            await asyncio.wait(self._tasks)
        self._tasks.clear()
        self.connections.clear()
        self.sessions.clear()  # what refers to this object is forgotten
        if self.failures:
            raise ExceptionGroup("handlers failed", self.failures)  # type: ignore[type-var]
