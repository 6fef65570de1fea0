"""Objects that belong to one event loop."""

from __future__ import annotations

import asyncio

from ._waiters import require_loop

__all__ = ["HomeLoop"]


class HomeLoop:
    """The event loop in which an object was first used, and in which it must be used.

    Sockets, timers and futures belong to one loop. In another one they would hang, or fail with
    messages about internals.
    """

    __slots__ = ("_loop",)

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def enter(self) -> asyncio.AbstractEventLoop:
        """Return the running loop, which becomes that of the object if it has none.

        Raises:
            ConfigurationError: The object belongs to another loop.
        """
        loop = asyncio.get_running_loop()
        require_loop(self._loop, loop)
        self._loop = loop
        return loop

    @property
    def is_gone(self) -> bool:
        """Whether the loop of the object is closed: then nothing can be waited for."""
        return self._loop is not None and self._loop.is_closed()
