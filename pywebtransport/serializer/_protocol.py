"""What a serializer is; the package's own and an application's."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

__all__ = ["Serializer"]


@runtime_checkable
class Serializer(Protocol):
    """Turns objects into bytes and back."""

    def serialize(self, *, obj: Any) -> bytes: ...

    def deserialize(self, *, data: bytes, obj_type: Any = None) -> Any: ...
