"""The streams and datagrams of the one session of a connection."""

from __future__ import annotations

from ._state import State
from ._stats import session_stats

__all__ = ["QMuxGroup"]


class QMuxGroup:
    """Satisfies ``Group``. Its credit is that of the connection: no limit of its own has effect.

    Args:
        state: Shared by all parts of the connection.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self.send_limit: int | None = None
        self.recv_limit: int | None = None
        self.credit_threshold = 0
        self._datagram_limit: int | None = None

    @property
    def datagram_limit(self) -> int | None:
        """Datagrams that may be queued."""
        return self._datagram_limit

    @datagram_limit.setter
    def datagram_limit(self, limit: int | None) -> None:
        self._datagram_limit = limit
        most = self._state.limits.datagram_queue
        self._state.datagrams.limit = most if limit is None else min(limit, most)
        self._look_for_room()

    def stats(self) -> dict[str, int | None]:
        """Counters of the session's streams and datagrams, and the limits in force."""
        return session_stats(self._state)

    def clear_datagrams(self) -> int:
        """Drop the datagrams that wait; return how many there were."""
        count = self._state.datagrams.clear()
        self._look_for_room()
        return count

    def close(self) -> None:
        """The session has ended: what it queued is dropped."""
        self._state.datagrams.clear()

    def _look_for_room(self) -> None:
        """Tell those who wait for room, even if the link takes nothing now."""
        if self._state.datagrams.held_up:
            self._state.schedule()
