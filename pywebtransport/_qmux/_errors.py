"""Error codes of QMux, which are those of QUIC, and the error that ends a connection."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["QMuxConnectionError", "QMuxError"]


class QMuxError(IntEnum):
    """Codes of CONNECTION_CLOSE of type 0x1c (RFC 9000 section 20.1)."""

    NO_ERROR = 0x00
    INTERNAL_ERROR = 0x01
    FLOW_CONTROL_ERROR = 0x03
    STREAM_LIMIT_ERROR = 0x04
    STREAM_STATE_ERROR = 0x05
    FINAL_SIZE_ERROR = 0x06
    FRAME_ENCODING_ERROR = 0x07
    TRANSPORT_PARAMETER_ERROR = 0x08
    PROTOCOL_VIOLATION = 0x0A
    APPLICATION_ERROR = 0x0C


class QMuxConnectionError(Exception):
    """The peer broke a rule: the connection is closed with this code.

    Attributes:
        code: What is sent.
        reason: A description for the peer.
        frame_type: Type of the frame that broke the rule; 0: none, or unknown.
    """

    def __init__(self, code: QMuxError, reason: str, frame_type: int = 0) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.frame_type = frame_type
