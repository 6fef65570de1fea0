"""Events, objects that emit them, and a bus that distributes them."""

from .backend import EventBackend
from .bus import EventBus, create_event_bus
from .emitter import EventEmitter, create_event_emitter, event_handler
from .event import Event
from .memory import MemoryBackend
from .redis import RedisBackend

__all__ = [
    "Event",
    "EventBackend",
    "EventBus",
    "EventEmitter",
    "MemoryBackend",
    "RedisBackend",
    "create_event_bus",
    "create_event_emitter",
    "event_handler",
]
