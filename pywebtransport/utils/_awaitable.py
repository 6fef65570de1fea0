"""A result that is there at once, for callers that await it and for those that do not."""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    # Nothing can be derived from bool, but for a type checker this is one: ``ok: bool = ...``.
    from builtins import bool as _Bool
else:
    _Bool = int

__all__ = ["NO", "YES", "AwaitableBool"]


class AwaitableBool(_Bool, Coroutine[Any, Any, bool]):  # type: ignore[misc]
    """True or False, as it stands and when awaited.

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
