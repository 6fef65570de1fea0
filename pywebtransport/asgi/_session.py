"""A session for the code of an ASGI application, on our server or on another one."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Self

from .._header_map import HeaderMap
from .._states import SessionCloseInfo
from ..constants import MAX_APPLICATION_CODE
from ..exceptions import ConfigurationError, SessionClosedError, SessionError, invalid_config
from ..session import WebTransportSession
from ..utils._checks import check_integer, check_text
from ..utils._failures import is_normal_end, log_application_error, name_of
from ..utils._params import NO_PATH_PARAMS, PathParams, QueryParams
from ._event_streams import (
    AnyEventStream,
    EventDatagrams,
    EventReceiveStream,
    EventSendStream,
    EventStream,
)
from ._types import Message, Receive, Scope, Send

if TYPE_CHECKING:
    from .._states import HeadersToSend

__all__ = ["Session", "extension_of"]

_SERVED: Final = 100

_logger = logging.getLogger("pywebtransport.asgi")


class Session:
    """The WebTransport session of an ASGI application, with the methods of our own sessions.

    ::

        async def application(scope, receive, send):
            if scope["type"] == "webtransport":
                session = asgi.Session(scope, receive, send)
                await session.accept()
                async for stream in session.incoming_bidirectional_streams():
                    await stream.write_all(await stream.read_all(max_size=65536))

    On our own server you get the ``WebTransportSession`` itself (``scope["extensions"]
    ["webtransport"]["session"]``), so that no byte passes through events. On another server that
    speaks the scope, you get an object that has these methods of it, over the events; there are no
    tasks in the background: whoever waits for something receives the events for all.

    In both cases, do not call ``receive`` and ``send`` yourself afterwards, and await every method
    that can be awaited. ``async with session:`` closes it at the end.
    """

    def __new__(cls, scope: Scope, receive: Receive, send: Send) -> Self:
        kind = scope.get("type")
        if kind != "webtransport":
            raise invalid_config(
                key="scope", value=kind, reason="expected a scope of the type 'webtransport'"
            )
        native = extension_of(scope).get("session")
        if isinstance(native, WebTransportSession):
            return native  # type: ignore[return-value]  # it has all these methods
        return super().__new__(cls)

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Get the session of a scope.

        Args:
            scope: What the application was called with.
            receive: The same.
            send: The same.

        Raises:
            ConfigurationError: The type of the scope is not ``webtransport``.
        """
        self.scope = scope
        self.path_params: PathParams = NO_PATH_PARAMS
        self.datagrams = EventDatagrams(self)
        self._receive = receive
        self._send = send
        self._streams: dict[int, AnyEventStream] = {}
        self._incoming: deque[EventStream | EventReceiveStream] = deque()
        self._opening: dict[int, _Opening] = {}
        self._tags = itertools.count(1)
        self._accepted = self._drained = False
        self._protocol: str | None = None
        self._close_info: SessionCloseInfo | None = None
        self._can_pause = True
        # A task receives events for all that wait; the others have a place and a future.
        self._is_receiving = False
        self._waiting: dict[asyncio.Future[None], object] = {}

    # -------------------------------------------------------------- properties

    @property
    def path(self) -> str:
        """The path of the request, with the query."""
        query = self.scope.get("query_string", b"").decode("latin-1")
        raw = self.scope.get("raw_path")
        path = self.scope["path"] if raw is None else raw.decode("latin-1").partition("?")[0]
        return f"{path}?{query}" if query else str(path)

    @property
    def query_params(self) -> QueryParams:
        """The query of ``path``, decoded."""
        return QueryParams(self.path)

    @property
    def headers(self) -> HeaderMap:
        """The header fields of the request."""
        lines = self.scope.get("headers", ())
        return HeaderMap((n.decode("latin-1"), v.decode("latin-1")) for n, v in lines)

    @property
    def origin(self) -> str | None:
        """``origin`` of the request."""
        return self.headers.get("origin")

    @property
    def offered_protocols(self) -> Sequence[str]:
        """The application protocols that the client offers, in order of preference."""
        return tuple(self.scope.get("subprotocols", ()))

    @property
    def application_protocol(self) -> str | None:
        """The one that ``accept`` chose."""
        return self._protocol

    @property
    def remote_address(self) -> tuple[str, int] | None:
        """The client's address at the time of the request."""
        client = self.scope.get("client")
        return None if client is None else (client[0], client[1])

    @property
    def max_datagram_size(self) -> int:
        """The largest payload of a datagram, as the server told it; 0 if it did not."""
        return int(extension_of(self.scope).get("max_datagram_size") or 0)

    @property
    def is_ready(self) -> bool:
        """The session is accepted and not closed."""
        return self._accepted and self._close_info is None

    @property
    def is_closed(self) -> bool:
        """The session has ended."""
        return self._close_info is not None

    @property
    def close_info(self) -> SessionCloseInfo | None:
        """How the session ended; None while it is open."""
        return self._close_info

    # --------------------------------------------------------------- life cycle

    async def accept(
        self, *, headers: HeadersToSend | None = None, application_protocol: str | None = None
    ) -> None:
        """Answer the request with 200.

        Args:
            headers: Extra response fields.
            application_protocol: One of ``offered_protocols``, or None.

        Raises:
            SessionError: The request was already answered, or the client is gone.
        """
        await self._begin("accept")
        self._accepted, self._protocol = True, application_protocol
        await self.tell(
            {
                "type": "webtransport.accept",
                "headers": _lines(headers),
                "subprotocol": application_protocol,
            }
        )

    async def reject(self, *, status_code: int = 403, headers: HeadersToSend | None = None) -> None:
        """Answer the request with an error status, 400 to 599.

        Raises:
            SessionError: The request was already answered, or the client is gone.
        """
        check_integer("status_code", status_code, 400, 599)
        await self._begin("reject")
        self._end(SessionCloseInfo(None, f"rejected with status {status_code}", remote=False))
        await self._send(
            {
                "type": "webtransport.close",
                "code": status_code,
                "status": status_code,
                "headers": _lines(headers),
            }
        )

    async def close(
        self, *, code: int = 0, reason: str = "", close_connection: bool = True
    ) -> None:
        """End the session. Idempotent.

        Args:
            code: Application code, 0 to 2**32 - 1.
            reason: A string.
            close_connection: Ignored: the server decides.

        Raises:
            ConfigurationError: An argument is wrong; the session stays open.
        """
        check_integer("code", code, 0, MAX_APPLICATION_CODE)
        check_text("reason", reason)
        if self._close_info is None:
            self._end(SessionCloseInfo(code, reason, remote=False))
            try:
                await self._send({"type": "webtransport.close", "code": code, "reason": reason})
            except OSError:
                return  # the client was faster

    async def wait_closed(self) -> SessionCloseInfo:
        """Wait until the session has ended, and return how. Cancellation: safe."""
        await self.until(lambda: False, self)
        assert self._close_info is not None
        return self._close_info

    async def wait_draining(self) -> bool:
        """Wait until the end of the session is asked for; False if it ended first."""
        await self.until(lambda: self._drained, self)
        return self._drained and self._close_info is None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        await self.close(code=0 if error is None else 1)

    # ------------------------------------------------------------------ streams

    async def create_bidirectional_stream(self, *, send_order: int = 0) -> EventStream:
        """Open a stream that both ends send on, waiting for credit as the server does.

        Raises:
            SessionClosedError: The session has ended.

        Cancellation: the stream may be opened, but is then reset.
        """
        stream = await self._open(EventStream, send_order)
        assert isinstance(stream, EventStream)
        return stream

    async def create_unidirectional_stream(self, *, send_order: int = 0) -> EventSendStream:
        """Open a stream that only this end sends on; else as ``create_bidirectional_stream``."""
        return await self._open(EventSendStream, send_order)

    def incoming_streams(self) -> AsyncIterator[EventStream | EventReceiveStream]:
        """Iterate over the streams that the peer opens, until the session ends.

        A stream comes when its first bytes do, since the scope has no event for its beginning.
        """
        return _Incoming(self, _is_any)

    def incoming_bidirectional_streams(self) -> AsyncIterator[EventStream]:
        """As ``incoming_streams``, but only bidirectional streams."""
        return _Incoming(self, _is_bidirectional)

    def incoming_unidirectional_streams(self) -> AsyncIterator[EventReceiveStream]:
        """As ``incoming_streams``, but only unidirectional streams."""
        return _Incoming(self, _is_unidirectional)

    async def serve_streams(
        self,
        handler: Callable[[Any], Awaitable[object]],
        *,
        unidirectional: bool = False,
        max_concurrent: int = _SERVED,
        error_code: int = 1,
    ) -> None:
        """Start a handler for each stream that the peer opens, until the session ends.

        When a handler returns, its stream is finished. When it raises, this is logged, and the
        stream is reset and stopped; the others go on.

        Args:
            handler: ``async def handler(stream)``.
            unidirectional: Serve unidirectional streams instead of bidirectional ones.
            max_concurrent: How many handlers may run at the same time.
            error_code: For streams whose handler failed.

        Cancellation: all handlers are cancelled, and waited for.
        """
        check_integer("max_concurrent", max_concurrent, 1, 1 << 20)
        check_integer("error_code", error_code, 0, MAX_APPLICATION_CODE)
        room = asyncio.Semaphore(max_concurrent)
        fits = _is_unidirectional if unidirectional else _is_bidirectional

        async def serve(stream: EventStream | EventReceiveStream) -> None:
            try:
                await handler(stream)
                await stream.end()
            except Exception as error:
                if not (self.is_closed and is_normal_end(error)):
                    what = f"stream handler {name_of(handler)}"
                    log_application_error(_logger, what, error)
                    with suppress(SessionClosedError):
                        await stream.abort(error_code)
            finally:
                room.release()

        async with asyncio.TaskGroup() as group:
            while True:
                await room.acquire()
                stream = await self.next_stream(fits)
                if stream is None:
                    return
                group.create_task(serve(stream))

    # --------------------------------------------- for its streams and datagrams

    async def tell(self, message: Message) -> None:
        """Send a message.

        Raises:
            SessionClosedError: The session has ended.
        """
        if self._close_info is not None:
            raise self.closed_error("nothing more can be sent")
        try:
            await self._send(message)
        except ConfigurationError:
            raise
        except OSError as error:
            raise self.closed_error("nothing more can be sent") from error

    async def until(self, ready: Callable[[], bool], place: object) -> None:
        """Wait until a condition holds or the session ends.

        Args:
            ready: The condition.
            place: What it depends on; see ``wake``.

        Cancellation: safe, if that of ``receive`` of the server is.
        """
        while not (ready() or self._close_info is not None):
            if self._is_receiving:
                await self._wait(place)
                continue
            self._is_receiving = True
            try:
                while not (ready() or self._close_info is not None):
                    await self._take(await self._receive())
            finally:
                self._is_receiving = False
                self._hand_over()

    def wake(self, place: object) -> None:
        """Let those that wait at a place look again."""
        for future, where in self._waiting.items():
            if where is place and not future.done():
                future.set_result(None)

    async def next_stream(
        self, fits: Callable[[object], bool]
    ) -> EventStream | EventReceiveStream | None:
        """Take the first stream of the peer that fits; None: the session has ended."""
        await self.until(lambda: any(map(fits, self._incoming)), self._incoming)
        stream = next(filter(fits, self._incoming), None)
        if stream is not None:
            self._incoming.remove(stream)
        return stream

    def settle(self, stream: AnyEventStream) -> None:
        """Forget a stream if no event can come for it."""
        if stream.is_over():
            self._streams.pop(stream.stream_id, None)

    async def pause_or_resume(self, stream: EventReceiveStream, verb: str) -> None:
        """Ask the server to leave the data of a stream where it is, or to go on."""
        if not self._can_pause or self._close_info is not None:
            return
        try:
            await self._send({"type": f"webtransport.stream.{verb}", "stream": stream.stream_id})
        except OSError:
            return  # the end of the session is the next event
        except Exception:  # of a server that does not know this message
            self._can_pause = False

    def closed_error(self, consequence: str) -> SessionClosedError:
        """Create the error for a call that the end of the session made impossible."""
        info = self._close_info
        if info is None:
            return SessionClosedError(f"the session has ended: {consequence}")
        who = "the peer" if info.remote else "this side"
        return SessionClosedError(
            f"{who} closed the session: {consequence}",
            code=info.code,
            reason=info.reason,
            remote=info.remote,
        )

    # ------------------------------------------------------------------ internal

    async def _begin(self, verb: str) -> None:
        if self._accepted or self._close_info is not None:
            raise SessionError(f"cannot {verb}: the session request was answered or withdrawn")
        event = await self._receive()
        if event["type"] != "webtransport.connect":
            await self._take(event)
            raise SessionError(f"cannot {verb}: the client is gone")

    async def _wait(self, place: object) -> None:
        future = asyncio.get_running_loop().create_future()
        self._waiting[future] = place
        try:
            await future
        except BaseException:
            if not self._is_receiving:
                del self._waiting[future]
                self._hand_over()
            raise
        finally:
            self._waiting.pop(future, None)

    def _hand_over(self) -> None:
        """Another task that waits receives the events from now on."""
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
                return

    def _end(self, info: SessionCloseInfo) -> None:
        if self._close_info is None:
            self._close_info = info
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    async def _take(self, event: Message) -> None:
        """Give an event to whom it concerns."""
        kind = event["type"].removeprefix("webtransport.")
        if kind == "disconnect":
            code = event.get("code")
            self._end(SessionCloseInfo(code, event.get("reason") or "", remote=True))
        elif kind == "datagram.receive":
            self.datagrams.received(event["data"])
            self.wake(self.datagrams)
        elif kind == "drain":
            self._drained = True
            self.wake(self)
        elif kind == "stream.opened":
            await self._opened(event)
        elif kind == "stream.receive":
            stream = self._stream_of(event)
            if isinstance(stream, EventReceiveStream):
                is_end = event.get("end_stream", not event.get("more_data", True))
                if stream.received(event.get("data", b""), is_end):
                    await self.pause_or_resume(stream, "pause")
                self.wake(stream)
                self.settle(stream)
        elif kind == "stream.reset":
            stream = self._stream_of(event)
            if isinstance(stream, EventReceiveStream):
                stream.was_reset(event.get("code"))
                self.wake(stream)
                self.settle(stream)
        elif kind == "stream.stop_sending":
            stopped = self._streams.get(event["stream"])
            if isinstance(stopped, EventSendStream):
                stopped.was_stopped(event.get("code"))
                self.settle(stopped)

    def _stream_of(self, event: Message) -> AnyEventStream:
        stream_id = event["stream"]
        stream = self._streams.get(stream_id)
        if stream is None:
            # RFC 9000 section 2.1: the second bit of the ID.
            is_bidirectional = event.get("bidirectional", not stream_id & 2)
            made = (EventStream if is_bidirectional else EventReceiveStream)(self, stream_id)
            stream = self._streams[stream_id] = made
            self._incoming.append(made)
            self.wake(self._incoming)
        return stream

    async def _open(
        self, kind: type[EventStream | EventSendStream], send_order: int
    ) -> EventStream | EventSendStream:
        tag = next(self._tags)
        opening = self._opening[tag] = _Opening(kind)
        bidirectional = kind is EventStream
        try:
            await self.tell(
                {
                    "type": "webtransport.stream.open",
                    "bidirectional": bidirectional,
                    "send_order": send_order,
                    "tag": tag,
                }
            )
            await self.until(lambda: opening.stream is not None, opening)
        except BaseException:
            opening.is_abandoned = True
            if opening.stream is not None:
                await opening.stream.abort()
            raise
        if opening.stream is None:
            raise self.closed_error("no stream can be opened")
        return opening.stream

    async def _opened(self, event: Message) -> None:
        tag = event.get("tag")
        if tag not in self._opening:
            # A server without tags answers in order; it may tell the kind.
            wanted = event.get("bidirectional")
            tags = [
                tag
                for tag, opening in self._opening.items()
                if wanted is None or (opening.kind is EventStream) == wanted
            ]
            if not tags:
                return
            tag = tags[0]
        opening = self._opening.pop(tag)
        stream = self._streams[event["stream"]] = opening.kind(self, event["stream"])
        if opening.is_abandoned:
            await stream.abort()
        opening.stream = stream
        self.wake(opening)


