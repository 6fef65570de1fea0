"""QMux: the streams and datagrams of QUIC over a reliable byte stream.

Sans-I/O: a :class:`Link` carries the records. It is a WebSocket.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .._transport import Group, LayerSession, SessionLayer, Stream, Transport
    from ._connection import QMuxConnection
    from ._group import QMuxGroup
    from ._session import QMuxSession
    from ._sessions import QMuxSessions
    from ._stream import QMuxStream

    def _shapes(
        connection: QMuxConnection,
        stream: QMuxStream,
        group: QMuxGroup,
        sessions: QMuxSessions,
        session: QMuxSession,
    ) -> tuple[Transport, Stream, Group, SessionLayer, LayerSession]:
        """Let mypy check that these classes match the protocols of the layers above."""
        return connection, stream, group, sessions, session
