"""A WebSocket client over HTTP/3 (RFC 9220): our HTTP/3 client, and wsproto for the frames."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage
from wsproto.extensions import Extension

from .http3 import Http3Client, HttpResponse

__all__ = ["WebSocketClient"]

_PIECE = 65536
_QUEUED = 1 << 20


class WebSocketClient:
    """One WebSocket.

    Args:
        client: The connection.
        path: Path and query.
        fields: Further fields of the request.
        version: ``sec-websocket-version``; None: the field is missing.
        extensions: What is offered.
        subprotocols: What is offered.

    Attributes:
        exchange: The request.
    """

    def __init__(
        self,
        client: Http3Client,
        path: str = "/",
        fields: Iterable[tuple[str, str]] = (),
        *,
        version: str | None = "13",
        extensions: Sequence[Extension] = (),
        subprotocols: Sequence[str] = (),
    ) -> None:
        self._extensions = list(extensions)
        lines = list(fields)
        if version is not None:
            lines.append(("sec-websocket-version", version))
        if subprotocols:
            lines.append(("sec-websocket-protocol", ", ".join(subprotocols)))
        for extension in extensions:
            offer = extension.offer()
            lines.append(("sec-websocket-extensions", f"{extension.name}; {offer}"))
        self.exchange = client.open("CONNECT", path, lines, fin=False, protocol="websocket")
        self._ws = Connection(ConnectionType.CLIENT)
        self._events: deque[Event] = deque()

    async def answer(self) -> HttpResponse:
        """Wait for the header of the answer."""
        response = await self.exchange.head()
        accepted = response.get("sec-websocket-extensions")
        if accepted:
            for extension in self._extensions:
                if accepted.split(";")[0].strip() == extension.name:
                    extension.finalize(accepted)
        self._ws = Connection(ConnectionType.CLIENT, self._extensions)
        return response

    def send(self, event: Event, *, fin: bool = False) -> None:
        """Send a frame."""
        self.exchange.send(self._ws.send(event), fin)

    async def send_slowly(self, data: Any) -> None:
        """Send many bytes of frames, with little of them waiting at a time."""
        stream = self.exchange.stream
        for start in range(0, len(data), _PIECE):
            self.exchange.send(data[start : start + _PIECE])
            while stream.queued > _QUEUED and not stream.is_stopped:
                future = asyncio.get_running_loop().create_future()
                stream.set_write_waiter(future)
                await future

    def frame(self, event: Event) -> bytes:
        """The bytes of a frame, to be sent as they are or spoilt."""
        return self._ws.send(event)

    def send_text(self, text: str) -> None:
        """Send a text message."""
        self.send(TextMessage(data=text))

    def send_bytes(self, data: Any) -> None:
        """Send a binary message."""
        self.send(BytesMessage(data=data))

    async def next(self) -> Event | None:
        """The next event; None: the server has closed its half of the stream."""
        while not self._events:
            data = await self.exchange.read()
            if not data:
                return None
            self._ws.receive_data(data)
            self._events.extend(self._ws.events())
        return self._events.popleft()

    async def message(self) -> Any:
        """The next complete message, a string or bytes; pings are answered."""
        pieces: list[Any] = []
        while True:
            event = await self.next()
            if isinstance(event, Ping):
                self.send(event.response())
                continue
            if isinstance(event, Pong):
                continue
            assert isinstance(event, TextMessage | BytesMessage), event
            pieces.append(event.data)
            if event.message_finished:
                return pieces[0][:0].join(pieces)

    async def closed(self) -> tuple[int, str]:
        """Wait for a Close frame and the end of the stream; return code and reason."""
        while not isinstance(event := await self.next(), CloseConnection):
            assert event is not None, "the stream ended without a Close frame"
        assert await self.next() is None
        return int(event.code), event.reason or ""
