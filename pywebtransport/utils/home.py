"""Objects that belong to one event loop."""

from __future__ import annotations

import asyncio

from pywebtransport.exceptions import WrongLoopError

__all__ = ["HomeLoop"]


class HomeLoop:
    """The event loop in which an object was used first, and has to be used from then on.

    Sockets, timers and futures are of one loop; in another one they would hang, or fail
    with words about the inside.

    Args:
        what: The object in words, such as ``the client``.
    """

    __slots__ = ("_loop", "_what")

    def __init__(self, what: str) -> None:
        self._what = what
        self._loop: asyncio.AbstractEventLoop | None = None

    def enter(self) -> asyncio.AbstractEventLoop:
        """The running loop, which becomes that of the object if it has none.

        Raises:
            WrongLoopError: The object belongs to another loop.
        """
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            closed = self._loop.is_closed()
            first = "which is closed" if closed else "and works in that one only"
            raise WrongLoopError(
                f"{self._what} was used in another event loop before, {first}: make one for each "
                "loop (each asyncio.run() has its own), and close it there",
                closed=closed,
            )
        return loop

    @property
    def is_gone(self) -> bool:
        """The object's loop is closed: nothing can be waited for any more."""
        return self._loop is not None and self._loop.is_closed()
