"""What a session is like: its state, and how its streams and datagrams begin."""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache

from ._constants import FrameType, StreamType
from ._varint import encode_varint

__all__ = ["CLOSED", "LIVE", "H3SessionState", "prefixes"]


class H3SessionState(StrEnum):
    """The state of a session; it only moves forward."""

    CONNECTING = "connecting"
    OPEN = "open"
    DRAINING = "draining"
    CLOSED = "closed"


# A lookup of an enumeration member takes ten times as long as that of a global name.
CLOSED = H3SessionState.CLOSED
LIVE = (H3SessionState.OPEN, H3SessionState.DRAINING)


@lru_cache(256)
def prefixes(session_id: int) -> tuple[bytes, bytes, bytes]:
    """Return the headers of bidirectional streams, unidirectional streams and datagrams.

    Args:
        session_id: ID of the CONNECT stream.
    """
    encoded_id = encode_varint(session_id)
    return (
        encode_varint(FrameType.WEBTRANSPORT_STREAM) + encoded_id,
        encode_varint(StreamType.WEBTRANSPORT) + encoded_id,
        encode_varint(session_id // 4),
    )
