"""How a session may be ended, and the errors that tell how it was."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING
from weakref import ref

from ..config import ServerConfig
from ..connection.farewell import before
from ..constants import MAX_APPLICATION_CODE
from ..exceptions import (
    ClientError,
    SessionClosedError,
    SessionError,
    SessionRejectedError,
    StreamError,
)
from ..h3.error_codes import code_to_wire
from ..types import SessionState
from ..utils.checks import check_integer, check_text
from ..utils.text import printable
from ..utils.turns import Turns, for_each
from ..utils.waiters import require_loop, running_loop
from .opening import wait_finished_streams

if TYPE_CHECKING:
    from ..stream._base import _StreamBase
    from .session import WebTransportSession, _AnyStream

__all__ = [
    "check_ending",
    "close_until",
    "closed_error",
    "end_streams",
    "refusal",
    "require_home",
    "stream_code_to_wire",
]


def check_ending(session: WebTransportSession, code: int, reason: str) -> None:
    """Check what ``close`` is given.

    Raises:
        SessionError: The code is out of range.
        ConfigurationError: The code is no whole number, or the reason no text; or the session
            belongs to another event loop.
    """
    check_integer("code", code, -sys.maxsize, sys.maxsize)
    check_text("reason", reason)
    if not 0 <= code <= MAX_APPLICATION_CODE:
        raise SessionError(
            f"close code must be 0 to {MAX_APPLICATION_CODE}, got {code}",
            session_id=session.session_id,
        )
    require_home(session)


async def close_until(
    session: WebTransportSession,
    deadline: float,
    code: int,
    reason: str,
    close_connection: bool = False,
) -> None:
    """As ``WebTransportSession.close``, until a time that may be that of a larger whole.

    Args:
        session: Which.
        deadline: By the clock of its loop.
        code: As for ``close``.
        reason: Likewise.
        close_connection: Likewise.

    Cancellation: as of ``close``.
    """
    connection = session._connection
    session._tell_end()
    if session._state is SessionState.CLOSED:
        if close_connection:
            await connection._session_gone(deadline)
        return
    if session._state is SessionState.CLOSING:
        await session.wait_closed()
        return
    was_ready = session.is_ready
    session._state = SessionState.CLOSING
    try:
        if was_ready:
            last = close_connection and not isinstance(session._config, ServerConfig)
            await wait_finished_streams(session, before(deadline) if last else deadline)
    except BaseException:
        session._close_now(code, reason)
        if close_connection:
            connection._close_later()
        raise
    session._close_now(code, reason)
    if close_connection:
        await connection._session_gone(deadline)


def end_streams(session: WebTransportSession) -> None:
    """The session is over, and its streams are: wake who waits for one, some in each turn."""
    orphans = session._orphans
    held: set[_StreamBase] = set()
    if orphans is not None:
        orphans.settle()
        held = orphans.clear()
    streams, session._streams = session._streams, {}
    turns = Turns.of(session._loop)
    for_each(turns, streams.values(), partial(_end_stream, turns), held.clear)


def _end_stream(turns: Turns, reference: ref[_AnyStream]) -> None:
    stream = reference()
    if stream is None:
        return
    quic = stream._quic
    if stream._arrival and not quic.fin_received:
        # Nobody took it: what did not come whole is worth nothing. It and the session hold each
        # other, so that its bytes would stay until the garbage collector comes by.
        quic.skip(quic.buffered)
    if stream._has_waiter():
        turns.woke()
        stream._wake()
    stream._check_done()


def stream_code_to_wire(code: int) -> int:
    """Check the code an application ends a stream with, and map it to the wire's.

    Raises:
        StreamError: The code is out of range.
        ConfigurationError: It is no whole number.
    """
    # The exact type first: this runs for every reset and stop.
    if code.__class__ is not int or not 0 <= code <= MAX_APPLICATION_CODE:
        check_integer("code", code, -sys.maxsize, sys.maxsize)
        if not 0 <= code <= MAX_APPLICATION_CODE:
            raise StreamError(f"error code must be 0 to {MAX_APPLICATION_CODE}, got {code}")
    return code_to_wire(code)


def require_home(session: WebTransportSession) -> None:
    """Check that a session, unless it is over, is used on its own event loop.

    Raises:
        ConfigurationError: It belongs to another one.
    """
    if session.close_info is None:
        require_loop(session._loop, running_loop())


def closed_error(session: WebTransportSession, consequence: str) -> SessionClosedError:
    """The typed error for whatever the end of the session made impossible."""
    info = session.close_info
    if info is None:
        return SessionClosedError(
            f"the session is {session.state}: {consequence}",
            session_id=session.session_id,
            session_state=session.state,
        )
    who = "the peer" if info.remote else "this side"
    what = "abruptly" if info.code is None else f"with code {info.code}"
    cause = info.reason or ("" if info.code is not None else session._error)
    text = f" ({cause})" if cause else ""
    return SessionClosedError(
        f"{who} closed the session {what}{text}: {consequence}",
        code=info.code,
        reason=info.reason,
        remote=info.remote,
        session_id=session.session_id,
        session_state=session.state,
    )


def refusal(
    session: WebTransportSession,
    status: int | None,
    headers: Mapping[str, str],
    error: Exception | None,
) -> Exception:
    """Client: the error for a session that was not opened.

    Args:
        session: Which.
        status: Of the response, if there was one.
        headers: Likewise.
        error: What the HTTP/3 layer says.
    """
    url = f"https://{session.authority}{session.path}"
    if error is None:
        return SessionRejectedError(
            status_code=status or 0, headers=headers, target_url=url, remote=True
        )
    if type(error) is SessionError:
        return ClientError(
            f"the server did not open the session {printable(url)}: {error.message}",
            error_code=error.error_code,
            target_url=url,
            remote=error.remote,
        )
    return error
