"""Open streams within the limits of both ends, and wait for finished ones."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Hashable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from .._states import SessionState
from ..constants import DEFAULT_STREAM_CREATION_TIMEOUT
from ..exceptions import (
    SessionClosedError,
    SessionError,
    StreamError,
    StreamLimitError,
    TimeoutError,
)
from ..h3._fields import check_fields
from ..utils._checks import NEVER, check_timeout
from ..utils._gates import Gates, TooLate
from ..utils._text import printable
from ..utils._waiters import require_loop, running_loop
from .send_stream import WebTransportSendStream

if TYPE_CHECKING:
    from .._header_map import HeaderMap
    from .._states import HeadersToSend
    from .._transport import Stream
    from .connection import WebTransportConnection
    from .session import WebTransportSession

__all__ = [
    "ReachedLimit",
    "check_answer",
    "credit_grew",
    "may_open",
    "open_now",
    "open_stream",
    "reached_limit",
    "request_delay",
    "require_home",
    "session_over",
    "spare_streams",
    "stream_freed",
    "unanswered",
    "wait_finished_streams",
]

# A limit: of a session or (None) the connection; a local one (None) or the peer's for one kind.
_Key = tuple["WebTransportSession | None", bool | None]
_OWN_CONNECTION: _Key = (None, None)
_OVER = (SessionState.CLOSING, SessionState.CLOSED)
# Their names, by bool(unidirectional).
_OF_CONNECTION = ("MAX_STREAMS_BIDI", "MAX_STREAMS_UNI")
_OF_SESSION = ("WT_MAX_STREAMS_BIDI", "WT_MAX_STREAMS_UNI")
_PEER_CONNECTION: tuple[_Key, _Key] = ((None, False), (None, True))  # by bool(unidirectional)


def check_answer(
    session: WebTransportSession, verb: str, headers: HeadersToSend | None
) -> HeaderMap:
    """Check that a request can still be answered, and check the fields of the answer.

    Args:
        session: The session of the request.
        verb: ``accept`` or ``reject``.
        headers: Fields to send.

    Returns:
        The fields.

    Raises:
        ConfigurationError: A field cannot be sent, or the session belongs to another event loop.
        SessionError: This end is the client, or the request was already answered or withdrawn.
    """
    fields = check_fields({} if headers is None else headers)
    require_home(session)
    if session._h3.is_client:
        raise SessionError(f"only a server can {verb} a session", session_id=session.session_id)
    if session.state is not SessionState.CONNECTING:
        raise SessionError(
            f"cannot {verb}: the session request was answered or withdrawn (state {session.state})",
            session_id=session.session_id,
            session_state=session.state,
        )
    return fields


def require_home(session: WebTransportSession) -> None:
    """Check that a session that has not ended is used on its own event loop.

    Raises:
        ConfigurationError: It belongs to another one.
    """
    if session.close_info is None:
        require_loop(session._loop, running_loop())


def open_now(session: WebTransportSession, unidirectional: bool) -> Stream | None:
    """Open a stream now; return None if it has to wait for a limit, or for its turn."""
    if session._state in _OVER:
        raise session.closed_error("no stream can be opened")
    if session._connection._stream_gates and not may_open(session, unidirectional):
        return None
    quic: Stream | None = session._try_open(unidirectional)
    return quic


async def open_stream(
    session: WebTransportSession, unidirectional: bool, timeout: float | None
) -> Stream:
    """Open a stream, waiting for the limits; callers are served in the order of their calls.

    This applies to all sessions of the connection: nobody overtakes a caller that waits for a
    limit that both need.

    Args:
        session: The session.
        unidirectional: Which kind.
        timeout: Seconds to wait for any limit. None: wait for the peer's limit as the
            configuration says, and do not wait for a local limit.

    Raises: as ``create_bidirectional_stream``.

    Cancellation: safe; no stream is opened.
    """
    wait = _default_wait(session)
    if timeout is not None:
        limit = check_timeout("timeout", timeout)
        wait = NEVER if limit is None else limit
    elif _own_limit(session) is not None:
        raise _limit_reached(session, unidirectional, None, None)
    connection = session._connection
    gates = connection._stream_gates
    if gates is None:
        gates = connection._stream_gates = Gates(session._loop)
    closed = partial(_closed_limit, session, unidirectional)
    try:
        return await gates.wait(
            gates.held(_keys(session, unidirectional)) or closed(),
            session,
            partial(_attempt, session, unidirectional),
            closed,
            wait,
        )
    except TooLate as late:
        raise _limit_reached(session, unidirectional, wait, late) from None


def may_open(session: WebTransportSession, unidirectional: bool) -> bool:
    """No other caller has to be served first."""
    gates = session._connection._stream_gates
    return not gates or gates.held(_keys(session, unidirectional)) is None


def credit_grew(session: WebTransportSession, unidirectional: bool) -> None:
    """The peer allows more streams, for the session or for its connection."""
    gates = session._connection._stream_gates
    if gates:
        gates.open((session, unidirectional))
        gates.open(_PEER_CONNECTION[unidirectional])


def spare_streams(session: WebTransportSession, unidirectional: bool) -> int:
    """Return how many more streams of one kind the session could open now."""
    connection = session._connection
    quic = connection._quic
    if quic is None or session._state in _OVER:
        return 0
    allowed, opened = _session_credit(session, unidirectional)
    left = [
        quic.streams_left(unidirectional),
        connection._max_local_streams - connection._local_streams,
        session._max_streams - session._counted_local,
    ]
    if opened is None:
        return 0
    if allowed is not None:
        left.append(allowed - opened)
    return max(0, min(left))


def session_over(session: WebTransportSession) -> None:
    """No stream is opened any more: wake waiting callers; other sessions may use the room."""
    connection = session._connection
    connection._local_streams -= session._counted_local
    connection._local_uni -= session._counted_uni
    gates = connection._stream_gates
    if gates:
        gates.fail(session, lambda: session.closed_error("no stream can be opened"))
        # This session may have been the next to be told about new credit.
        for key in (_OWN_CONNECTION, *_PEER_CONNECTION):
            gates.open(key)


def stream_freed(session: WebTransportSession) -> None:
    """A stream that this end opened is done: waiting callers may try again."""
    gates = session._connection._stream_gates
    if gates:
        gates.open((session, None))
        gates.open(_OWN_CONNECTION)


def unanswered(session: WebTransportSession, timeout: float) -> TimeoutError:
    """Create the error for a request that got no answer within ``timeout`` seconds."""
    delay = request_delay(session)
    return TimeoutError(
        f"the server did not answer the session request for '{printable(session.path)}' "
        f"within {timeout} s" + ("" if delay is None else f": it was not sent because {delay}"),
        timeout_duration=timeout,
        operation="session",
    )


def request_delay(session: WebTransportSession) -> str | None:
    """Return why a client's session request is not sent yet; None if it is sent."""
    connection = session._connection
    if session.stream_id is not None:
        return None
    if not connection._ready:
        return "the peer's SETTINGS did not arrive"
    return _peer_connection(connection, False).text


