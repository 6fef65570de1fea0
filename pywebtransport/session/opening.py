"""Opening streams within the limits of both ends, and seeing finished ones through."""

from __future__ import annotations

import asyncio
import builtins
from typing import TYPE_CHECKING

from ..constants import DEFAULT_STREAM_CREATION_TIMEOUT
from ..exceptions import SessionClosedError, StreamError, StreamLimitError
from ..stream import WebTransportSendStream
from ..utils.checks import NEVER, check_timeout

if TYPE_CHECKING:
    from .._quic import QuicStream
    from .session import WebTransportSession

__all__ = ["open_stream", "wait_finished_streams"]


async def open_stream(
    session: WebTransportSession, unidirectional: bool, timeout: float | None
) -> QuicStream:
    """Open a stream in turn, waiting for the peer's limit; callers are served as they came.

    Args:
        session: Where.
        unidirectional: Which kind.
        timeout: Seconds to wait for a limit, whose ever it is. None: for the peer's as the
            configuration says, and for one of this end not at all.

    Raises: as ``create_bidirectional_stream``.

    Cancellation: safe; no stream is opened.
    """
    wait = _default_wait(session)
    if timeout is not None:
        limit = check_timeout("timeout", timeout)
        wait = NEVER if limit is None else limit
    elif _own_limit(session) is not None:
        raise _limit_reached(session, unidirectional, None)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait
    while True:
        waiters = session._open_waiters[unidirectional]
        if not await waiters.wait(max(0.0, deadline - loop.time())):
            raise _limit_reached(session, unidirectional, wait)
        if session.is_closed:
            raise session._closed_error("no stream can be opened")
        quic = try_open(session, unidirectional)
        if quic is not None:
            return quic


def try_open(session: WebTransportSession, unidirectional: bool) -> QuicStream | None:
    """Open a stream now, or None when a limit of the peer or of ours is reached."""
    connection = session._connection
    if (
        session._counted_local >= session._max_streams
        or connection._local_streams >= connection._max_local_streams
    ):
        return None
    quic: QuicStream | None = session._h3.open_stream(unidirectional)
    if quic is not None:
        connection._local_streams += 1
        session._counted_local += 1
    return quic


async def wait_finished_streams(session: WebTransportSession, deadline: float) -> None:
    """Let finished streams be acknowledged before the session ends, until a time of the loop."""
    for stream in session._open_streams():
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


def _own_limit(session: WebTransportSession) -> str | None:
    """The limit of this end that keeps a stream from being opened, if one does."""
    connection = session._connection
    if connection._local_streams >= connection._max_local_streams:
        return f"max_streams_per_connection={connection._max_local_streams} of this end"
    if session._counted_local >= session._max_streams:
        return f"max_streams={session._max_streams} of this end"
    return None


def _limit_reached(
    session: WebTransportSession, unidirectional: bool, waited: float | None
) -> StreamLimitError:
    limit = _own_limit(session) or "the peer"
    return StreamLimitError(
        f"stream limit reached: {limit} allowed no further "
        f"{'uni' if unidirectional else 'bi'}directional stream"
        f"{'' if waited is None else f' within {waited:g} s'}; "
        "finish streams that are open, or raise the limit",
        timeout_duration=waited,
    )
