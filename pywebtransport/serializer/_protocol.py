"""The interface of serializers, of this package and of applications."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

__all__ = ["Serializer"]


@runtime_checkable
class Serializer(Protocol):
    """Converts objects to bytes and back."""

    def serialize(self, *, obj: Any) -> bytes: ...

    def deserialize(self, *, data: bytes, obj_type: Any = None) -> Any: ...
