"""Results for callers that await them and for those that use them in another way."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Generator
from contextlib import AbstractAsyncContextManager
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

if TYPE_CHECKING:
    # Nothing can be derived from bool, but for a type checker this is one: ``ok: bool = ...``.
    from builtins import bool as _Bool
else:
    _Bool = int

__all__ = ["NO", "YES", "AwaitableBool", "AwaitableContext", "Awaited", "awaited", "compiled"]

_T = TypeVar("_T", bound=AbstractAsyncContextManager[Any])
_ResultT = TypeVar("_ResultT")
_AnyMethodT = TypeVar("_AnyMethodT", bound=Callable[..., Any])
_MethodT = TypeVar("_MethodT", bound=Callable[..., Coroutine[Any, Any, Any]])

Awaited: TypeAlias = Coroutine[Any, Any, _ResultT]
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


def compiled(base: type) -> Callable[[_AnyMethodT], _AnyMethodT]:
    """Put a compiled method in the place of one that only calls it, and documents it.

    The call from Python would cost as much again as the compiled method. If that returns
    ``Awaited``, ``awaited`` stands above.

    Args:
        base: The compiled base of the class. Its method has the same name, with an underscore in
            front, and the same arguments; it belongs to this one class.
    """

    def replace(method: _AnyMethodT) -> _AnyMethodT:
        implementation: _AnyMethodT = getattr(base, f"_{method.__name__}")
        update_wrapper(implementation, method)
        return implementation

    return replace


class AwaitableBool(_Bool, Coroutine[Any, Any, bool]):  # type: ignore[misc]
    """True or False, directly and when awaited.

    It compares, counts and prints as a bool does, but is not one of the two objects: test it with
    ``if sent:``, not with ``sent is True``.

    Also a coroutine that has finished, so that it can be given to ``asyncio.create_task`` and
    the like. It has no state that changes: one object serves any number of callers.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "True" if self else "False"

    def __await__(self) -> Generator[Any, Any, bool]:
        return bool(self)
        yield  # makes it a generator, which costs less than ``yield from ()``

    def send(self, value: Any, /) -> Any:
        """Coroutine protocol: return the value."""
        raise StopIteration(bool(self))

    def throw(self, *args: Any) -> Any:
        """Coroutine protocol: raise."""
        return super().throw(*args)

    def close(self) -> None:
        """Coroutine protocol: nothing is left to do."""


YES: Final = AwaitableBool(True)
NO: Final = AwaitableBool(False)


class AwaitableContext(Coroutine[Any, Any, _T]):
    """``it = await open_it()``, or ``async with open_it() as it:``, which closes it."""

    __slots__ = ("_coroutine", "_opened")

    def __init__(self, coroutine: Coroutine[Any, Any, _T]) -> None:
        """Wait to be awaited or entered.

        Args:
            coroutine: Opens and returns it.
        """
        self._coroutine = coroutine
        self._opened: _T | None = None

    if not TYPE_CHECKING:  # a type checker reports attributes that it does not know

        def __getattr__(self, name: str) -> Any:
            """Nobody finds an attribute of the result here: say what is missing."""
            text = f"'{type(self).__name__.lstrip('_')}' object has no attribute {name!r}"
            if not name.startswith(("_", "cr_", "gi_", "ag_")):
                text += "; it is not open yet: await it, or use it in 'async with'"
            raise AttributeError(text, name=name, obj=self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__.lstrip('_')}: await it, or use it in 'async with'>"

    def __await__(self) -> Generator[Any, Any, _T]:
        return self._coroutine.__await__()

    def send(self, value: Any, /) -> Any:
        """Coroutine protocol: resume."""
        return self._coroutine.send(value)

    def throw(self, *args: Any) -> Any:
        """Coroutine protocol: raise inside."""
        return self._coroutine.throw(*args)

    def close(self) -> None:
        """Coroutine protocol: give up without running."""
        self._coroutine.close()

    async def __aenter__(self) -> _T:
        self._opened = await self._coroutine
        return self._opened

    async def __aexit__(self, *exc_info: Any) -> None:
        if self._opened is not None:
            await self._opened.__aexit__(*exc_info)
