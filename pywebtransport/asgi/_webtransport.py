"""The ``webtransport`` scope: a session as events for an ASGI application."""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

from .._core.arrivals import Arrival, ArrivalKind, Arrivals, OpenStream
from .._header_map import HeaderMap
from ..constants import MAX_APPLICATION_CODE
from ..exceptions import (
    ConfigurationError,
    ConnectionError,
    DatagramArgumentError,
    DatagramError,
    DatagramTooLargeError,
    SessionClosedError,
    SessionError,
    StreamError,
    StreamStoppedError,
    invalid_config,
)
from ..stream import WebTransportReceiveStream, WebTransportSendStream
from ..utils._checks import check_data, check_instance, check_integer, check_text
from ..utils._text import printable
from ._errors import AsgiMessageError, ClientDisconnectedError
from ._scope import webtransport_scope
from ._types import Message

if TYPE_CHECKING:
    from ..session import WebTransportSession
    from ._application import AsgiServer

__all__ = ["run_session"]

_MAX_REASON: Final = 1024
"""Bytes of UTF-8 (draft-ietf-webtrans-http3 section 5)."""
_FORBIDDEN = 403
_INTERNAL_SERVER_ERROR = 500
_REMEMBERED: Final = 256
"""Streams of each of the four kinds that are remembered after their end."""

_T = TypeVar("_T")


async def run_session(server: AsgiServer, session: WebTransportSession) -> None:
    """Run the application for a session, from the request to the end.

    The application gets events and sends messages as docs/reference/asgi.md describes. If it
    returns, the session is closed with code 0, or refused with 403 if it was not accepted. If it
    raises an exception, the session is closed with code 1, or refused with 500.

    Args:
        server: The application on its server.
        session: The session, which was not answered yet.

    Cancellation: cancels the application; the session is left to the caller.
    """
    events = _SessionEvents(session)
    try:
        scope = webtransport_scope(server, session)
        succeeded = await server.call(
            scope, events.receive, events.send, knows_scope=events.is_understood
        )
        if succeeded and events.misled is not None and session.state == "connecting":
            # The application has swallowed the error, and would leave the client without a reason.
            server.failed(scope, events.misled, knows_scope=False)
            succeeded = False
        if session.state == "connecting":
            session.rejection_reason = "the application did not accept it"
            if not succeeded:
                session.rejection_reason = "the application failed"
            session.reject(status_code=_FORBIDDEN if succeeded else _INTERNAL_SERVER_ERROR)
        elif succeeded:
            await session.close(close_connection=False)
        else:
            await session.close(code=1, reason="internal error", close_connection=False)
    finally:
        events.close()


