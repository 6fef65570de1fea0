"""What happened: one event."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Self, TypeAlias

from .._states import EventData, EventType
from ..exceptions import (
    ConnectionError,
    DatagramError,
    StreamError,
    TimeoutError,
    WebTransportError,
)
from ..utils.checks import check_text
from ..utils.timing import get_timestamp

__all__ = ["Event", "EventHandler"]

_ERROR_TYPES = frozenset(
    {
        EventType.CONNECTION_FAILED,
        EventType.DATAGRAM_ERROR,
        EventType.PROTOCOL_ERROR,
        EventType.STREAM_ERROR,
        EventType.TIMEOUT_ERROR,
    }
)


@dataclass(kw_only=True)
class Event:
    """Something that happened.

    Attributes:
        type: What; a name of :class:`EventType` becomes that member, other
            names stay strings.
        timestamp: When, in seconds since the epoch.
        data: Facts; their shape depends on the type.
        source: The object that emitted the event.
        event_id: A unique name of this event.
    """

    type: EventType | str
    timestamp: float = field(default_factory=get_timestamp)
    data: EventData = None
    source: Any | None = field(default=None, repr=False)
    event_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def __post_init__(self) -> None:
        if not isinstance(self.type, EventType):
            check_text("type", self.type)
            self.type = _EVENT_TYPES.get(self.type, self.type)

    @classmethod
    def for_connection(
        cls, *, event_type: EventType | str, connection_info: dict[str, Any]
    ) -> Self:
        """Make an event about a connection."""
        return cls(type=event_type, data=connection_info)

    @classmethod
    def for_datagram(cls, *, event_type: EventType | str, datagram_info: dict[str, Any]) -> Self:
        """Make an event about a datagram."""
        return cls(type=event_type, data=datagram_info)

    @classmethod
    def for_error(cls, error: Exception, *, source: Any = None) -> Self:
        """Make an event about an exception; its class selects the type."""
        match error:
            case TimeoutError():
                event_type = EventType.TIMEOUT_ERROR
            case StreamError():
                event_type = EventType.STREAM_ERROR
            case DatagramError():
                event_type = EventType.DATAGRAM_ERROR
            case ConnectionError():
                event_type = EventType.CONNECTION_FAILED
            case _:
                event_type = EventType.PROTOCOL_ERROR
        details = error.to_dict() if isinstance(error, WebTransportError) else {}
        data = {
            "error_type": type(error).__name__,
            "error_message": str(error),
            "error_details": details,
        }
        return cls(type=event_type, data=data, source=source)

    @classmethod
    def for_session(cls, *, event_type: EventType | str, session_info: dict[str, Any]) -> Self:
        """Make an event about a session."""
        return cls(type=event_type, data=session_info)

    @classmethod
    def for_stream(cls, *, event_type: EventType | str, stream_info: dict[str, Any]) -> Self:
        """Make an event about a stream."""
        return cls(type=event_type, data=stream_info)

    @property
    def is_connection_event(self) -> bool:
        """True when the type starts with ``connection_``."""
        return self.type.startswith("connection_")

    @property
    def is_datagram_event(self) -> bool:
        """True when the type starts with ``datagram_``."""
        return self.type.startswith("datagram_")

    @property
    def is_error_event(self) -> bool:
        """True for the types that report a failure."""
        return self.type in _ERROR_TYPES

    @property
    def is_session_event(self) -> bool:
        """True when the type starts with ``session_``."""
        return self.type.startswith("session_")

    @property
    def is_stream_event(self) -> bool:
        """True when the type starts with ``stream_``."""
        return self.type.startswith("stream_")

    def to_dict(self) -> dict[str, Any]:
        """The fields as a dictionary; the source is given by its ``repr``."""
        return {
            "id": self.event_id,
            "type": str(self.type),
            "timestamp": self.timestamp,
            "data": self.data,
            "source": None if self.source is None else repr(self.source),
        }


_EVENT_TYPES: dict[str, EventType] = {member.value: member for member in EventType}


EventHandler: TypeAlias = Callable[[Event], Awaitable[None] | None]
"""A function or coroutine function of one event."""
