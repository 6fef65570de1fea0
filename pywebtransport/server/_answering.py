"""Answers session requests that fail, and frees their slots."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from .._states import SessionState
from ..constants import ErrorCodes
from ..exceptions import SessionRejectedError
from ..session import WebTransportSession
from ..utils._failures import error_leaves, log_application_error
from ..utils._logs import shared_log
from ..utils._tasks import is_being_cancelled
from ..utils._text import printable_path
from ._losses import peer_name

if TYPE_CHECKING:
    from .._transport import LayerSession
    from ..connection import WebTransportConnection
    from ._stats import ServerStats

__all__ = ["Answering", "rejection_in"]

_INTERNAL_SERVER_ERROR = 500
_CONNECTING = SessionState.CONNECTING


class Answering:
    """Ends sessions whose handler, middleware or listener failed.

    Each step has a fallback: if a refusal cannot be sent, a plain 500 is sent; if that fails, the
    request stream is reset. The session ends in any case.

    Args:
        logger: Logger of the server.
        stats: Statistics of the server, which count the failures.
    """

    def __init__(self, logger: logging.Logger, stats: ServerStats) -> None:
        self._logger = logger
        self._stats = stats

    async def failed(
        self, session: WebTransportSession, error: BaseException, *, closing: bool
    ) -> None:
        """Handle an exception of the code that served a session.

        Args:
            session: The session.
            error: The exception, of any type.
            closing: Whether the server is closing, which cancels handlers.

        Raises:
            BaseException: ``error`` itself if it ends more than this session:
                ``SystemExit``, ``KeyboardInterrupt``, the cancellation of the task.
        """
        if isinstance(error, asyncio.CancelledError) and is_being_cancelled():
            self._cancelled(session, closing=closing)
            raise error
        if session.state is _CONNECTING:
            rejection = rejection_in(error)
            if rejection is not None:
                refused = self._refuse(session, rejection)
                if refused is None:
                    return
                error = refused
        try:
            self._tell(session, error)
        except Exception:  # of a log handler of the program
            self.end_now(session)
            raise
        if isinstance(error, Exception | asyncio.CancelledError):
            await self.end(session)
            return
        # Do not wait: the program may be about to end, or the coroutine is being closed.
        self.end_now(session)
        if isinstance(error, SystemExit | KeyboardInterrupt) or not _runs():
            raise error

    async def end(self, session: WebTransportSession) -> None:
        """Answer with 500; close an open session with code 1.

        Cancellation: the session ends anyway.
        """
        if session.state is _CONNECTING:
            self.reject(session, _INTERNAL_SERVER_ERROR)
            return
        try:
            await session.close(code=1, reason="internal error", close_connection=False)
        except Exception as error:
            self._failed_too("closing session %s failed", session.session_id, error)
            self._abort(session)

    def end_now(self, session: WebTransportSession) -> None:
        """As ``end``, without waiting for written data."""
        try:
            if session.state is _CONNECTING:
                self.reject(session, _INTERNAL_SERVER_ERROR)
            else:
                session.close_nowait(1, "internal error")
            session.flush_nowait()
        except Exception as error:
            self._failed_too("closing session %s failed", session.session_id, error)
            self._abort(session)

    def reject(
        self, session: WebTransportSession, status: int, because: str = "serving it failed"
    ) -> None:
        """Answer with a status and nothing else."""
        session.rejection_reason = because
        try:
            session.reject(status_code=status)
        except Exception as error:
            if not session.is_closed:
                self._failed_too("answering %s failed", printable_path(session.path), error)
                self._abort(session)

    def request_failed(
        self, h3: LayerSession, connection: WebTransportConnection, error: Exception
    ) -> None:
        """Handling a request failed before there was a session."""
        self._stats.handler_errors += 1
        peer = peer_name(connection.remote_address)
        what = f"request for {printable_path(h3.path)} of {peer} failed:"
        log_application_error(self._logger, f"{what} its route", error)
        try:
            h3.reject(_INTERNAL_SERVER_ERROR, {})
        except Exception as second:
            self._failed_too("answering %s failed", printable_path(h3.path), second)
            h3.abort(ErrorCodes.H3_INTERNAL_ERROR)

    # ------------------------------------------------------------------ internal

    def _cancelled(self, session: WebTransportSession, *, closing: bool) -> None:
        """The task of the handler was cancelled."""
        if session.is_closed:
            return
        if closing:
            session.close_nowait(0, "server shutdown")
            return
        # Not by the server: by the application, or because the event loop ends.
        self._stats.handler_errors += 1
        self.end_now(session)
        shared_log(self._logger).tell(
            "handler cancelled",
            logging.WARNING,
            "handler of %s was cancelled; session %s is closed",
            printable_path(session.path),
            session.session_id,
        )

    def _refuse(
        self, session: WebTransportSession, rejection: SessionRejectedError
    ) -> Exception | None:
        """Send the answer of the application; return the error if it cannot be sent."""
        try:
            session.reject(status_code=rejection.status_code, headers=rejection.headers)
        except Exception as error:
            error.__cause__ = rejection  # it says where that answer was made
            return error
        return None

    def _tell(self, session: WebTransportSession, error: BaseException) -> None:
        path = printable_path(session.path)
        if session.state is _CONNECTING:
            what = f"request for {path} failed: its middleware or handler"
        else:
            what = f"handler of {path}"
        if log_application_error(self._logger, what, error, session=session):
            self._stats.handler_errors += 1

    def _failed_too(self, message: str, which: str, error: Exception) -> None:
        """Ending a session raised, too: a bug of this package."""
        shared_log(self._logger).tell(message, logging.ERROR, message, which, error=error)

    def _abort(self, session: WebTransportSession) -> None:
        """The last resort: end the session without an answer."""
        try:
            session.abort(ErrorCodes.H3_INTERNAL_ERROR)
        except Exception as error:
            self._failed_too("aborting session %s failed", session.session_id, error)


def rejection_in(error: BaseException) -> SessionRejectedError | None:
    """The answer that was raised, alone or in a group of only such answers."""
    leaves = list(error_leaves(error))
    if all(isinstance(leaf, SessionRejectedError) for leaf in leaves):
        first = leaves[0]
        assert isinstance(first, SessionRejectedError)
        return first
    return None


def _runs() -> bool:
    """Whether a task runs this code; not if a coroutine is closed with its loop."""
    try:
        return asyncio.current_task() is not None
    except RuntimeError:
        return False
