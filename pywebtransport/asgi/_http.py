"""The ``http`` scope: one request and its response, as events and messages of ASGI."""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections.abc import Iterable
from contextlib import suppress
from email.utils import formatdate
from io import FileIO
from typing import TYPE_CHECKING, Any, Final

from .._core.waiting import EagerWaiters
from ..exceptions import ConfigurationError, StreamError
from ..h3._constants import H3Error
from ..h3._exchange import NO_EXCHANGE_EVENTS
from ..server._requests import CLIENT_CLOSED_REQUEST
from ..utils._timing import get_timestamp
from ._errors import AsgiMessageError, ClientDisconnectedError
from ._messages import required, shown
from ._scope import head_of, http_scope
from ._types import Message

if TYPE_CHECKING:
    from ..connection import WebTransportConnection
    from ..h3._exchange import H3Exchange
    from ._application import AsgiServer

__all__ = ["HttpRequest"]

_Lines = list[tuple[bytes, bytes]]

# Largest body of one event, and the pieces in which a file is read.
_CHUNK: Final = 65536
_FILE_PIECE: Final = 262144

_CONTINUE: Final = 100
_EARLY_HINTS: Final = 103
_REQUEST_TIMEOUT: Final = 408
_CONTENT_TOO_LARGE: Final = 413
_INTERNAL_SERVER_ERROR: Final = 500
_SERVICE_UNAVAILABLE: Final = 503
_NO_BODY: Final = frozenset({204, 205, 304})
_EMPTY: Final = (b"content-length", b"0")

# How far the response is.
_NOTHING: Final = 0
_HELD: Final = 1  # its start is there, but not sent
_STARTED: Final = 2
_TRAILERS: Final = 3  # the body is complete; trailers follow
_COMPLETE: Final = 4


