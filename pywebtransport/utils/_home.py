"""Objects that belong to one event loop."""

from __future__ import annotations

import asyncio

from ._waiters import require_loop

__all__ = ["HomeLoop"]


class HomeLoop:
    """The event loop in which an object was used first, and has to be used from then on.

    Sockets, timers and futures are of one loop; in another one they would hang, or fail
    with words about the inside.
    """

    __slots__ = ("_loop",)

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def enter(self) -> asyncio.AbstractEventLoop:
        """The running loop, which becomes that of the object if it has none.

        Raises:
            ConfigurationError: The object belongs to another loop.
        """
        loop = asyncio.get_running_loop()
        require_loop(self._loop, loop)
        self._loop = loop
        return loop

    @property
    def is_gone(self) -> bool:
        """The object's loop is closed: nothing can be waited for any more."""
        return self._loop is not None and self._loop.is_closed()
