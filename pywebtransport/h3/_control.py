"""Frames of the peer's control stream (RFC 9114 sections 6.2.1 and 7.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from ._constants import RESERVED_FRAME_TYPES, FrameType, H3Error
from ._errors import H3ConnectionError
from ._frames import SKIP, SKIPPED, Frame, FrameParser
from ._load import Load
from ._settings import read_settings
from ._varint import decode_varint

__all__ = ["ControlEvents", "ControlReader", "refuse_frame"]


class ControlEvents(Protocol):
    """Events of the control stream, for the connection."""

    def on_settings(self, settings: Mapping[int, int]) -> None: ...
    def on_goaway(self, last_id: int) -> None: ...
    def on_priority(self, stream_id: int, value: bytes) -> None: ...


def refuse_frame(frame_type: int, where: str) -> None:
    """Refuse frame types that are not allowed on any stream.

    Raises:
        H3ConnectionError: it is a frame of HTTP/2 (H3_FRAME_UNEXPECTED), or the
            signal of a WebTransport stream, which only begins one (H3_FRAME_ERROR).
    """
    if frame_type in RESERVED_FRAME_TYPES:
        code = H3Error.FRAME_UNEXPECTED
    elif frame_type == FrameType.WEBTRANSPORT_STREAM:
        code = H3Error.FRAME_ERROR
    else:
        return
    raise H3ConnectionError(code, f"frame 0x{frame_type:x} on a {where} stream", frame_type)


class ControlReader(FrameParser):
    """Frames of the peer's control stream.

    Args:
        events: Receives SETTINGS, GOAWAY and the priorities of requests.
        load: Counts frames that carry nothing.
        is_client: This end is the client.
        max_frame_size: Largest frame in bytes; a larger one is H3_EXCESSIVE_LOAD.
    """

    _UNEXPECTED = frozenset({FrameType.DATA, FrameType.HEADERS, FrameType.PUSH_PROMISE})
    _FOR_SERVERS = frozenset(
        {
            FrameType.MAX_PUSH_ID,
            FrameType.PRIORITY_UPDATE_REQUEST,
            FrameType.PRIORITY_UPDATE_PUSH,
        }
    )
    _COLLECTED = _FOR_SERVERS | {FrameType.SETTINGS, FrameType.GOAWAY, FrameType.CANCEL_PUSH}

    __slots__ = (
        "_events",
        "_has_settings",
        "_is_client",
        "_load",
        "_max_frame_size",
        "_max_push_id",
    )

    def __init__(
        self, events: ControlEvents, load: Load, *, is_client: bool, max_frame_size: int
    ) -> None:
        super().__init__()
        self._events = events
        self._load = load
        self._is_client = is_client
        self._max_frame_size = max_frame_size
        self._has_settings = False
        self._max_push_id = -1

    def take(self, data: bytes) -> bool:
        """Take received bytes.

        Returns:
            False if there is more to handle in a later turn; call again then, with no bytes.

        Raises:
            H3ConnectionError: the peer broke a rule.
        """
        self.feed(data)
        done = 0
        while (frame := self.next()) is not None:
            self._handle(frame)
            done += 1
            if self._load.is_over(done):
                return False
        return True

    def judge(self, frame_type: int) -> int:
        """Decide which frames may arrive, and when."""
        refuse_frame(frame_type, "control")
        if not self._has_settings and frame_type != FrameType.SETTINGS:
            raise H3ConnectionError(
                H3Error.MISSING_SETTINGS, "the control stream does not begin with SETTINGS"
            )
        if (
            frame_type in self._UNEXPECTED
            or (self._is_client and frame_type in self._FOR_SERVERS)
            or (self._has_settings and frame_type == FrameType.SETTINGS)
        ):
            raise H3ConnectionError(
                H3Error.FRAME_UNEXPECTED,
                f"unexpected frame 0x{frame_type:x} on the control stream",
                frame_type,
            )
        return self._max_frame_size if frame_type in self._COLLECTED else SKIP

    def _handle(self, frame: Frame) -> None:
        kind, payload = frame
        if frame is SKIPPED:
            self._load.idle("frames of unknown types")
            return
        if payload is None:
            raise H3ConnectionError(
                H3Error.EXCESSIVE_LOAD,
                f"frame 0x{kind:x} is larger than {self._max_frame_size} bytes",
                kind,
            )
        if kind == FrameType.SETTINGS:
            self._has_settings = True
            self._events.on_settings(read_settings(payload))
        elif kind == FrameType.GOAWAY:
            self._load.idle("frames that change nothing")
            self._events.on_goaway(_only_varint(kind, payload))
        elif kind == FrameType.MAX_PUSH_ID:
            self._limit_pushes(_only_varint(kind, payload))
        elif kind == FrameType.CANCEL_PUSH:
            push_id = _only_varint(kind, payload)
            raise H3ConnectionError(
                H3Error.ID_ERROR, f"CANCEL_PUSH for push {push_id}, which was never promised", kind
            )
        else:
            self._change_priority(kind, payload)

    def _limit_pushes(self, push_id: int) -> None:
        if push_id < self._max_push_id:
            raise H3ConnectionError(
                H3Error.ID_ERROR, f"MAX_PUSH_ID went from {self._max_push_id} to {push_id}"
            )
        self._load.idle("frames that change nothing")
        self._max_push_id = push_id

    def _change_priority(self, kind: int, payload: bytes) -> None:
        decoded = decode_varint(payload)
        if decoded is None:
            raise H3ConnectionError(H3Error.FRAME_ERROR, "PRIORITY_UPDATE is cut short", kind)
        if kind == FrameType.PRIORITY_UPDATE_PUSH or decoded[0] % 4:
            raise H3ConnectionError(
                H3Error.ID_ERROR, f"PRIORITY_UPDATE for {decoded[0]}, which is no request", kind
            )
        self._load.idle("frames that change nothing")
        self._events.on_priority(decoded[0], payload[decoded[1] :])


def _only_varint(kind: int, payload: bytes) -> int:
    decoded = decode_varint(payload)
    if decoded is None or decoded[1] != len(payload):
        raise H3ConnectionError(
            H3Error.FRAME_ERROR, f"frame 0x{kind:x} does not hold exactly one varint", kind
        )
    return decoded[0]