class HttpRequest:
    """Runs the application for one request.

    Bytes of the body leave the stream when the application calls ``receive``; only then the client
    may send more. The header of the response is sent with the first piece of its body.

    Args:
        server: The application and its server.
        connection: The connection of the request.
        exchange: The request and its response.
    """

    __slots__ = (
        "_connection",
        "_exchange",
        "_expects_continue",
        "_has_body",
        "_is_answered",
        "_is_gone",
        "_is_read",
        "_lines",
        "_phase",
        "_read",
        "_readers",
        "_server",
        "_started_at",
        "_status",
        "_trailer_lines",
        "_trailers",
        "_writers",
    )

    def __init__(
        self, server: AsgiServer, connection: WebTransportConnection, exchange: H3Exchange
    ) -> None:
        self._server = server
        self._connection = connection
        self._exchange = exchange
        self._started_at = get_timestamp()
        self._expects_continue = head_of(exchange.request).expects_continue
        self._has_body = exchange.request.method != "HEAD"  # the response
        self._is_read = False  # the body, to its end
        self._is_gone = False  # the client, or the request was refused
        self._is_answered = False  # counted and logged
        self._read = 0
        self._phase = _NOTHING
        self._status = _INTERNAL_SERVER_ERROR
        self._lines: _Lines = []
        self._trailers = False  # follow the body
        self._trailer_lines: _Lines | None = None
        self._readers: EagerWaiters | None = None
        self._writers: EagerWaiters | None = None
        exchange.events = self

    async def run(self) -> None:
        """Run the application, and end the request if it did not."""
        server = self._server
        scope = http_scope(server, self._connection, self._exchange)
        try:
            try:
                await server.app(scope, self.receive, self.send)
            except BaseException as error:
                self._raised(scope, error)
            else:
                if self._phase != _COMPLETE and not self._is_gone:
                    server.unfinished(scope)
                    self._give_up(_INTERNAL_SERVER_ERROR, H3Error.INTERNAL_ERROR)
        finally:
            self._exchange.events = NO_EXCHANGE_EVENTS
            server.server.http_requests.ended(self)

    # Events of the exchange.

    def readable(self) -> None:
        """More of the body, or its end, is there."""
        if self._readers is not None:
            self._readers.wake()

    def writable(self) -> None:
        """The stream has room again."""
        if self._writers is not None:
            self._writers.wake()

    def exchange_over(self, error: Exception | None) -> None:
        """Both sides are complete (None), or the client has cancelled the request."""
        if self._phase != _COMPLETE:
            self._is_gone = True
            if not self._exchange.has_responded:
                self._status = CLIENT_CLOSED_REQUEST
            self._answered()
        self._wake()

    # For the application.

    async def receive(self) -> Message:
        """Return the next piece of the body; then wait for the end, ``http.disconnect``."""
        exchange = self._exchange
        requests = self._server.server.http_requests
        while not self._is_over():
            if not self._is_read:
                if self._expects_continue:
                    self._expects_continue = False
                    if exchange.awaits_body and self._phase == _NOTHING:
                        with suppress(StreamError):  # the client is gone: news of it follows
                            exchange.inform(_CONTINUE)
                data = exchange.read(_CHUNK)
                if data is not None:
                    self._read += len(data)
                    requests.received += len(data)
                    self._is_read = exchange.is_complete
                    if requests.max_body is None or self._read <= requests.max_body:
                        return {
                            "type": "http.request",
                            "body": data,
                            "more_body": not self._is_read,
                        }
                    self._give_up(_CONTENT_TOO_LARGE, H3Error.EXCESSIVE_LOAD)
                    break
                if self._is_over():
                    break
            if self._readers is None:
                self._readers = EagerWaiters(asyncio.get_running_loop())
            limit = None if self._is_read else requests.timeout
            if not await self._readers.wait(limit) and not self._is_over():
                self._give_up(_REQUEST_TIMEOUT, H3Error.REQUEST_CANCELLED)
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Take a message of the application.

        Raises:
            ClientDisconnectedError: The client is gone.
            AsgiMessageError: The message is not allowed, or not now.
        """
        kind = required(message, "type")
        if self._is_gone:
            raise _disconnected()
        if kind == "http.response.body":
            await self._send_body(message.get("body", b""), message.get("more_body", False))
        elif kind == "http.response.start":
            self._start(message)
        elif kind == "http.response.trailers":
            self._send_trailers(message)
        elif kind == "http.response.pathsend":
            await self._send_file(required(message, "path"))
        elif kind == "http.response.early_hint":
            self._send_hints(required(message, "links"))
        else:
            raise AsgiMessageError(f"an HTTP request has no message of the type {shown(kind)}")

    # ------------------------------------------------------------------ internal

    def _is_over(self) -> bool:
        return self._is_gone or self._phase == _COMPLETE

    def _start(self, message: Message) -> None:
        if self._phase != _NOTHING:
            raise AsgiMessageError("http.response.start: the response has begun already")
        status = required(message, "status")
        if not isinstance(status, int) or not 200 <= status <= 599:
            raise AsgiMessageError(f"status = {shown(status)}: expected 200 to 599")
        self._lines = response_lines(message.get("headers", ()))
        self._status = int(status)
        self._has_body &= status not in _NO_BODY
        self._trailers = bool(message.get("trailers", False))
        self._phase = _HELD

    async def _send_body(self, data: bytes, more: bool) -> None:
        exchange = self._exchange
        if type(data) is not bytes:
            if not isinstance(data, bytes | bytearray | memoryview):
                raise AsgiMessageError(f"body = {shown(data)}: expected bytes")
            data = bytes(data)
        phase = self._phase
        if phase not in (_HELD, _STARTED):
            why = "the response is complete" if phase else "http.response.start comes first"
            raise AsgiMessageError(f"http.response.body: {why}")
        fin = not more and not self._trailers
        self._phase = _STARTED if more else _TRAILERS if self._trailers else _COMPLETE
        try:
            if phase == _HELD:
                exchange.respond(self._status, self._lines, data, fin)
                self._lines = []
            elif data or fin:
                exchange.send(data, fin)
        except (ConfigurationError, StreamError) as error:
            self._phase = phase
            raise self._refused(error) from error
        if self._has_body:
            self._server.server.http_requests.sent += len(data)
        if fin:
            self._completed()
        elif not self._has_body:
            await asyncio.sleep(0)  # nothing else makes an endless body wait
        elif exchange.is_full and not self._is_gone:
            if self._writers is None:
                self._writers = EagerWaiters(asyncio.get_running_loop())
            limit = self._server.server.http_requests.write_timeout
            if not await self._writers.wait(limit) and not self._is_gone:
                self._give_up(_REQUEST_TIMEOUT, H3Error.REQUEST_CANCELLED)
            if self._is_gone:
                raise _disconnected()

    def _send_trailers(self, message: Message) -> None:
        if self._phase != _TRAILERS:
            raise AsgiMessageError(
                "http.response.trailers: they follow a complete body whose start announced them"
            )
        lines = _pairs(message.get("headers", ()))
        self._trailer_lines = [*(self._trailer_lines or ()), *lines]
        if message.get("more_trailers", False):
            return
        exchange = self._exchange
        self._phase = _COMPLETE
        try:
            if self._trailer_lines and head_of(exchange.request).wants_trailers:
                exchange.send_trailers(self._trailer_lines)
            else:
                exchange.send(b"", True)
        except (ConfigurationError, StreamError) as error:
            self._phase = _TRAILERS
            raise self._refused(error) from error
        self._completed()

    async def _send_file(self, path: str) -> None:
        if self._phase != _HELD:
            raise AsgiMessageError(
                "http.response.pathsend: it follows http.response.start, in place of the body"
            )
        if not os.path.isabs(path):
            raise AsgiMessageError(f"path = {shown(path)}: expected an absolute path")
        run = asyncio.get_running_loop().run_in_executor
        opening = run(None, _open_file, path)
        try:
            file = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_file)
            raise
        try:
            while self._has_body and (piece := await run(None, file.read, _FILE_PIECE)):
                if self._is_gone:
                    raise _disconnected()
                await self._send_body(piece, True)
            if self._is_gone:
                raise _disconnected()
            await self._send_body(b"", False)
        finally:
            await asyncio.shield(run(None, file.close))

    def _send_hints(self, links: Iterable[bytes]) -> None:
        if self._phase != _NOTHING:
            raise AsgiMessageError("http.response.early_hint: the response has begun already")
        lines = _pairs((b"link", link) for link in links)
        try:
            self._exchange.inform(_EARLY_HINTS, lines)
        except (ConfigurationError, StreamError) as error:
            raise self._refused(error) from error

    def _refused(self, error: Exception) -> Exception:
        """What the application gets when a message could not be sent."""
        if self._exchange.is_over or not isinstance(error, ConfigurationError):
            self._is_gone = True
            self._answered()
        if isinstance(error, ConfigurationError):
            return AsgiMessageError(f"the message cannot be sent: {error}")
        return _disconnected()

    def _completed(self) -> None:
        self._answered()
        if self._readers is not None:
            self._readers.wake()

    def _give_up(self, status: int, code: int) -> None:
        """End the request without the application: by a status, or else by a reset."""
        exchange = self._exchange
        self._is_gone = True
        if not exchange.is_over:
            if exchange.has_responded:
                exchange.cancel(code)
            else:
                self._status = status
                try:
                    exchange.respond(status, [_EMPTY, _date_line()], b"", True)
                except StreamError:  # the client is gone, or accepts no header of any size
                    exchange.cancel(code)
        self._answered()
        self._wake()

    def _raised(self, scope: dict[str, Any], error: BaseException) -> None:
        """The application raised; end the request, and raise what ends more than that."""
        try:
            failed = self._server.failed(scope, error)
        except BaseException:
            if not self._is_over():
                self._give_up(_SERVICE_UNAVAILABLE, H3Error.INTERNAL_ERROR)
            raise
        if not self._is_over():
            if not failed:
                self._server.unfinished(scope)
            self._give_up(_INTERNAL_SERVER_ERROR, H3Error.INTERNAL_ERROR)

    def _answered(self) -> None:
        """Count and log the request, once."""
        if not self._is_answered:
            self._is_answered = True
            self._server.server.http_requests.answered(
                self._connection, self._exchange, self._status, self._started_at
            )

    def _wake(self) -> None:
        if self._readers is not None:
            self._readers.wake()
        if self._writers is not None:
            self._writers.wake()


def _open_file(path: str) -> FileIO:
    """Open a file for ``http.response.pathsend``; runs in a thread.

    Raises:
        AsgiMessageError: It is something else, such as a directory or a pipe.
        OSError: It cannot be opened.
    """
    # A pipe that nobody writes to would otherwise keep the thread.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise AsgiMessageError(f"path = {shown(path)}: expected a regular file")
    return FileIO(descriptor)


def _close_file(opening: asyncio.Future[FileIO]) -> None:
    """Close a file that nobody waits for any more."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


