"""Events: what happened, objects that tell it, and a bus that carries it further."""

from .emitter import EventEmitter, create_event_emitter, event_handler
from .event import Event

__all__ = ["Event", "EventEmitter", "create_event_emitter", "event_handler"]
