"""How a session ends, and the errors that say how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING
from weakref import ref

from .._states import EventType, SessionCloseInfo, SessionState
from ..config import ServerConfig
from ..constants import MAX_APPLICATION_CODE
from ..exceptions import (
    ClientError,
    ConnectionError,
    SessionArgumentError,
    SessionClosedError,
    SessionError,
    SessionRejectedError,
    StreamArgumentError,
)
from ..utils._checks import check_text, check_whole
from ..utils._text import printable
from ..utils._timing import get_timestamp
from ..utils._turns import Turns, for_each
from . import story
from .closing import before
from .opening import require_home, session_over, wait_finished_streams

if TYPE_CHECKING:
    from .session import WebTransportSession, _AnyStream
    from .stream_base import _StreamBase

__all__ = [
    "check_ending",
    "close_until",
    "closed_error",
    "end",
    "failure",
    "refusal",
    "stream_code_to_wire",
]


def check_ending(session: WebTransportSession, code: int, reason: str) -> None:
    """Check the arguments of ``close``.

    Raises:
        ConfigurationError: The code is out of range or not a number, the reason is not a string,
            or the session belongs to another event loop.
    """
    check_whole("code", code, 0, MAX_APPLICATION_CODE)
    check_text("reason", reason)
    if not 0 <= code <= MAX_APPLICATION_CODE:
        raise SessionArgumentError(
            f"close code must be 0 to {MAX_APPLICATION_CODE}, got {code}",
            config_key="code",
            config_value=code,
        )
    require_home(session)


async def close_until(
    session: WebTransportSession,
    deadline: float,
    code: int,
    reason: str,
    close_connection: bool = False,
) -> None:
    """Advanced: as ``close``, but with a deadline that the caller sets.

    Args:
        session: The session to close.
        deadline: A time on the clock of its event loop.
        code: As for ``close``, but not checked.
        reason: As for ``close``, but not checked.
        close_connection: As for ``close``.

    Cancellation: as of ``close``.
    """
    connection = session._connection
    session._tell_end()
    if session._state is SessionState.CLOSING:
        try:
            await session.wait_closed()
        except BaseException:
            if close_connection:  # even if the caller that closes the session keeps it
                session.add_watcher(
                    EventType.SESSION_CLOSED, lambda event: connection._close_later()
                )
            raise
    if session._state is SessionState.CLOSED:
        if close_connection:
            await connection._session_gone(deadline)
        return
    was_ready = session.is_ready
    session._state = SessionState.CLOSING
    try:
        if was_ready:
            last = close_connection and not isinstance(session._config, ServerConfig)
            await wait_finished_streams(session, before(deadline) if last else deadline)
    except BaseException:
        session.close_nowait(code, reason)
        if close_connection:
            connection._close_later()
        raise
    session.close_nowait(code, reason)
    if close_connection:
        await connection._session_gone(deadline)


def end(
    session: WebTransportSession,
    code: int | None,
    reason: str,
    remote: bool,
    error: Exception | None,
) -> None:
    """The one place where a session becomes CLOSED."""
    if session._state is SessionState.CLOSED:
        return
    session._state = SessionState.CLOSED
    session._stats.closed_at = get_timestamp()
    session._close_info = SessionCloseInfo(code=code, reason=reason, remote=remote)
    session._error = error
    try:
        if session._datagrams is not None:
            session._datagrams._close()
        session.memory_budget.close()
        _end_streams(session)
    finally:  # no caller waits for ever, whatever went wrong above
        session._ready_waiters.wake()
        session._closed_waiters.wake()
        if session._draining_waiters is not None:
            session._draining_waiters.wake()
        if session._acceptors is not None:
            session._acceptors.end()
        session_over(session)
        story.session_over(session)
        session._connection._remove_session(session)
        if session.on_end is not None:
            session.on_end(session)
    session._tell_closed(
        {"session_id": session._session_id, "code": code, "reason": reason, "remote": remote}
    )


def _end_streams(session: WebTransportSession) -> None:
    """Wake the callers that wait for a stream of the session, some in each turn."""
    orphans = session._orphans
    held: set[_StreamBase] = set()
    if orphans is not None:
        orphans.settle()
        held = orphans.clear()
    # Weak: a stream that the application drops meanwhile needs no end.
    streams = [ref(stream) for stream in session._forget_streams()]
    turns = session.turns
    for_each(turns, streams, partial(_end_stream, turns), held.clear)


def _end_stream(turns: Turns, reference: ref[_AnyStream]) -> None:
    stream = reference()
    if stream is None:
        return
    quic = stream._quic
    if stream._arrival:
        if not quic.fin_received:
            quic.skip(quic.buffered)  # it was never accepted, and is incomplete
        # The session keeps it, and its bytes, for whoever still accepts it. If both referred to
        # each other, the bytes would stay until the garbage collector runs.
        stream._loosen()
    if stream._has_waiter():
        turns.woke()
        stream._wake()
    stream._check_done()


def stream_code_to_wire(session: WebTransportSession, code: int) -> int:
    """Check an application's error code for a stream, and map it to the wire code.

    Raises:
        ConfigurationError: The code is out of range or not a number.
    """
    # The exact type first: this runs for every reset and stop.
    if code.__class__ is not int or not 0 <= code <= MAX_APPLICATION_CODE:
        check_whole("code", code, 0, MAX_APPLICATION_CODE)
        if not 0 <= code <= MAX_APPLICATION_CODE:
            raise StreamArgumentError(
                f"error code must be 0 to {MAX_APPLICATION_CODE}, got {code}",
                config_key="code",
                config_value=code,
            )
    return session._h3.code_to_wire(code)


def closed_error(session: WebTransportSession, consequence: str) -> SessionClosedError:
    """Create the typed error for a call that the end of the session made impossible."""
    if session.close_info is None:
        session._tell_end()
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


def failure(session: WebTransportSession, error: Exception, consequence: str) -> Exception:
    """Create the error for a call that failed below: the connection may have ended.

    Args:
        session: The session, which may not know of it yet.
        error: What the layer below raised.
        consequence: As for ``closed_error``.
    """
    if not isinstance(error, ConnectionError):
        return error
    session._tell_end()
    if session.is_closed:
        return session.closed_error(consequence)
    return session._connection._get_loss() or error


def refusal(
    session: WebTransportSession,
    status: int | None,
    headers: Mapping[str, str],
    error: Exception | None,
) -> Exception:
    """Client: create the error for a session that was not opened.

    Args:
        session: The session.
        status: The status of the response, if there was one.
        headers: The header fields of the response, if there was one.
        error: The error that the HTTP/3 layer reported.
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