class _SessionEvents:
    """The two functions that the application gets, over one session.

    Args:
        session: The session.

    Attributes:
        misled: The error for a message of another scope that the application sent.
    """

    def __init__(self, session: WebTransportSession) -> None:
        self.misled: AsgiMessageError | None = None
        self._session = session
        self._arrivals: Arrivals | None = None
        # Streams that the application opened, and may not know yet.
        self._opened: list[Message] = []
        self._past = _PastStreams()
        self._is_connect_told = False
        self._is_closing = False
        self._is_receiving = False

    def is_understood(self) -> bool:
        """Whether the application seems to know this scope."""
        return self.misled is None and (self._is_connect_told or self._is_accepted)

    @property
    def _is_accepted(self) -> bool:
        return self._session.ready_at is not None

    def close(self) -> None:
        """The application has ended."""
        self.misled = None  # its traceback refers to this object
        if self._arrivals is not None:
            self._arrivals.close()

    # ------------------------------------------------------------------- receive

    async def receive(self) -> Message:
        """Return the next event.

        Raises:
            AsgiMessageError: Another task is waiting for an event.

        Cancellation: safe, no event is lost.
        """
        if not self._is_connect_told:
            self._is_connect_told = True
            return {"type": "webtransport.connect"}
        if self._is_receiving:
            raise AsgiMessageError(
                "another task of the application waits in receive(); call it in one task only"
            )
        self._is_receiving = True
        try:
            arrivals = self._pull()
            if arrivals.is_long():
                await arrivals.give_turn()
            while not (self._is_accepted or self._session.is_closed):
                await arrivals.wait()  # for another task, which may accept it, or for the client
            while not self._is_closing:
                if self._opened:
                    return self._opened.pop(0)
                arrival = arrivals.take()
                if arrival is None:
                    await arrivals.wait()
                elif arrival.kind is ArrivalKind.END:
                    break
                else:
                    return self._event(arrival)
            info = self._session.close_info or await self._session.wait_closed()
            return {"type": "webtransport.disconnect", "code": info.code, "reason": info.reason}
        finally:
            self._is_receiving = False

    def _pull(self) -> Arrivals:
        if self._arrivals is None:
            self._arrivals = Arrivals(self._session)
        return self._arrivals

    def _event(self, arrival: Arrival) -> Message:
        entry = arrival.stream
        if entry is None:
            if arrival.kind is ArrivalKind.DATAGRAM:
                return {"type": "webtransport.datagram.receive", "data": arrival.data}
            return {"type": "webtransport.drain"}
        if not entry.receives:
            self._settle(entry)
        if arrival.kind is ArrivalKind.DATA:
            return {
                "type": "webtransport.stream.receive",
                "stream": entry.stream_id,
                "data": arrival.data,
                "end_stream": arrival.is_end,
                "more_data": not arrival.is_end,
                "bidirectional": entry.is_bidirectional,
            }
        name = "reset" if arrival.kind is ArrivalKind.RESET else "stop_sending"
        return {
            "type": f"webtransport.stream.{name}",
            "stream": entry.stream_id,
            "code": arrival.code,
        }

    # ---------------------------------------------------------------------- send

    async def send(self, message: Message) -> None:
        """Take a message of the application.

        Raises:
            ClientDisconnectedError: The session has ended.
            AsgiMessageError: The message is not allowed, or not at this time.
            ConfigurationError: A field of the message is wrong.

        Cancellation: as of the method of the session or stream that the message stands for.
        """
        kind = message.get("type") if isinstance(message, Mapping) else None
        if not isinstance(kind, str):
            raise AsgiMessageError(
                "expected a dictionary with the key 'type', such as {'type': 'webtransport.accept'}"
            )
        sender = _SENDERS.get(kind)
        if sender is None:
            raise self._unknown(kind)
        if self._session.is_closed or self._is_closing:
            raise self._disconnected()
        if not self._is_accepted and kind not in ("webtransport.accept", "webtransport.close"):
            raise AsgiMessageError(
                f"{kind} before webtransport.accept: the session is not open yet"
            )
        try:
            await sender(self, message)
        except ClientDisconnectedError:
            raise
        except (SessionClosedError, ConnectionError) as error:
            raise self._disconnected() from error

    async def _accept(self, message: Message) -> None:
        if self._is_accepted:
            raise AsgiMessageError("webtransport.accept was sent already")
        headers = _header_map(message.get("headers"))
        subprotocol = message.get("subprotocol")
        try:
            self._session.accept(headers=headers, application_protocol=subprotocol)
        except SessionError as error:
            if self._session.is_closed:
                raise self._disconnected() from error
            raise
        if self._arrivals is not None:
            self._arrivals.wake()

    async def _close(self, message: Message) -> None:
        code, reason = message.get("code"), message.get("reason")
        code = 0 if code is None else code
        reason = "" if reason is None else reason
        if not self._is_accepted:
            status = message.get("status")
            if status is None:
                is_status = isinstance(code, int) and 400 <= code <= 599
                status = code if is_status else _FORBIDDEN
            headers = _header_map(message.get("headers"))
            self._session.rejection_reason = "the application refused it"
            self._session.reject(status_code=status, headers=headers)
            return
        check_text("reason", reason)
        if len(reason.encode("utf-8", "surrogatepass")) > _MAX_REASON:
            raise invalid_config(
                key="reason", value=reason, reason=f"expected at most {_MAX_REASON} bytes of UTF-8"
            )
        closing = self._session.close(code=code, reason=reason, close_connection=False)
        self._is_closing = True
        try:
            await closing
        except ConfigurationError:
            self._is_closing = False
            raise
        finally:
            if self._arrivals is not None:
                self._arrivals.wake()

    async def _send_stream(self, message: Message) -> None:
        data = _data(message)
        is_end = _flag(message, "end_stream", False)
        entry = self._find(message, WebTransportSendStream)
        if entry is None or not entry.sends:
            was_finished = self._past.is_finished(message["stream"])
            if entry is not None:
                was_finished = not entry.is_cut
            if was_finished and (len(data) or not is_end):  # finishing twice is no mistake
                raise _finished(message["stream"])
            return  # an event tells that the peer has stopped the stream, or a reset was sent
        stream = _of(entry, WebTransportSendStream)
        try:
            await stream.write(data, end_stream=is_end)
        except StreamStoppedError:
            return  # the event comes
        except StreamError as error:
            if not entry.is_cut:
                raise AsgiMessageError(str(error)) from error
        finally:
            if is_end and entry.sends and not stream.is_writable:
                entry.sends = False
                self._settle(entry)

    async def _open_stream(self, message: Message) -> None:
        bidirectional = _flag(message, "bidirectional", True)
        order = message.get("send_order", 0)
        session = self._session
        stream: WebTransportSendStream
        if bidirectional:
            stream = await session.create_bidirectional_stream(timeout=math.inf, send_order=order)
        else:
            stream = await session.create_unidirectional_stream(timeout=math.inf, send_order=order)
        arrivals = self._pull()
        entry = arrivals.add(stream)
        self._opened.append(
            {
                "type": "webtransport.stream.opened",
                "stream": entry.stream_id,
                "bidirectional": bidirectional,
                "tag": message.get("tag"),
            }
        )
        arrivals.wake()

    async def _reset_stream(self, message: Message) -> None:
        entry = self._find(message, WebTransportSendStream)
        code = _code(message)
        if entry is not None and entry.sends:
            _of(entry, WebTransportSendStream).reset(code)
            entry.sends, entry.is_cut = False, True
            self._settle(entry)

    async def _stop_stream(self, message: Message) -> None:
        entry = self._find(message, WebTransportReceiveStream)
        code = _code(message)
        if entry is not None and entry.receives:
            _of(entry, WebTransportReceiveStream).stop_sending(code)
            entry.receives = False
            self._settle(entry)

    async def _prioritize_stream(self, message: Message) -> None:
        entry = self._find(message, WebTransportSendStream)
        if entry is not None:
            _of(entry, WebTransportSendStream).send_order = message.get("send_order", 0)

    async def _pause_stream(self, message: Message) -> None:
        entry = self._find(message, WebTransportReceiveStream)
        if entry is not None:
            self._pull().pause(entry)

    async def _resume_stream(self, message: Message) -> None:
        entry = self._find(message, WebTransportReceiveStream)
        if entry is not None:
            self._pull().resume(entry)

    async def _send_datagram(self, message: Message) -> None:
        data = _data(message)
        priority = message.get("priority", 0)
        try:
            await self._session.datagrams.send(data, priority=priority, ttl=message.get("ttl"))
        except DatagramTooLargeError as error:
            raise DatagramArgumentError(
                str(error), datagram_size=error.datagram_size, max_size=error.max_size
            ) from error
        except DatagramArgumentError:
            raise
        except DatagramError as error:
            raise AsgiMessageError(str(error)) from error

    # ------------------------------------------------------------------ internal

    def _find(self, message: Message, half: type) -> OpenStream | None:
        """Find the stream of a message; return None if both of its halves are over.

        Raises:
            AsgiMessageError: There is no such stream, or it has not this half.
        """
        stream_id = message.get("stream")
        if stream_id.__class__ is not int:
            raise invalid_config(key="stream", value=stream_id, reason="expected the ID, an int")
        entry = self._pull().streams.get(stream_id)
        if entry is None:
            if stream_id not in self._past:
                raise AsgiMessageError(f"{message['type']}: there is no stream {stream_id}")
        elif not isinstance(entry.stream, half):
            what = "sends" if half is WebTransportReceiveStream else "receives"
            raise AsgiMessageError(
                f"{message['type']}: stream {stream_id} is unidirectional, and this end only {what}"
            )
        return entry

    def _settle(self, entry: OpenStream) -> None:
        if self._pull().settle(entry):
            self._past.add(entry.stream_id, is_finished=not entry.is_cut)

    def _unknown(self, kind: str) -> AsgiMessageError:
        name = printable(kind)
        if kind.startswith(("websocket.", "http.")):
            self.misled = AsgiMessageError(
                f"the application answered a scope of the type 'webtransport' with {name}"
            )
            return self.misled
        return AsgiMessageError(f"a WebTransport session has no message of the type '{name}'")

    def _disconnected(self) -> ClientDisconnectedError:
        error = self._session.closed_error("nothing more can be sent")
        return ClientDisconnectedError(str(error), reason=error.reason, remote=error.remote)


