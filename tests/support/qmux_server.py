"""Serving sessions over WebSocket in tests, and a client that knows nothing of this package.

The client is the library ``websockets`` with the frames of QMux written out here.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, Self

import websockets

from pywebtransport import ServerApp

from .asgi_tcp import App, RawTcp, tls_of
from .certificates import Certificates
from .endpoints import Handler, Served, make_server_config

__all__ = ["PARAMETERS", "Frame", "QMuxClient", "QMuxServed", "qmux_served", "stream", "varint"]

PARAMETERS = bytes.fromhex(
    "ff5153300d0a0d0a37010480007530040480100000050480040000060480040000070480040000080240640902"
    "406420027ffec571c59429cd0845027ffe1d00"
)
"""The transport parameters that another implementation sends with qmux-02."""
_PARAMETERS_TYPE = 0x3F5153300D0A0D0A
_PING, _PONG = 0x348C67529EF8C7BD, 0x348C67529EF8C7BE
# How many numbers follow the type, and nothing else.
_NUMBERS = {
    0x00: 0, 0x04: 3, 0x05: 2, 0x10: 1, 0x11: 2, 0x12: 1, 0x13: 1, 0x14: 1, 0x15: 2, 0x16: 1,
    0x17: 1, 0x24: 4, _PING: 1, _PONG: 1,
}  # fmt: skip


class Frame(NamedTuple):
    """A frame: its type without the flags of STREAM, its numbers, and what follows them.

    The numbers of a STREAM frame are its ID, offset and FIN bit; those of CONNECTION_CLOSE end
    with the code, or the code and the type of a frame.
    """

    type: int
    numbers: tuple[int, ...]
    data: bytes


def varint(value: int) -> bytes:
    """A variable-length integer of QUIC."""
    for power, bits in enumerate((6, 14, 30, 62)):
        if value < 1 << bits:
            size = 1 << power
            return (value | power << (8 * size - 2)).to_bytes(size, "big")
    raise ValueError(value)


def stream(stream_id: int, data: bytes = b"", *, offset: int = 0, fin: bool = False) -> bytes:
    """A STREAM frame with all its fields."""
    head = varint(0x0E | fin) + varint(stream_id) + varint(offset)
    return head + varint(len(data)) + data


def parse(record: bytes) -> list[Frame]:
    """The frames of a record."""
    frames, at = [], 0

    def number() -> int:
        nonlocal at
        size = 1 << (record[at] >> 6)
        value = int.from_bytes(record[at : at + size], "big") & (1 << (8 * size - 2)) - 1
        at += size
        return value

    def piece(size: int) -> bytes:
        nonlocal at
        assert at + size <= len(record)
        at += size
        return record[at - size : at]

    while at < len(record):
        kind = number()
        if 0x08 <= kind <= 0x0F:
            stream_id = number()
            offset = number() if kind & 4 else 0
            data = piece(number() if kind & 2 else len(record) - at)
            frames.append(Frame(0x08, (stream_id, offset, kind & 1), data))
        elif kind in (0x30, 0x31):
            frames.append(Frame(0x30, (), piece(number() if kind & 1 else len(record) - at)))
        elif kind in (0x1C, 0x1D):
            numbers = tuple(number() for _ in range(0x1E - kind))
            frames.append(Frame(kind, numbers, piece(number())))
        elif kind == _PARAMETERS_TYPE:
            frames.append(Frame(kind, (), piece(number())))
        else:
            frames.append(Frame(kind, tuple(number() for _ in range(_NUMBERS[kind])), b""))
    return frames


class QMuxClient:
    """A session of a client.

    Attributes:
        socket: The WebSocket.
        seen: All frames that have arrived.
    """

    def __init__(self, socket: Any) -> None:
        self.socket = socket
        self.seen: list[Frame] = []
        self._taken = 0

    async def send(self, *frames: bytes) -> None:
        """Send a record."""
        await self.socket.send(b"".join(frames))

    async def wait_for(self, kind: int, first: int | None = None) -> Frame:
        """Return the next frame of a type, whose first number may be told."""
        while True:
            while self._taken < len(self.seen):
                frame = self.seen[self._taken]
                self._taken += 1
                if frame.type == kind and (first is None or frame.numbers[0] == first):
                    return frame
            self.seen += parse(await self.socket.recv())

    async def read(self, stream_id: int) -> bytes:
        """Read a stream to its end."""
        data = b""
        while True:
            frame = await self.wait_for(0x08, stream_id)
            assert frame.numbers[1] == len(data)
            data += frame.data
            if frame.numbers[2]:
                return data

    async def echo(self, stream_id: int, data: bytes) -> bytes:
        """Send a whole stream, and return the answer."""
        await self.send(stream(stream_id, data, fin=True))
        return await self.read(stream_id)

    async def end(self) -> tuple[int | None, list[Frame]]:
        """Read until the connection ends; the code of Close, and the frames that came."""
        try:
            while True:
                self.seen += parse(await self.socket.recv())
        except websockets.ConnectionClosed:
            return self.socket.close_code, self.seen


class QMuxServed:
    """A server with ``websocket=True``, as its clients see it.

    Attributes:
        served: The server, with URLs.
        tls: What clients trust.
    """

    def __init__(self, served: Served, certs: Certificates) -> None:
        self.served = served
        self.app = served.app
        self.server = served.server
        self.tls = tls_of(certs)

    @asynccontextmanager
    async def session(
        self,
        path: str = "/",
        names: Sequence[str] = ("qmux-02",),
        *,
        parameters: bytes = PARAMETERS,
        **options: Any,
    ) -> AsyncIterator[QMuxClient]:
        """A session; the parameters are sent with ``qmux-NN``."""
        async with self.websocket(path, names, **options) as socket:
            client = QMuxClient(socket)
            if parameters and (socket.subprotocol or "").startswith("qmux"):
                with contextlib.suppress(websockets.ConnectionClosed):  # as fast as the handler
                    await client.send(parameters)
            yield client

    def websocket(self, path: str = "/", names: Sequence[str] = (), **options: Any) -> Any:
        """A WebSocket that offers subprotocols."""
        url = self.served.url(path).replace("https", "wss", 1)
        options.setdefault("ssl", self.tls)
        subprotocols = [websockets.Subprotocol(name) for name in names] or None
        return websockets.connect(
            url, proxy=None, subprotocols=subprotocols, compression=None, **options
        )

    async def raw(self, tls: ssl.SSLContext | None = None) -> RawTcp:
        """A TLS connection."""
        reader, writer = await asyncio.open_connection(
            self.served.host, self.served.port, ssl=tls or self.tls
        )
        return RawTcp(reader, writer)

    async def ask(self, request: bytes) -> Answer:
        """Send a request on a connection of its own, and read until the server ends it."""
        async with await self.raw() as raw:
            await raw.send(request)
            return Answer.parse(await raw.rest())


class Answer(NamedTuple):
    """What a server answers."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """Parse a whole response."""
        head, end, body = text.partition(b"\r\n\r\n")
        assert end, text
        first, *lines = head.decode("latin-1").split("\r\n")
        fields = [line.split(": ", 1) for line in lines]
        return cls(int(first.split()[1]), {name.lower(): value for name, value in fields}, body)


@asynccontextmanager
async def qmux_served(
    certs: Certificates,
    target: Handler | Mapping[str, Handler],
    *,
    mount: App | None = None,
    mount_options: Mapping[str, Any] | None = None,
    **fields: Any,
) -> AsyncIterator[QMuxServed]:
    """Serve sessions over HTTP/3 and WebSocket.

    Args:
        certs: Certificates.
        target: The handler of all paths, or of each of them.
        mount: An ASGI application beside them.
        mount_options: Keywords of ``ServerApp.mount``.
        **fields: Fields of the configuration of the server.
    """
    config = make_server_config(
        certs, **{"network": None, "drain_timeout": 0, "websocket": True, **fields}
    )
    app = ServerApp(config=config)
    if mount is not None:
        app.mount(mount, **{"lifespan": "off", "tcp": True, **(mount_options or {})})
    if isinstance(target, Mapping):
        for path, handler in target.items():
            app.route(path)(handler)
    else:
        app.router.set_default_handler(target)
    async with app:
        await app.listen()
        yield QMuxServed(Served(app), certs)
