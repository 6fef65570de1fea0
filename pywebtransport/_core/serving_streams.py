"""A handler for each stream that the peer opens: ``session.serve_streams``."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, Literal, overload

from ..constants import MAX_APPLICATION_CODE
from ..exceptions import invalid_config
from ..utils._async_functions import why_not_awaitable
from ..utils._checks import check_instance, check_integer, check_signature
from ..utils._failures import describe_error, is_normal_end, log_application_error, name_of
from ..utils._tasks import cancel_in_turns, is_being_cancelled, start_task
from ..utils._waiters import require_loop
from .incoming_streams import IncomingStreams
from .receive_stream import WebTransportReceiveStream
from .stream import WebTransportStream, finish_stream

if TYPE_CHECKING:
    from .session import WebTransportSession

__all__ = ["serve_streams"]

_MOST: Final = 1 << 20
"""Handlers at the same time; a bound that only catches mistakes."""

_Handler = Callable[[Any], Awaitable[object]]


@overload
async def serve_streams(
    session: WebTransportSession,
    handler: Callable[[WebTransportStream], Awaitable[object]],
    *,
    unidirectional: Literal[False] = False,
    max_concurrent: int = 100,
    error_code: int = 1,
) -> None: ...
@overload
async def serve_streams(
    session: WebTransportSession,
    handler: Callable[[WebTransportReceiveStream], Awaitable[object]],
    *,
    unidirectional: Literal[True],
    max_concurrent: int = 100,
    error_code: int = 1,
) -> None: ...
async def serve_streams(
    session: WebTransportSession,
    handler: _Handler,
    *,
    unidirectional: bool = False,
    max_concurrent: int = 100,
    error_code: int = 1,
) -> None:
    """Start a handler for each stream that the peer opens, until the session ends.

    Each handler runs in a task of its own. On Python 3.12 and later its first step is taken
    at once, without a turn of the event loop, unless you set a task factory.

    When a handler returns, its stream is finished, as at the end of ``async with stream:``. When
    it raises an exception, this is logged, and the stream is reset and stopped with
    ``error_code``. Other streams are not affected. If the peer resets or stops a stream, the
    error that its handler gets because of this is normal and is not logged.

    Args:
        handler: ``async def handler(stream)``, called with each stream.
        unidirectional: Serve the peer's unidirectional streams instead of the bidirectional
            ones. For both, call this twice, in two tasks.
        max_concurrent: How many handlers may run at the same time. Further streams wait until
            they are accepted; ``max_incoming_streams`` limits how many.
        error_code: Application error code, 0 to 2**32 - 1, for streams whose handler failed or
            was cancelled.

    Returns:
        After the end of the session, once all handlers have ended. They are not cancelled: their
        streams raise ``SessionClosedError``.

    Raises:
        ConfigurationError: An argument is invalid, or the session belongs to another event loop;
            no stream was accepted.

    Cancellation: all handlers are cancelled, and waited for. The session stays open.
    """
    check_signature("handler", handler, "async def handler(stream)", None)
    if why := why_not_awaitable(handler):
        reason = f"{why}; write 'async def handler(stream)'"
        raise invalid_config(key="handler", value=handler, reason=reason)
    check_instance("unidirectional", unidirectional, bool)
    check_integer("max_concurrent", max_concurrent, 1, _MOST)
    check_integer("error_code", error_code, 0, MAX_APPLICATION_CODE)
    require_loop(session._loop, asyncio.get_running_loop())
    streams: IncomingStreams[Any] = IncomingStreams(
        session, bidirectional=not unidirectional, unidirectional=unidirectional
    )
    running = _Running(max_concurrent)
    try:
        async for stream in streams:
            running.start(_serve(stream, handler, error_code))
            if running.is_full:
                await running.wait_for_room()
        await running.wait()
    except asyncio.CancelledError:
        await running.cancel()
        raise


class _Running:
    """The tasks of the handlers that run.

    Args:
        limit: How many there may be.
    """

    __slots__ = ("_limit", "_loop", "_room", "_tasks")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._room: asyncio.Future[None] | None = None

    @property
    def is_full(self) -> bool:
        """No further task may be started."""
        return len(self._tasks) >= self._limit

    def start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Start a task; on Python 3.12 and later it may have ended when this returns."""
        task = start_task(self._loop, coroutine)
        if not task.done():
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    async def wait_for_room(self) -> None:
        """Wait until another task may be started."""
        while self.is_full:
            self._room = self._loop.create_future()
            try:
                await self._room
            finally:
                self._room = None

    async def wait(self) -> None:
        """Wait for the end of all."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def cancel(self) -> None:
        """Cancel all and wait for them."""
        cancel_in_turns(tuple(self._tasks))
        await self.wait()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._room is not None and not self._room.done():
            self._room.set_result(None)


async def _serve(
    stream: WebTransportStream | WebTransportReceiveStream, handler: _Handler, error_code: int
) -> None:
    try:
        await handler(stream)
    except BaseException as error:
        _abort(stream, error_code)
        if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
            raise
        if isinstance(error, asyncio.CancelledError) and is_being_cancelled():
            raise
        _tell(stream, handler, error)
    else:
        finish_stream(stream)


def _abort(stream: WebTransportStream | WebTransportReceiveStream, code: int) -> None:
    if isinstance(stream, WebTransportStream):
        stream.reset(code)
    stream.stop_sending(code)


def _tell(
    stream: WebTransportStream | WebTransportReceiveStream, handler: _Handler, error: BaseException
) -> None:
    session = stream.session
    logger = session._logger
    if not is_normal_end(error, session):
        log_application_error(logger, f"stream handler {name_of(handler)}", error, session=session)
    elif logger.isEnabledFor(logging.DEBUG):
        logger.debug("a handler of stream %d ended: %s", stream.stream_id, describe_error(error))
