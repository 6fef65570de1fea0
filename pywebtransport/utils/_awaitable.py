"""Results that are awaited, or stand there at once for those that do not await them."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Final, TypeAlias, TypeVar

__all__ = ["NO", "YES", "AwaitableBool", "Awaited", "awaited"]

_T = TypeVar("_T")
_MethodT = TypeVar("_MethodT", bound=Callable[..., Coroutine[Any, Any, Any]])

Awaited: TypeAlias = Coroutine[Any, Any, _T]
"""What a method returns that is awaited like a coroutine, and is none: it has no frame."""


def awaited(method: _MethodT) -> _MethodT:
    """Mark a method that returns ``Awaited``: mocks and frameworks see a coroutine function."""
    mark = getattr(inspect, "markcoroutinefunction", None)
    if mark is not None:
        marked: _MethodT = mark(method)
        return marked
    # Python 3.11: what asyncio.iscoroutinefunction() looks at.
    method._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]
    return method


class AwaitableBool(Coroutine[Any, Any, bool]):
    """True or False, as it stands and when awaited.

    Also a coroutine that has finished, so that it can be given to ``asyncio.create_task`` and
    the like. It has no state that changes: one object serves any number of callers.
    """

    __slots__ = ("_value",)

    def __init__(self, value: bool) -> None:
        self._value = value

    def __bool__(self) -> bool:
        return self._value

    def __eq__(self, other: object) -> bool:
        if isinstance(other, bool | AwaitableBool):
            return self._value == bool(other)
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return repr(self._value)

    def __await__(self) -> Generator[Any, Any, bool]:
        return self._value
        yield  # makes it a generator, which costs less than ``yield from ()``

    def send(self, value: Any, /) -> Any:
        """Coroutine protocol: return the value."""
        raise StopIteration(self._value)

    def throw(self, *args: Any) -> Any:
        """Coroutine protocol: raise."""
        return super().throw(*args)

    def close(self) -> None:
        """Coroutine protocol: nothing is left to do."""


YES: Final = AwaitableBool(True)
NO: Final = AwaitableBool(False)
