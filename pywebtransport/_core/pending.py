"""A session that exists on the wire before the application creates an object for it."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..exceptions import ConnectionError, SessionError, SessionRejectedError, TimeoutError
from ..utils._checks import check_timeout
from ..utils._text import printable

if TYPE_CHECKING:
    from .._header_map import HeaderMap
    from .._states import SessionId
    from .._transport import LayerSession
    from .connection import WebTransportConnection
    from .session import WebTransportSession

__all__ = [
    "PendingSession",
    "accepted_session_id",
    "claim",
    "ready_session_id",
    "request",
    "withdraw",
]


class PendingSession:
    """Records what happens to a session until ``WebTransportSession`` takes it over.

    Args:
        ready: Completed when the answer arrives; None if nobody waits for it.
    """

    __slots__ = ("_facts", "h3", "ready")

    def __init__(self, ready: asyncio.Future[None] | None = None) -> None:
        self.h3: LayerSession | None = None
        self.ready = ready
        if ready is not None:
            ready.add_done_callback(lambda f: f.cancelled() or f.exception())
        self._facts: list[tuple[str, tuple[Any, ...]]] = []

    @property
    def _url(self) -> str | None:
        return None if self.h3 is None else f"https://{self.h3.authority}{self.h3.path}"

    def replay(self, session: WebTransportSession) -> None:
        """Report everything that happened to ``session``, in order."""
        facts, self._facts = self._facts, []
        for name, args in facts:
            getattr(session, name)(*args)

    def session_established(self) -> None:
        """The server accepted."""
        self._keep("session_established")
        if self.ready is not None:
            self.ready.set_result(None)

    def session_rejected(
        self, status: int | None, headers: Mapping[str, str], error: Exception | None
    ) -> None:
        """The server refused."""
        self._keep("session_rejected", status, headers, error)
        if self.ready is not None:
            self.ready.set_exception(
                error
                or SessionRejectedError(
                    status_code=status or 0,
                    headers=headers,
                    target_url=self._url,
                    remote=True,
                )
            )

    def stream_received(self, stream: Any, unidirectional: bool) -> None:
        """The server opened a stream."""
        self._keep("stream_received", stream, unidirectional)

    def datagrams_received(self, datagrams: list[bytes]) -> None:
        """Datagrams arrived; a limited number is kept."""
        for data in datagrams[: max(0, 1024 - len(self._facts))]:
            self._keep("datagrams_received", [data])

    def streams_available(self, unidirectional: bool) -> None:
        """The peer allows more streams."""
        self._keep("streams_available", unidirectional)

    def datagram_writable(self) -> None:
        """Ignored: no caller waits yet."""

    def session_draining(self) -> None:
        """The server will end the session soon."""
        self._keep("session_draining")

    def credit_updated(self, kind: str, limit: int) -> None:
        """Ignored: there are no listeners yet."""

    def capsule_received(self, capsule_type: int, value: bytes) -> None:
        """Ignored: there are no listeners yet."""

    def session_closed(
        self, code: int | None, reason: str, remote: bool, error: Exception | None
    ) -> None:
        """The session is over."""
        self._keep("session_closed", code, reason, remote, error)
        if self.ready is not None and not self.ready.done():
            who = "the server" if remote else "this side"
            text = f": {printable(reason)}" if reason else ""
            self.ready.set_exception(
                error
                or ConnectionError(
                    f"{who} closed the session before it was ready{text}",
                    error_code=code,
                    reason=reason,
                    remote=remote,
                )
            )

    def _keep(self, name: str, *args: Any) -> None:
        if name == "streams_available" and (name, args) in self._facts:
            return
        self._facts.append((name, args))


def request(
    connection: WebTransportConnection,
    *,
    path: str,
    headers: HeaderMap,
    events: PendingSession,
    application_protocols: Sequence[str],
    require: bool,
) -> LayerSession:
    """Request a session from the layer below. Raises as ``create_session``.

    Args:
        connection: A client's connection.
        path: Path and query.
        headers: Fields of the request; ``origin`` is taken out of them.
        events: Receives the events of the session.
        application_protocols: Names to offer, best first.
        require: Close the session if the server selects none.
    """
    driver = connection._driver
    if driver is None or not connection.is_connected:
        raise connection.error or ConnectionError(
            f"cannot open a session: the connection is {connection.state}"
        )
    origin = headers.pop("origin", None)
    connection.record_activity()
    return driver.layer.open_session(
        authority=connection.authority,
        path=path,
        headers=headers,
        origin=origin,
        application_protocols=application_protocols,
        require_application_protocol=require,
        events=events,
    )


def claim(connection: WebTransportConnection, session_id: SessionId) -> LayerSession:
    """Return a session opened by ``connect``; its object then gets what happened to it."""
    pending = None if connection._pending is None else connection._pending.pop(session_id, None)
    if pending is None or pending.h3 is None:
        raise SessionError(
            f"connection {connection.connection_id} has no session {session_id!r} without an "
            "object; use wait_for_ready_session() or create_session()",
            session_id=session_id,
        )

    def replay() -> None:
        session = connection._sessions.get(session_id)
        if session is not None:
            pending.replay(session)

    asyncio.get_running_loop().call_soon(replay)
    return pending.h3


def accepted_session_id(pending: Mapping[SessionId, PendingSession] | None) -> SessionId | None:
    """Return the ID of an accepted session, or None."""
    for session_id, each in (pending or {}).items():
        ready = each.ready
        if ready is not None and ready.done() and ready.exception() is None:
            return session_id
    return None


async def ready_session_id(
    sessions: dict[SessionId, PendingSession] | None, timeout: float
) -> SessionId:
    """Wait until the first of the pending sessions is accepted, and return its ID.

    Raises and cancellation: as ``wait_for_ready_session``.
    """
    limit = check_timeout("timeout", timeout)
    if not sessions:
        raise SessionError("no session was requested on this connection; call connect() first")
    session_id, pending = next(iter(sessions.items()))
    assert pending.ready is not None
    try:
        async with asyncio.timeout(limit):
            await asyncio.shield(pending.ready)
    except builtins.TimeoutError:
        raise TimeoutError(
            f"the server did not answer the session request within {timeout} s",
            timeout_duration=timeout,
            operation="session",
        ) from None
    return session_id


def withdraw(sessions: dict[SessionId, PendingSession] | None) -> None:
    """Close sessions that have no object."""
    for pending in (sessions or {}).values():
        if pending.h3 is not None:
            pending.h3.close()
