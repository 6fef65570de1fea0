"""Coroutines that wait for an event, or in a queue for things that only one can have.

``Waiters`` wakes all of them: use it for events, such as an end, that concern all. If one takes
something that the others then cannot have, use a ``Line`` or ``gates.Gates``: first come, first
served.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from ..exceptions import ConfigurationError
from ._checks import check_timeout

__all__ = ["Line", "Turn", "Waiters", "give_up", "require_loop", "running_loop", "wrong_loop"]

# The result for one that waits in one or more lines: the line that served it; None: too late.
Turn: TypeAlias = "asyncio.Future[Line | None]"


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
        "sessions and streams must be used in the loop that made them; make one client per loop, "
        "or call in with asyncio.run_coroutine_threadsafe()",
        config_key="loop",
    )


class Waiters:
    """Any number of coroutines that wait for one wake-up.

    The engine wakes it like a future (``done``, ``set_result``); it can be
    used again after each wake-up. A cancelled waiter leaves nothing behind.

    It belongs to the event loop in which it is created, or else first waited on: a coroutine of
    another loop would never be woken.

    Args:
        loop: The event loop, if the caller knows it; None: the running one, if there is one.

    Attributes:
        futures: The futures of waiting coroutines, in order. Use it where checks must be cheap.
        loop: The event loop.
    """

    __slots__ = ("futures", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.loop = running_loop() if loop is None else loop
        # There are several of these in every session, and nearly always nobody waits. A
        # dictionary, since any of them may leave, however many there are.
        self.futures: dict[asyncio.Future[bool], None] | None = None

    def __bool__(self) -> bool:
        return bool(self.futures)

    async def wait(
        self, timeout: float | None = None, *, arm: Callable[[], object] | None = None
    ) -> bool:
        """Wait for the next wake-up.

        Args:
            timeout: Seconds; None waits without limit.
            arm: Called when the wake-up cannot be missed anymore.

        Returns:
            False when ``timeout`` passed first.

        Raises:
            ConfigurationError: ``timeout`` is neither None nor 0 or more.
            ConfigurationError: The caller runs on another event loop.

        Cancellation: safe.
        """
        if timeout is not None:
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
            self.leave(future)

    def add(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[bool]:
        """Return a future for the next wake-up, for callers that are not coroutines.

        Raises:
            ConfigurationError: ``loop`` is another one than that of these waiters.
        """
        if loop is not self.loop:
            require_loop(self.loop, loop)
            self.loop = loop
        future = self._create(loop)
        if self.futures is None:
            self.futures = {future: None}
        else:
            self.futures[future] = None
        return future

    def leave(self, future: asyncio.Future[bool]) -> None:
        """A future of :meth:`add` is not needed any more."""
        if self.futures is not None:
            self.futures.pop(future, None)

    def _create(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[bool]:
        return loop.create_future()

    def wake(self) -> None:
        """Wake all that wait now."""
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


class Line:
    """Coroutines that queue for things of which each can have one: first come, first served.

    Code that has something to give serves the first in line. What it gives then belongs to that
    one, until it continues. A coroutine that is cancelled in the turn in which it was served leaves
    it to the next one: see ``leave``. Joining, being served and leaving take the same short time,
    however long the line is.

    A line is true while tasks wait, or were served and have not continued yet: then new callers
    join the line. Otherwise the one served first, which continues first, would take everything that
    is left before the second one continues, again and again.

    Attributes:
        served: How many were served and have not continued yet.
        turns: Futures of those that wait, in order. Use these two where checks must be cheap.
    """

    __slots__ = ("_gone", "served", "turns")

    def __init__(self) -> None:
        # Entries that gave up stay in it until their turn would come, or until they are many.
        self.turns: deque[Turn] = deque()
        self.served = 0
        self._gone = 0

    def __len__(self) -> int:
        """Count the waiting ones. To check whether there is any, use ``turns``."""
        return sum(not turn.done() for turn in self.turns)

    def __bool__(self) -> bool:
        return self.served > 0 or bool(self.turns)

    def serve(self) -> bool:
        """Serve the first in line; return False if nobody waits."""
        turns = self.turns
        while turns:
            turn = turns.popleft()
            if not turn.done():  # otherwise it has given up, or was served in another line
                self.served += 1
                turn.set_result(self)
                return True
        return False

    def serve_all(self) -> None:
        """Serve all."""
        while self.serve():
            pass

    def done(self) -> bool:
        """Nobody waits."""
        return not self.turns

    def set_result(self, result: None, /) -> None:
        """As ``serve_all``, for the engine."""
        self.serve_all()

    def fail(self, error: Callable[[], Exception]) -> None:
        """Let all waiting callers continue with an error.

        Args:
            error: Makes one.
        """
        turns = self.turns
        while turns:
            turn = turns.popleft()
            if not turn.done():
                turn.set_exception(error())

    def join(self, turn: Turn, *, first: bool = False) -> None:
        """Join the line. The caller must call ``leave``, whatever happens.

        Args:
            turn: A new future, to be awaited.
            first: Join at the head: the caller was served, but what it got was gone.

        Raises:
            ConfigurationError: Others wait on another event loop.
        """
        turns = self.turns
        if turns:
            require_loop(turns[0].get_loop(), turn.get_loop())
        if first:
            turns.appendleft(turn)
        else:
            turns.append(turn)

    def leave(self, turn: Turn) -> bool:
        """Leave the line.

        Returns:
            Whether it was served here. If it cannot use that now, it has to serve the next one.
        """
        if not turn.done():  # its coroutine was thrown away
            self.turns.remove(turn)
            return False
        if not turn.cancelled() and turn.exception() is None and turn.result() is self:
            self.served -= 1
            return True
        turns = self.turns
        while turns and turns[0].done():
            turns.popleft()
        self._gone += 1
        if self._gone > 64 and self._gone > len(turns) // 2:
            self._gone = 0
            self.turns = deque(other for other in turns if not other.done())
        return False

    async def wait(
        self,
        timeout: float | None = None,
        *,
        first: bool = False,
        pass_on: Callable[[], object] | None = None,
        arm: Callable[[], object] | None = None,
    ) -> bool:
        """Join the line and wait until it is this coroutine's turn.

        Args:
            timeout: Seconds; None waits without limit.
            first: As for ``join``.
            pass_on: Serves the next one in place of a coroutine that cannot go on; ``serve``.
            arm: Called once the coroutine stands in line; it may serve.

        Returns:
            False when ``timeout`` passed first.

        Raises:
            ConfigurationError: Others wait on another event loop.
            Exception: What ``fail`` was given.

        Cancellation: safe; the next one is served.
        """
        loop = asyncio.get_running_loop()
        turn: Turn = loop.create_future()
        self.join(turn, first=first)
        timer = None if timeout is None else loop.call_later(timeout, give_up, turn)
        try:
            if arm is not None:
                arm()
            served = await turn
        except BaseException:
            if self.leave(turn):
                (pass_on or self.serve)()
            raise
        finally:
            if timer is not None:
                timer.cancel()
        self.leave(turn)
        return served is not None


def give_up(turn: Turn) -> None:
    """The timeout of one that waits in line has passed."""
    if not turn.done():
        turn.set_result(None)


def _expire(future: asyncio.Future[bool]) -> None:
    if not future.done():
        future.set_result(False)
