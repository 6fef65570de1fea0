"""Registry of message types: maps type IDs to classes, and objects to bytes."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any, Protocol, TypeVar, cast

from ..exceptions import ConfigurationError, SerializationError
from ..utils._text import printable
from ..utils._turns import Turns
from ._limits import PIECE
from ._protocol import Serializer
from ._rebuild import rebuild_in_turns
from ._texts import shown
from .json import JSONSerializer
from .msgpack import MsgPackSerializer

__all__ = ["MessageCodec"]

_MAX_TYPE_ID = 0xFFFF
# Bytes in memory per byte of a message, if the serializer has no estimate.
_GROWTH = 4
_QUICK = 65_536
"""Messages up to this size in memory are decoded at once, in some tens of microseconds."""


_T = TypeVar("_T")


class _InSteps(Protocol):
    """A serializer that lets other tasks run while it scans a large message."""

    def _size_steps(self, data: bytes, /) -> Generator[None, None, int]: ...
    def _plain_steps(self, data: bytes, /) -> Generator[None, None, Any]: ...


class MessageCodec:
    """A registry of message types and the serializer for them."""

    __slots__ = (
        "_deserialize",
        "_ids",
        "_own",
        "_serialize",
        "_size",
        "_types",
    )

    def __init__(self, serializer: Serializer, registry: Mapping[int, type[Any]]) -> None:
        """Create a codec with a copy of the registry.

        Args:
            serializer: Turns the objects into bytes and back.
            registry: Class of each type ID, 0 to 65535; both ends have the same.

        Raises:
            ConfigurationError: The registry is not a mapping, the serializer lacks a method, a type
                ID is out of range, or a class is registered twice.
        """
        # isinstance() with a protocol takes microseconds, and every RPC call comes here.
        usable = hasattr(serializer, "serialize") and hasattr(serializer, "deserialize")
        if not usable or isinstance(serializer, type):
            raise ConfigurationError(
                f"serializer must have serialize() and deserialize(), got {printable(serializer)}",
                config_key="serializer",
                config_value=serializer,
            )
        if not isinstance(registry, Mapping):
            raise _bad_registry(
                f"must map type IDs to classes, got {printable(registry)}", registry
            )
        ids: dict[type[Any], int] = {}
        for type_id, cls in registry.items():
            if type(type_id) is not int or not 0 <= type_id <= _MAX_TYPE_ID:
                raise _bad_registry(
                    f"has type ID {shown(type_id)}, not 0 to {_MAX_TYPE_ID}", type_id
                )
            if not isinstance(cls, type):
                raise _bad_registry(
                    f"must have a class for type ID {type_id}, got {printable(cls)}", cls
                )
            if cls in ids:
                raise _bad_registry(
                    f"has {cls.__qualname__} twice, as {ids[cls]} and {type_id}", cls
                )
            ids[cls] = type_id
        self._ids = ids
        self._types = dict(registry)
        self._serialize = serializer.serialize
        self._deserialize = serializer.deserialize
        self._size: Callable[[bytes], int] | None = getattr(serializer, "decoded_size", None)
        # Serializers of an application may treat classes as they like.
        self._own: _InSteps | None = None
        if type(serializer) in (JSONSerializer, MsgPackSerializer):
            self._own = cast("_InSteps", serializer)

    def encode(self, obj: Any) -> tuple[int, bytes]:
        """Type ID and payload of an object.

        Raises:
            SerializationError: Its class is not registered, or the serializer refuses it.
        """
        type_id = self._ids.get(type(obj))
        if type_id is None:
            raise SerializationError(
                f"{type(obj).__qualname__} is not in the registry, which has "
                f"{', '.join(cls.__qualname__ for cls in self._ids) or 'no class'}"
            )
        try:
            return type_id, self._serialize(obj=obj)
        except SerializationError:
            raise
        except Exception as error:  # a serializer of the application
            raise SerializationError(
                f"cannot serialize {type(obj).__qualname__}: {error}", original_exception=error
            ) from error

    def decode(self, type_id: int, payload: bytes) -> Any:
        """The object of a type ID and a payload.

        Raises:
            SerializationError: The type ID is not registered, or the payload is malformed;
                ``details["type_id"]`` has the ID.
        """
        cls = self._types.get(type_id)
        if cls is None:
            raise SerializationError(
                f"the registry has no type ID {type_id} (message of {len(payload)} bytes)",
                details={"type_id": type_id},
            )
        try:
            return self._deserialize(data=payload, obj_type=cls)
        except SerializationError as error:
            error.details["type_id"] = type_id
            raise
        except Exception as error:  # a serializer of the application
            raise SerializationError(
                f"cannot deserialize {cls.__qualname__}: {error}",
                details={"type_id": type_id},
                original_exception=error,
            ) from error

    def decoded_size(self, payload: bytes) -> int:
        """Bytes that a message takes in memory once it is decoded, at most, as far as known."""
        return _GROWTH * len(payload) if self._size is None else self._size(payload)

    async def decoded_size_in_turns(self, payload: bytes, turns: Turns | None = None) -> int:
        """As ``decoded_size``; a large message waits for its turn even for that.

        Args:
            payload: The message.
            turns: Of the peer that sent it.

        Cancellation: safe.
        """
        if len(payload) <= PIECE:
            return self.decoded_size(payload)
        turns = turns or Turns.of()
        await turns.pause()
        if self._own is None:
            return self.decoded_size(payload)
        return await _in_turns(self._own._size_steps(payload), turns)

    async def decode_in_turns(
        self,
        type_id: int,
        payload: bytes,
        memory: int | None = None,
        turns: Turns | None = None,
    ) -> Any:
        """As ``decode``, for what comes from a peer: a large message waits for its turn.

        It is looked at, and objects of an application's classes are made, a slice of a turn at
        a time.

        Args:
            type_id: What the message is.
            payload: Its bytes.
            memory: Its ``decoded_size``, if that is known.
            turns: Of the peer that sent it.

        Cancellation: safe; the message is lost.
        """
        if (self.decoded_size(payload) if memory is None else memory) <= _QUICK:
            return self.decode(type_id, payload)
        turns = turns or Turns.of()
        await turns.pause()
        cls = self._types.get(type_id)
        if cls is None or self._own is None:
            with _uninterrupted(turns):
                return self.decode(type_id, payload)
        try:
            plain = await _in_turns(self._own._plain_steps(payload), turns)
            await turns.pause()
            return await rebuild_in_turns(plain, cls, turns)
        except SerializationError as error:
            error.details["type_id"] = type_id
            raise

    def knows(self, type_id: int) -> bool:
        """The type ID is registered."""
        return type_id in self._types


async def _in_turns(steps: Generator[None, None, _T], turns: Turns) -> _T:
    """Take steps, with pauses when the slice of a turn is used up.

    Cancellation: safe; the rest is not done.
    """
    while True:
        try:
            with _uninterrupted(turns):
                next(steps)
        except StopIteration as end:
            value: _T = end.value
            return value
        await turns.pause()


@contextlib.contextmanager
def _uninterrupted(turns: Turns) -> Iterator[None]:
    """Account for the time of work that cannot be interrupted, with garbage collection paused.

    Otherwise thousands of new objects would trigger collections of all objects of the process,
    which take many times as long as the message. Parsers leave no garbage.
    """
    enabled = gc.isenabled()
    gc.disable()
    # The time of this thread: other threads may use the processor meanwhile.
    began = time.thread_time_ns()
    try:
        yield
    finally:
        turns.took(time.thread_time_ns() - began)
        if enabled:
            gc.enable()


def _bad_registry(what: str, value: Any) -> ConfigurationError:
    return ConfigurationError(f"registry {what}", config_key="registry", config_value=value)