class _Opening:
    """A stream that was asked for.

    Args:
        kind: Its class.
    """

    def __init__(self, kind: type[EventStream | EventSendStream]) -> None:
        self.kind = kind
        self.stream: EventStream | EventSendStream | None = None
        self.is_abandoned = False


class _Incoming(AsyncIterator[Any]):
    """Iterates over streams of the peer.

    Args:
        session: Their session.
        fits: Tells which ones.
    """

    def __init__(self, session: Session, fits: Callable[[object], bool]) -> None:
        self._session = session
        self._fits = fits

    async def __anext__(self) -> Any:
        stream = await self._session.next_stream(self._fits)
        if stream is None:
            raise StopAsyncIteration
        return stream


def extension_of(scope: Scope) -> Mapping[str, Any]:
    """What the server says of WebTransport in a scope; empty if that is nothing."""
    extension = (scope.get("extensions") or {}).get("webtransport")
    return extension if isinstance(extension, Mapping) else {}


def _lines(headers: HeadersToSend | None) -> list[tuple[bytes, bytes]]:
    lines = HeaderMap.of(headers or {}).lines
    return [(name.lower().encode("ascii"), value.encode("latin-1")) for name, value in lines]


def _is_any(stream: object) -> bool:
    return True


def _is_bidirectional(stream: object) -> bool:
    return isinstance(stream, EventStream)


def _is_unidirectional(stream: object) -> bool:
    return not isinstance(stream, EventStream)