async def wait_finished_streams(session: WebTransportSession, deadline: float) -> None:
    """Wait until the peer has acknowledged all finished streams, at most until a deadline."""
    for stream in session.open_streams():
        if not isinstance(stream, WebTransportSendStream):
            continue
        quic = stream._quic
        if not quic.fin_written or quic.is_acked or quic.is_closed:
            continue
        try:
            async with asyncio.timeout_at(deadline):
                await stream.wait_acknowledged()
        except (builtins.TimeoutError, StreamError, SessionClosedError):
            continue


def _default_wait(session: WebTransportSession) -> float:
    return float(
        getattr(session._config, "stream_creation_timeout", DEFAULT_STREAM_CREATION_TIMEOUT)
    )


def _attempt(session: WebTransportSession, unidirectional: bool) -> Stream | None:
    if session.is_closed:
        raise session.closed_error("no stream can be opened")
    quic: Stream | None = session._try_open(unidirectional)
    return quic


# --------------------------------------------------------------------------- which limit


class ReachedLimit(NamedTuple):
    """A limit that is reached, for the error.

    Attributes:
        owner: ``the peer``, or the local limit with its value.
        name: As in the configuration, or in the protocol.
        value: How many streams it allows.
        open: How many open streams of this end count towards it.
        text: A description of all this.
    """

    owner: str
    name: str
    value: int
    open: int
    text: str


