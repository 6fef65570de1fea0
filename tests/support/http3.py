"""A small HTTP/3 client for tests, over our own QUIC engine.

It sends what a test tells it to, also what no client should send, and returns what came.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any

from pywebtransport._transport import Stream
from pywebtransport.connection import WebTransportConnection
from pywebtransport.exceptions import StreamError, StreamResetError
from tests.integration import raw_h3 as h3

from .certificates import Certificates
from .endpoints import Served, make_client_config

__all__ = ["Http3Client", "HttpExchange", "HttpResponse", "http3"]

_PATIENCE = 20.0

Fields = Iterable[tuple[str, str]]


class HttpResponse:
    """A complete response.

    Attributes:
        status: Its status.
        lines: Its field lines, in order.
        body: Its body.
        trailers: Lines after the body; None: there are none.
        informs: Interim responses before: status and lines.
    """

    def __init__(self) -> None:
        self.status = 0
        self.lines: list[tuple[str, str]] = []
        self.body = b""
        self.trailers: list[tuple[str, str]] | None = None
        self.informs: list[tuple[int, list[tuple[str, str]]]] = []

    def get(self, name: str) -> str | None:
        """The value of a field that has one line at most."""
        values = [value for each, value in self.lines if each == name]
        assert len(values) <= 1, self.lines
        return values[0] if values else None


class HttpExchange:
    """One request. Its response is complete after :meth:`finish`."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.response = HttpResponse()
        self._buffer = bytearray()
        self._left = 0  # bytes of the current DATA frame
        self._has_ended = False

    def send(self, data: bytes, fin: bool = False) -> int:
        """Send a piece of the body in a DATA frame; returns the bytes that wait."""
        return self.stream.write(h3.data(data) if data else b"", fin)

    async def send_all(self, data: bytes, fin: bool = True) -> None:
        """As ``send``, and wait until little of it is left to be sent."""
        self.send(data, fin)
        future = asyncio.get_running_loop().create_future()
        self.stream.set_write_waiter(future)
        async with asyncio.timeout(_PATIENCE):
            await future

    def cancel(self, code: int = 0x10C) -> None:
        """Take the request back: RESET_STREAM and STOP_SENDING."""
        self.stream.reset(code)
        self.stream.stop_sending(code)

    async def head(self) -> HttpResponse:
        """Wait for the header of the response; interim responses are noted."""
        while not self.response.status:
            await self._frame()
        return self.response

    async def read(self) -> bytes:
        """Wait for a piece of the body; b"" at the end of the response."""
        await self.head()
        while True:
            if self._left:
                data = bytes(self._buffer[: self._left])
                if data:
                    del self._buffer[: len(data)]
                    self._left -= len(data)
                    return data
                await self._more()
            elif self._has_ended and not self._buffer:
                return b""
            else:
                await self._frame()

    async def finish(self) -> HttpResponse:
        """Wait for the whole response.

        Raises:
            StreamResetError: The server reset it.
        """
        pieces = []
        while data := await self.read():
            pieces.append(data)
        self.response.body = b"".join(pieces)
        return self.response

    async def reset_code(self) -> int | None:
        """Wait for RESET_STREAM, whatever comes before; returns its code."""
        try:
            await self.finish()
        except StreamResetError as error:
            code: int | None = error.details["code"]
            return code
        raise AssertionError(f"no reset, but status {self.response.status}")

    async def _frame(self) -> None:
        """Take the next frame, or what is there of it."""
        try:
            head = bytes(self._buffer[:16])
            kind, at = h3.read_varint(head)
            size, at = h3.read_varint(head, at)
        except IndexError:
            await self._more()
            return
        if kind == h3.DATA:
            del self._buffer[:at]
            self._left = size
            return
        if len(self._buffer) < at + size:
            await self._more()
            return
        payload = bytes(self._buffer[at : at + size])
        del self._buffer[: at + size]
        assert kind == h3.HEADERS, kind
        self._section(h3.decode_lines(payload))

    def _section(self, lines: list[tuple[str, str]]) -> None:
        response = self.response
        if lines and lines[0][0] == ":status":
            assert not response.status
            status = int(lines[0][1])
            if status < 200:
                response.informs.append((status, lines[1:]))
            else:
                response.status, response.lines = status, lines[1:]
        else:
            assert response.trailers is None
            response.trailers = lines

    async def _more(self) -> None:
        """Wait for bytes or the end."""
        if self._has_ended:
            raise AssertionError(f"the response is cut short: {bytes(self._buffer[:100])!r}")
        while (data := self.stream.read(65536)) is None:
            future = asyncio.get_running_loop().create_future()
            self.stream.set_read_waiter(future)
            async with asyncio.timeout(_PATIENCE):
                await future
        self._has_ended = not data
        self._buffer += data


class Http3Client:
    """A connection.

    Attributes:
        connection: The QUIC connection below.
    """

    def __init__(self, connection: WebTransportConnection) -> None:
        self.connection = connection
        self._exchanges: list[HttpExchange] = []

    def open(
        self,
        method: str,
        path: str,
        fields: Fields = (),
        *,
        fin: bool = True,
        **pseudo: str | None,
    ) -> HttpExchange:
        """Send the header of a request; ``scheme=None`` leaves ``:scheme`` out."""
        values: dict[str, str | None] = {
            "method": method,
            "scheme": "https",
            "authority": "localhost",
            "path": path,
        }
        lines = [
            (f":{key}", value) for key, value in (values | pseudo).items() if value is not None
        ]
        return self.open_raw(h3.encode_headers([*lines, *fields]), fin=fin)

    def open_raw(self, data: bytes, *, fin: bool = False) -> HttpExchange:
        """Open a request stream, and write any bytes."""
        assert self.connection.h3 is not None
        stream: Any = self.connection.h3.quic.open_stream(False)
        assert stream is not None, "no stream allowed"
        stream.sink = None
        stream.write(data, fin)
        exchange = HttpExchange(stream)
        self._exchanges.append(exchange)
        return exchange

    async def request(
        self, method: str, path: str, fields: Fields = (), body: bytes = b"", **pseudo: str | None
    ) -> HttpResponse:
        """Send a request, and wait for its response."""
        exchange = self.open(method, path, fields, fin=not body, **pseudo)
        if body:
            with suppress(StreamError):  # the answer came before
                exchange.send(body, True)
        return await exchange.finish()

    async def get(self, path: str, fields: Fields = ()) -> HttpResponse:
        """GET."""
        return await self.request("GET", path, fields)

    async def post(self, path: str, body: bytes, fields: Fields = ()) -> HttpResponse:
        """POST."""
        return await self.request("POST", path, fields, body)


@asynccontextmanager
async def http3(
    certs: Certificates, served: Served | None = None, *, port: int = 0, **fields: Any
) -> AsyncIterator[Http3Client]:
    """A connection to a server; the block closes it.

    Args:
        certs: Certificates.
        served: The server.
        port: Its port on ``127.0.0.1``, if it is in another process.
        **fields: Fields of the configuration of the client.
    """
    connection = WebTransportConnection(config=make_client_config(certs, **fields))
    host = "127.0.0.1" if served is None else served.host
    await connection.establish(host, port if served is None else served.port)
    try:
        await connection.wait_ready()
        yield Http3Client(connection)
    finally:
        await connection.close()