_SENDERS: Final[dict[str, Callable[[_SessionEvents, Message], Coroutine[Any, Any, None]]]] = {
    f"webtransport.{name}": sender
    for name, sender in {
        "stream.send": _SessionEvents._send_stream,
        "datagram.send": _SessionEvents._send_datagram,
        "stream.open": _SessionEvents._open_stream,
        "stream.reset": _SessionEvents._reset_stream,
        "stream.stop_sending": _SessionEvents._stop_stream,
        "stream.stop_receiving": _SessionEvents._stop_stream,
        "stream.priority": _SessionEvents._prioritize_stream,
        "stream.pause": _SessionEvents._pause_stream,
        "stream.resume": _SessionEvents._resume_stream,
        "accept": _SessionEvents._accept,
        "close": _SessionEvents._close,
    }.items()
}


class _PastStreams:
    """Streams that have ended; the oldest are forgotten.

    Messages for them are ignored, because the application may not know of the end yet. Those that
    it has finished itself stay apart: to send on one is its mistake.
    """

    __slots__ = ("_finished", "_forgotten")

    def __init__(self) -> None:
        # For each of the four kinds of IDs: whether a stream was finished, by ID, and the highest
        # ID of one that was forgotten.
        self._finished: dict[int, dict[int, bool]] = {}
        self._forgotten = [-1, -1, -1, -1]

    def add(self, stream_id: int, *, is_finished: bool) -> None:
        """A stream has ended."""
        kind = stream_id & 3
        known = self._finished.setdefault(kind, {})
        known[stream_id] = is_finished
        if len(known) > _REMEMBERED:
            oldest = next(iter(known))
            del known[oldest]
            self._forgotten[kind] = max(self._forgotten[kind], oldest)

    def __contains__(self, stream_id: int) -> bool:
        """Whether there was such a stream, as far as is known."""
        kind = stream_id & 3
        return stream_id in self._finished.get(kind, ()) or 0 <= stream_id <= self._forgotten[kind]

    def is_finished(self, stream_id: int) -> bool:
        """Whether the application has finished it, as far as is known."""
        return self._finished.get(stream_id & 3, {}).get(stream_id, False)


