"""The ``lifespan`` scope: start-up and shutdown of an ASGI application."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from ..utils._failures import describe_error, log_application_error
from ..utils._stuck import end_tasks
from ..utils._tasks import is_being_cancelled
from ..utils._text import printable
from ._errors import AsgiMessageError, LifespanError
from ._messages import required
from ._types import AsgiApp, Message

__all__ = ["LIFESPANS", "Lifespan"]

LIFESPANS: Final = ("auto", "on", "off")

_STARTUP = "lifespan.startup"
_SHUTDOWN = "lifespan.shutdown"

_logger = logging.getLogger("pywebtransport.asgi")


class Lifespan:
    """Runs the application once with the ``lifespan`` scope, from start-up to shutdown.

    Args:
        app: The application.
        state: What it leaves for its requests; the same dictionary for the whole life.
        mode: One of ``LIFESPANS``.
        startup_timeout: Seconds.
        shutdown_timeout: Seconds.
    """

    def __init__(
        self,
        app: AsgiApp,
        state: dict[str, Any],
        *,
        mode: str,
        startup_timeout: float,
        shutdown_timeout: float,
    ) -> None:
        self._app = app
        self._state = state
        self._mode = mode
        self._startup_timeout = startup_timeout
        self._shutdown_timeout = shutdown_timeout
        self._task: asyncio.Task[BaseException | None] | None = None
        self._events: asyncio.Queue[Message] = asyncio.Queue()
        self._answers: dict[str, asyncio.Future[str | None]] = {}
        self._told = ""  # the last event that the application received

    async def startup(self) -> None:
        """Start the application, and wait until it is ready.

        Raises:
            LifespanError: It failed, or was not ready in time.

        Cancellation: the application is cancelled.
        """
        if self._mode == "off" or self._task is not None:
            return
        loop = asyncio.get_running_loop()
        self._events = asyncio.Queue()
        self._told = ""
        self._answers = {name: loop.create_future() for name in (_STARTUP, _SHUTDOWN)}
        task = loop.create_task(self._run(), name="ASGI lifespan")
        try:
            if await self._has_started(task):
                self._task = task
        finally:
            if self._task is None:
                await end_tasks([task], timeout=0.0, logger=_logger, what="ASGI lifespans")

    async def _has_started(self, task: asyncio.Task[BaseException | None]) -> bool:
        answer = await self._ask(_STARTUP, task, self._startup_timeout)
        if answer.done():
            failure = answer.result()
            if failure is not None:
                raise LifespanError(f"the application failed to start: {printable(failure, 1000)}")
            return True
        if not task.done():
            raise LifespanError(
                "the application did not send lifespan.startup.complete within "
                f"{self._startup_timeout:g} seconds"
            )
        error = task.result()
        why = "it returned" if error is None else describe_error(error)
        if self._mode == "on":
            raise LifespanError(f"the application does not support lifespan: {why}") from error
        # One that has asked for the event knows the scope: then this is hardly what it wants.
        level = logging.WARNING if self._told and error is not None else logging.INFO
        _logger.log(level, "the application is served without lifespan: %s", why)
        return False

    async def shutdown(self) -> None:
        """Let the application shut down. Errors are logged.

        Cancellation: the application is cancelled.
        """
        task, self._task = self._task, None
        if task is None:
            return
        try:
            if task.done():
                return
            answer = await self._ask(_SHUTDOWN, task, self._shutdown_timeout)
            if answer.done():
                failure = answer.result()
                if failure is not None:
                    _logger.error(
                        "the application failed to shut down: %s", printable(failure, 1000)
                    )
                # What remains is to return.
                await asyncio.wait([task], timeout=self._shutdown_timeout)
            elif not task.done():
                _logger.error(
                    "the application did not send lifespan.shutdown.complete within %g seconds",
                    self._shutdown_timeout,
                )
        finally:
            await end_tasks([task], timeout=0.0, logger=_logger, what="ASGI lifespans")

    async def _ask(
        self, event: str, task: asyncio.Task[BaseException | None], timeout: float
    ) -> asyncio.Future[str | None]:
        """Send an event; wait until the application answers or ends, or the time is up."""
        answer = self._answers[event]
        both: list[asyncio.Future[Any]] = [task, answer]
        self._events.put_nowait({"type": event})
        await asyncio.wait(both, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        return answer

    async def _run(self) -> BaseException | None:
        """Run the application; return what it raised, if nobody knows of it yet."""
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self._state,
        }
        self._state.clear()
        started = self._answers[_STARTUP]
        try:
            await self._app(scope, self._receive, self._send)
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and is_being_cancelled():
                raise
            if not isinstance(error, Exception | asyncio.CancelledError):
                raise
            if not started.done():
                return error
            ended = self._answers[_SHUTDOWN]
            # Frameworks raise again what they have reported as a failure.
            if started.result() is None and not (ended.done() and ended.result() is not None):
                log_application_error(_logger, "lifespan of the application", error)
        return None

    async def _receive(self) -> Message:
        message = await self._events.get()
        self._told = message["type"]
        return message

    async def _send(self, message: Message) -> None:
        kind = required(message, "type")
        for event, answer in self._answers.items():
            if kind in (f"{event}.complete", f"{event}.failed"):
                if self._told != event or answer.done():
                    raise AsgiMessageError(f"{kind} is not expected now")
                failed = kind.endswith("failed")
                answer.set_result(str(message.get("message", "")) if failed else None)
                return
        raise AsgiMessageError(f"a lifespan has no message of the type '{printable(kind)}'")
