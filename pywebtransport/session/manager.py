"""Compatibility name: the sessions of an application, by ID."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from .._core.session import WebTransportSession
from .._states import EventType, SessionId, SessionState
from ..constants import DEFAULT_MAX_SESSIONS, DEFAULT_SESSION_CLEANUP_INTERVAL
from ..exceptions import SessionError
from ..utils._checks import check_count, check_instance, check_text
from ..utils._closing import AsyncContext, close_all
from ..utils._registry import Registry, count_states

__all__ = ["SessionManager"]


class SessionManager(AsyncContext):
    """A bounded registry of sessions; closed ones leave it at once.

    Closing the manager closes its sessions. Use as ``async with SessionManager() as
    manager:``. A server has one over all of its sessions, ``server.session_manager``.
    """

    def __init__(
        self,
        *,
        max_sessions: int = DEFAULT_MAX_SESSIONS,
        session_cleanup_interval: float = DEFAULT_SESSION_CLEANUP_INTERVAL,
    ) -> None:
        """Create an empty registry.

        Args:
            max_sessions: How many sessions it may hold.
            session_cleanup_interval: Ignored; kept for compatibility.

        Raises:
            ConfigurationError: ``max_sessions`` is below 1.
        """
        check_count("max_sessions", max_sessions)
        self._max_sessions = max_sessions
        self._registry: Registry[WebTransportSession] = Registry(
            EventType.SESSION_CLOSED, lambda session: session.session_id
        )
        self._closed = False

    @classmethod
    def create(
        cls,
        *,
        max_sessions: int = DEFAULT_MAX_SESSIONS,
        session_cleanup_interval: float = DEFAULT_SESSION_CLEANUP_INTERVAL,
    ) -> Self:
        """The same as calling the class."""
        return cls(max_sessions=max_sessions, session_cleanup_interval=session_cleanup_interval)

    async def add_session(self, session: WebTransportSession) -> SessionId:
        """Keep a session until it closes. Adding it again changes nothing.

        Returns:
            Its ID.

        Raises:
            SessionError: It is closed, ``max_sessions`` is reached, or the manager is
                shut down.

        Cancellation: does not wait, so there is nothing to cancel.
        """
        check_instance("session", session, WebTransportSession)
        items = self._registry.items
        if self._closed:
            raise SessionError("the session manager is shut down; make a new one")
        if session.is_closed:
            raise SessionError(
                f"session {session.session_id} is {session.state}",
                session_id=session.session_id,
                session_state=session.state,
            )
        if session.session_id not in items and len(items) >= self._max_sessions:
            raise SessionError(
                f"max_sessions={self._max_sessions} is reached; close or remove some, or raise "
                "the limit",
                session_id=session.session_id,
            )
        return self._registry.add(session)

    async def get_session(self, session_id: SessionId) -> WebTransportSession | None:
        """Return the session with this ID, or None."""
        check_text("session_id", session_id)
        return self._members().get(session_id)

    async def remove_session(self, session_id: SessionId) -> WebTransportSession | None:
        """Forget a session and return it, or None if there is none; the session stays open."""
        check_text("session_id", session_id)
        return self._registry.remove(session_id)

    async def get_all_sessions(self) -> list[WebTransportSession]:
        """Return all sessions."""
        return list(self._members().values())

    def get_session_count(self) -> int:
        """Return how many sessions there are."""
        return len(self._members())

    async def get_sessions_by_state(self, state: SessionState) -> list[WebTransportSession]:
        """Return the sessions in one state."""
        return [session for session in self._members().values() if session.state == state]

    async def cleanup_closed_sessions(self) -> int:
        """Forget closed sessions and return how many there were.

        Always 0: closed sessions are removed without this call.
        """
        return self._registry.remove_closed()

    async def get_stats(self) -> dict[str, Any]:
        """Return counts since the manager was created, and of the current sessions by state."""
        sessions = list(self._members().values())
        return {
            **self._counts(),
            "active_sessions": len(sessions),
            "states": await count_states(sessions),
            "max_sessions": self._max_sessions,
        }

    async def close_all_sessions(self) -> None:
        """Close every session with code 0 and wait for it.

        Cancellation: they are closed anyway, without the wait.
        """
        await close_all(self._members().values())

    async def shutdown(self) -> None:
        """Close every session and accept no new ones. Idempotent.

        Cancellation: as ``close_all_sessions``.
        """
        self._closed = True
        await self.close_all_sessions()

    async def _end_block(self) -> None:
        await self.shutdown()

    # --------------------------------------- what the manager of a server does otherwise

    def _members(self) -> Mapping[SessionId, WebTransportSession]:
        return self._registry.items

    def _counts(self) -> dict[str, int]:
        return self._registry.stats
