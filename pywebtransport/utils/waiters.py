"""Coroutines that wait for one fact."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pywebtransport.exceptions import ConfigurationError
from pywebtransport.utils.checks import check_timeout

__all__ = ["Waiters", "require_loop", "running_loop", "wrong_loop"]


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop that runs in this thread now, if there is one."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def require_loop(
    own: asyncio.AbstractEventLoop | None, running: asyncio.AbstractEventLoop | None
) -> None:
    """Check that an object is used on the event loop that it belongs to.

    Args:
        own: The object's; None: it belongs to none yet.
        running: The caller's.

    Raises:
        ConfigurationError: They differ.
    """
    if own is not None and own is not running:
        raise wrong_loop(own)


def wrong_loop(own: asyncio.AbstractEventLoop) -> ConfigurationError:
    """The error for the use of an object that belongs to another event loop.

    Args:
        own: The object's.
    """
    what = "has ended" if own.is_closed() else "is another one, or runs in another thread"
    return ConfigurationError(
        f"the event loop that this object belongs to {what}: clients, servers, connections, "
        "sessions and streams are used in the loop that made them; make a client for each loop, "
        "or call in with asyncio.run_coroutine_threadsafe()",
        config_key="loop",
    )


class Waiters:
    """Any number of coroutines behind one wake-up.

    The engine wakes it like a future (``done``, ``set_result``); it can be
    used again after each wake-up. A cancelled waiter leaves nothing behind.

    It belongs to the event loop in which it is made, or else first waited on: whoever
    waits on another one would never be woken.

    Attributes:
        futures: Of those who wait. Ask it where asking has to be cheap.
        loop: The event loop.
    """

    __slots__ = ("futures", "loop")

    def __init__(self) -> None:
        self.loop = running_loop()
        # There are several of these in every session, and nearly always nobody waits.
        self.futures: list[asyncio.Future[bool]] | None = None

    def __bool__(self) -> bool:
        return bool(self.futures)

    async def wait(
        self, timeout: float | None = None, *, arm: Callable[[], object] | None = None
    ) -> bool:
        """Wait for the next wake-up.

        Args:
            timeout: Seconds; None waits without limit.
            arm: Called once the wake-up cannot be missed any more.

        Returns:
            False when ``timeout`` passed first.

        Raises:
            ConfigurationError: ``timeout`` is neither None nor 0 or more.
            ConfigurationError: The caller runs on another event loop.

        Cancellation: safe.
        """
        timeout = check_timeout("timeout", timeout)
        loop = asyncio.get_running_loop()
        future = self.add(loop)
        # A timer on the future costs a third of asyncio.timeout(), which cancels the task.
        timer = None if timeout is None else loop.call_later(timeout, _expire, future)
        try:
            if arm is not None:
                arm()
            return await future
        finally:
            if timer is not None:
                timer.cancel()
            if self.futures is not None and future in self.futures:
                self.futures.remove(future)

    def add(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[bool]:
        """Make a future of the next wake-up, for callers that are no coroutines.

        Raises:
            ConfigurationError: ``loop`` is another one than that of these waiters.
        """
        if loop is not self.loop:
            require_loop(self.loop, loop)
            self.loop = loop
        future: asyncio.Future[bool] = loop.create_future()
        if self.futures is None:
            self.futures = [future]
        else:
            self.futures.append(future)
        return future

    def wake(self) -> None:
        """Let everybody who waits now go on."""
        futures = self.futures
        if futures is None:
            return
        self.futures = None
        for future in futures:
            if not future.done():
                future.set_result(True)

    def done(self) -> bool:
        """Nobody waits."""
        return not self.futures

    def set_result(self, result: None, /) -> None:
        """As ``wake``, for the engine."""
        self.wake()


def _expire(future: asyncio.Future[bool]) -> None:
    if not future.done():
        future.set_result(False)
