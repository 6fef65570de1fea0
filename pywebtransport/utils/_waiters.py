"""Coroutines that wait: for one fact, or in line for things that only one of them can have.

``Waiters`` wakes everybody: it is for facts, such as an end, of which each may make use. Where
one takes what another one then lacks, it is a ``Line`` or ``gates.Gates``: first come, first
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

# Of one who stands in a line, or in several: the one in which it was served; None: too late.
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
        futures: Of those who wait, in order. Ask it where asking has to be cheap.
        loop: The event loop.
    """

    __slots__ = ("futures", "loop")

    def __init__(self) -> None:
        self.loop = running_loop()
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
            arm: Called once the wake-up cannot be missed any more.

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
            if self.futures is not None:
                self.futures.pop(future, None)

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
            self.futures = {future: None}
        else:
            self.futures[future] = None
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


class Line:
    """Coroutines in line for things of which each can have one: first come, first served.

    Whoever has something to give serves the first in line; what it gives then belongs to that
    one, and waits until it goes on. One who is cancelled in the turn in which it was served
    leaves it to the next: see ``leave``. Joining, being served and leaving take the same short
    time however long the line is.

    A line is true as long as somebody waits, or was served and did not go on yet: whoever
    comes meanwhile joins the line. Otherwise the first one served would, going on first, take
    all that is left before the second one goes on, again and again.

    Attributes:
        served: How many were served and did not go on yet.
        turns: Of those who wait, in order. Ask these two where asking has to be cheap.
    """

    __slots__ = ("_gone", "served", "turns")

    def __init__(self) -> None:
        # Those who gave up stay in it until their turn would come, or until they are many.
        self.turns: deque[Turn] = deque()
        self.served = 0
        self._gone = 0

    def __len__(self) -> int:
        """How many wait. It counts them: ask ``turns`` whether there is anybody."""
        return sum(not turn.done() for turn in self.turns)

    def __bool__(self) -> bool:
        return self.served > 0 or bool(self.turns)

    def serve(self) -> bool:
        """It is the turn of the first in line; False: nobody waits."""
        turns = self.turns
        while turns:
            turn = turns.popleft()
            if not turn.done():  # else it has given up, or was served in another line
                self.served += 1
                turn.set_result(self)
                return True
        return False

    def serve_all(self) -> None:
        """It is the turn of everybody."""
        while self.serve():
            pass

    def done(self) -> bool:
        """Nobody waits."""
        return not self.turns

    def set_result(self, result: None, /) -> None:
        """As ``serve_all``, for the engine."""
        self.serve_all()

    def fail(self, error: Callable[[], Exception]) -> None:
        """Let everybody who waits go on with an error of their own.

        Args:
            error: Makes one.
        """
        turns = self.turns
        while turns:
            turn = turns.popleft()
            if not turn.done():
                turn.set_exception(error())

    def join(self, turn: Turn, *, first: bool = False) -> None:
        """Stand in line. Whoever does calls ``leave``, whatever happens.

        Args:
            turn: A new future, to be awaited.
            first: At the head, after what one was served with was not there any more.

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
        """Whoever stood in line goes on.

        Returns:
            It was served here. One that cannot use that now has to leave it to the next.
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
    """The time of one who stands in line is over."""
    if not turn.done():
        turn.set_result(None)


def _expire(future: asyncio.Future[bool]) -> None:
    if not future.done():
        future.set_result(False)