def response_lines(headers: Iterable[Iterable[bytes]]) -> _Lines:
    """The lines of a response, with ``date``.

    Raises:
        AsgiMessageError: They are not pairs of bytes.
    """
    lines = _pairs(headers)
    for name, _ in lines:
        if len(name) == 4 and name.lower() == b"date":
            return lines
    lines.append(_date_line())
    return lines


def _pairs(headers: Iterable[Iterable[bytes]]) -> _Lines:
    lines: _Lines = []
    try:
        for name, value in headers:
            if type(name) is not bytes or type(value) is not bytes:
                kinds = f"{type(name).__name__} and {type(value).__name__}"
                raise AsgiMessageError(f"header {shown(name)}: expected bytes, got {kinds}")
            lines.append((name, value))
    except (TypeError, ValueError):
        raise AsgiMessageError("headers: expected pairs of names and values") from None
    return lines


_date_at = 0
_date = (b"date", b"")


def _date_line() -> tuple[bytes, bytes]:
    """The ``date`` field; made once a second."""
    global _date, _date_at
    now = int(time.time())
    if now != _date_at:
        _date_at = now
        _date = (b"date", formatdate(now, usegmt=True).encode())
    return _date


def _disconnected() -> ClientDisconnectedError:
    return ClientDisconnectedError("the client has left, or cancelled the request", remote=True)
