"""Ending a session together with the connection that it alone uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..session import WebTransportSession

__all__ = ["close_session"]


async def close_session(session: WebTransportSession, *, code: int = 0) -> None:
    """Close ``session``, and its connection when no other session uses it.

    Args:
        session: May be over already.
        code: Application code that the peer learns.

    Cancellation: session and connection are closed all the same, without the wait.
    """
    connection = session.connection
    try:
        await session.close(code=code)
    finally:
        if connection is not None and not (
            connection._keep_open or connection.is_closed or connection.sessions
        ):
            connection._shut()
