"""Events, objects that emit them, and a bus that distributes them."""

from ._backend import EventBackend
from ._bus import EventBus, create_event_bus
from ._emitter import EventEmitter, create_event_emitter, event_handler
from ._event import Event
from ._local import LocalBackend
from ._memory import MemoryBackend
from ._nats import NatsBackend
from ._redis import RedisBackend

__all__ = [
    "Event",
    "EventBackend",
    "EventBus",
    "EventEmitter",
    "LocalBackend",
    "MemoryBackend",
    "NatsBackend",
    "RedisBackend",
    "create_event_bus",
    "create_event_emitter",
    "event_handler",
]