def _of(entry: OpenStream, half: type[_T]) -> _T:
    stream = entry.stream
    assert isinstance(stream, half)
    return stream


def _finished(stream_id: int) -> AsgiMessageError:
    return AsgiMessageError(f"stream {stream_id} was finished: nothing more can be sent on it")


def _data(message: Message) -> bytes | memoryview:
    data = message.get("data", b"")
    if isinstance(data, bytes):
        return data
    if isinstance(data, str):
        raise invalid_config(key="data", value=data, reason="expected bytes, not a string")
    return check_data("data", data)


def _flag(message: Message, name: str, default: bool) -> bool:
    value = message.get(name, default)
    check_instance(name, value, bool)
    return bool(value)


def _code(message: Message) -> int:
    code = message.get("code", 0)
    check_integer("code", code, 0, MAX_APPLICATION_CODE)
    return int(code)


def _header_map(headers: Any) -> HeaderMap:
    """The header fields of a message: pairs of bytes."""
    try:
        lines = [(name, value) for name, value in headers or ()]
    except (TypeError, ValueError):
        lines = [(None, None)]
    if not all(isinstance(part, bytes) for line in lines for part in line):
        # The message shows no value: it may be a credential.
        raise invalid_config(key="headers", value=None, reason="expected a list of pairs of bytes")
    return HeaderMap((name.decode("latin-1"), value.decode("latin-1")) for name, value in lines)