def reached_limit(session: WebTransportSession, unidirectional: bool) -> ReachedLimit:
    """Return the limit that prevented the last attempt to open a stream."""
    return _describe(session, unidirectional, _closed_limit(session, unidirectional))


def _keys(session: WebTransportSession, unidirectional: bool) -> tuple[_Key, ...]:
    """Return all limits that apply to a new stream."""
    return (
        (session, None),
        _OWN_CONNECTION,
        (session, unidirectional),
        _PEER_CONNECTION[unidirectional],
    )


def _own_limit(session: WebTransportSession) -> _Key | None:
    """Return the local limit that prevents a new stream, if there is one."""
    connection = session._connection
    if connection._local_streams >= connection._max_local_streams:
        return _OWN_CONNECTION
    if session._counted_local >= session._max_streams:
        return (session, None)
    return None


def _closed_limit(session: WebTransportSession, unidirectional: bool) -> Hashable:
    """Return the key of the limit that prevented the last attempt."""
    own = _own_limit(session)
    if own is not None:
        return own
    allowed, opened = _session_credit(session, unidirectional)
    if opened is None or (allowed is not None and opened >= allowed):
        return (session, unidirectional)
    return _PEER_CONNECTION[unidirectional]


def _session_credit(
    session: WebTransportSession, unidirectional: bool
) -> tuple[int | None, int | None]:
    """Return how many streams the peer allows (None: any number), and how many were opened.

    The second is None before the session is requested.
    """
    facts = session._h3.stats()
    kind = "uni" if unidirectional else "bidi"
    return facts.get(f"send_limit_streams_{kind}"), facts.get(f"streams_opened_{kind}")


def _peer_connection(connection: WebTransportConnection, unidirectional: bool) -> ReachedLimit:
    driver = connection._driver
    value = 0 if driver is None else driver.layer.streams_opened(unidirectional)
    count = connection._local_streams - connection._local_uni
    if unidirectional:
        count = connection._local_uni
    name = _OF_CONNECTION[unidirectional]
    protocol = "QMux" if connection.transport == "websocket" else "QUIC"
    sessions = len(connection._sessions)
    return ReachedLimit(
        "the peer",
        name,
        value,
        count,
        f"its limit for the connection, {protocol} {name}, is {value} streams in total; {count} "
        f"such streams of {sessions} session{'' if sessions == 1 else 's'} are open",
    )


def _describe(session: WebTransportSession, unidirectional: bool, key: Hashable) -> ReachedLimit:
    connection = session._connection
    if key == _OWN_CONNECTION:
        name, value = "max_streams_per_connection", connection._max_local_streams
        count = connection._local_streams
        text = f"{count} streams of the connection are open"
    elif key == (session, None):
        name, value, count = "max_streams", session._max_streams, session._counted_local
        text = f"{count} streams of the session are open"
    elif key == (session, unidirectional):
        allowed, opened = _session_credit(session, unidirectional)
        uni = session._counted_uni
        count = uni if unidirectional else session._counted_local - uni
        name, value = _OF_SESSION[unidirectional], allowed or 0
        text = f"its limit for the session, {name}, is {value} in total; {count} are open"
        if opened is None:
            why = request_delay(session) or "it waits for its turn"
            text = f"the session was not requested yet: {why}"
    else:
        return _peer_connection(connection, unidirectional)
    owner = f"local limit {name}={value}" if name.islower() else "the peer"
    return ReachedLimit(owner, name, value, count, text)


def _limit_reached(
    session: WebTransportSession, unidirectional: bool, waited: float | None, late: TooLate | None
) -> StreamLimitError:
    limit = reached_limit(session, unidirectional)
    details: dict[str, Any] = {
        "limit": limit.name,
        "value": limit.value,
        "open": limit.open,
        "ahead": 0 if late is None else late.ahead,
    }
    before = ""
    if late is not None and late.ahead:
        before = f"; {late.ahead} local callers came before and are waiting, too"
    return StreamLimitError(
        f"stream limit reached: {limit.owner} "
        f"allows no more {'uni' if unidirectional else 'bi'}directional streams"
        f"{'' if waited is None else f', and none was freed within {waited:g} s'}: "
        f"{limit.text}{before}; finish open streams, or raise the limit",
        timeout_duration=waited,
        details=details,
    )
