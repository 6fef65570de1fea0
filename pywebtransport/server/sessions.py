"""Behind compatibility names: the sessions of a server as a ``SessionManager``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol
from weakref import WeakSet

from .._states import SessionId
from ..config import ServerConfig
from ..exceptions import SessionError
from ..session import WebTransportSession
from ..session.manager import SessionManager
from ..utils.checks import check_text
from .stats import ServerStats

__all__ = ["ServerSessions"]


class _Server(Protocol):
    """``WebTransportServer``, as far as its sessions are concerned."""

    @property
    def config(self) -> ServerConfig: ...
    @property
    def sessions(self) -> tuple[WebTransportSession, ...]: ...
    @property
    def open_session_count(self) -> int: ...
    def has_session(self, session: WebTransportSession) -> bool: ...
    def refresh_stats(self) -> ServerStats: ...


class ServerSessions(SessionManager):
    """Shows the sessions of a server. It keeps none itself, so it costs the server nothing."""

    def __init__(self, server: _Server) -> None:
        super().__init__(max_sessions=server.config.max_sessions)
        self._server = server
        self._removed: WeakSet[WebTransportSession] = WeakSet()

    async def add_session(self, session: WebTransportSession) -> SessionId:
        """Show a session of the server again that was removed.

        Raises:
            SessionError: It is not one of the server's, or it is closed.
        """
        if not self._server.has_session(session):
            raise SessionError(
                f"session {session.session_id} is not open on this server; the sessions of a "
                "server come from its clients",
                session_id=session.session_id,
                session_state=session.state,
            )
        self._removed.discard(session)
        return session.session_id

    async def remove_session(self, session_id: SessionId) -> WebTransportSession | None:
        """Show a session no longer; the server goes on with it."""
        session = await self.get_session(session_id)
        if session is not None:
            self._removed.add(session)
        return session

    async def get_session(self, session_id: SessionId) -> WebTransportSession | None:
        """The session with an ID, or None."""
        check_text("session_id", session_id)
        for session in self._server.sessions:
            if session.session_id == session_id and session not in self._removed:
                return session
        return None

    def get_session_count(self) -> int:
        """How many sessions there are."""
        server = self._server
        removed = sum(map(server.has_session, self._removed))
        return server.open_session_count - removed

    async def cleanup_closed_sessions(self) -> int:
        """Always 0: the server itself forgets a session at its end."""
        return 0

    def _members(self) -> Mapping[SessionId, WebTransportSession]:
        return {
            session.session_id: session
            for session in self._server.sessions
            if session not in self._removed
        }

    def _counts(self) -> dict[str, int]:
        stats = self._server.refresh_stats()
        return {
            "sessions_accepted": stats.sessions_accepted,
            "sessions_rejected": stats.sessions_rejected,
        }
