"""Waiting for facts without clocks, and cancelling at a chosen await."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
from contextlib import suppress
from typing import Any, TypeVar

from pywebtransport.exceptions import SessionClosedError
from pywebtransport.session import WebTransportSession
from pywebtransport.stream import WebTransportReceiveStream, WebTransportStream
from pywebtransport.utils import wait_for_condition

T = TypeVar("T")


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until ``condition()`` is true; the limit of the test bounds it."""
    await wait_for_condition(lambda: bool(condition()), interval=0.001)


async def until_true(check: Callable[[], Awaitable[object]]) -> None:
    """As ``until``, for a condition that has to be awaited."""
    while not await check():  # noqa: ASYNC110  there is no event to wait for
        await asyncio.sleep(0.001)


def once_set(event: asyncio.Event) -> Callable[[WebTransportSession], Awaitable[bool]]:
    """A middleware: requests are answered when ``event`` is set."""

    async def hesitate(session: WebTransportSession) -> bool:
        await event.wait()
        return True

    return hesitate


async def echo_bidirectional(session: WebTransportSession) -> None:
    """A handler: every bidirectional stream gets back what it sent, as it comes."""
    tasks = set()
    async for stream in session.incoming_bidirectional_streams():
        task = asyncio.create_task(_echo(stream))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)


async def _echo(stream: WebTransportStream) -> None:
    with suppress(SessionClosedError):  # the session ended before its stream did
        async for chunk in stream:
            await stream.write(chunk)
        await stream.close()


async def take(session: WebTransportSession) -> WebTransportStream:
    """The next bidirectional stream of the peer."""
    return await anext(aiter(session.incoming_bidirectional_streams()))


async def take_unidirectional(session: WebTransportSession) -> WebTransportReceiveStream:
    """The next unidirectional stream of the peer."""
    return await anext(aiter(session.incoming_unidirectional_streams()))


def far_end(
    sessions: Iterable[WebTransportSession], near: WebTransportSession
) -> WebTransportSession:
    """The one of the other side's ``sessions`` that ``near`` is the end of."""
    secret = near.export_keying_material(b"which session")
    return next(far for far in sessions if far.export_keying_material(b"which session") == secret)


async def round_trip(near: WebTransportSession, far: WebTransportSession, text: bytes) -> None:
    """Show that both ends still work: ``text`` there on one stream and back on another."""
    there = await near.create_unidirectional_stream()
    await there.write_all(text)
    assert await (await take_unidirectional(far)).read_all() == text
    back = await far.create_unidirectional_stream()
    await back.write_all(text)
    assert await (await take_unidirectional(near)).read_all() == text


async def cancelled_at(operation: Callable[[], Coroutine[Any, Any, T]], index: int) -> bool:
    """Run ``operation`` in a task that is cancelled at its await number ``index``.

    Returns:
        True if it was cancelled there; False if it ended before it came so far.
    """
    reached = False

    @types.coroutine
    def drive(coroutine: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
        nonlocal reached
        count = 0
        error: BaseException | None = None
        while True:
            try:
                awaited = coroutine.send(None) if error is None else coroutine.throw(error)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
            if count == index:
                reached = True
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            count += 1
            error = None
            try:
                yield awaited
            except BaseException as thrown:
                error = thrown

    async def run() -> T:
        return await drive(operation())

    task = asyncio.create_task(run())
    await asyncio.wait({task})
    if not task.cancelled():
        exception = task.exception()
        if exception is not None:
            raise exception
        assert not reached, "the operation swallowed its cancellation"
    return reached
