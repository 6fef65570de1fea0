"""Which client-initiated bidirectional streams are settled, in bounded memory.

A stream is settled once it is known that no session lives on it any more, or
ever will. QUIC hands out stream IDs in order and limits how many may be open,
so it is enough to remember the next unseen ID and the unsettled ones below it:
their number is bounded by the stream limit, however long the connection lives.
"""

from __future__ import annotations

__all__ = ["SettledIds"]


class SettledIds:
    """The settled ones among the IDs 0, 4, 8, ...

    Attributes:
        next_id: The lowest ID above all that were seen.
    """

    __slots__ = ("_open", "next_id")

    def __init__(self) -> None:
        self.next_id = 0
        self._open: set[int] = set()

    @property
    def unsettled(self) -> int:
        """How many IDs below ``next_id`` are not settled."""
        return len(self._open)

    def see(self, stream_id: int) -> None:
        """The peer opened this stream, and with it all lower ones."""
        if stream_id == self.next_id:
            self._open.add(stream_id)
            self.next_id = stream_id + 4
        elif stream_id > self.next_id:
            self._open.update(range(self.next_id, stream_id + 4, 4))
            self.next_id = stream_id + 4

    def settle(self, stream_id: int) -> None:
        """There is no session on this stream any more, and there will not be one."""
        if stream_id == self.next_id:  # in order, as nearly always: nothing to remember
            self.next_id = stream_id + 4
        else:
            self.see(stream_id)
            self._open.discard(stream_id)

    def is_settled(self, stream_id: int) -> bool:
        """Return whether a session with this ID has ended, or can never exist."""
        return stream_id < self.next_id and stream_id not in self._open
