"""``session.serve_streams``: a handler for each stream of the peer."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pywebtransport import ConfigurationError, WebTransportSession, WebTransportStream
from pywebtransport.exceptions import SessionClosedError, StreamResetError, StreamStoppedError
from pywebtransport.stream import WebTransportReceiveStream
from tests.support.endpoints import PairOfSessions
from tests.support.leaks import ExpectedLogs
from tests.support.steps import take, until

every_loop = pytest.mark.loops("asyncio", "uvloop", "virtual")


async def echo(stream: WebTransportStream) -> None:
    await stream.write_all(await stream.read_all())


async def ask(session: WebTransportSession, text: bytes) -> bytes:
    stream = await session.create_bidirectional_stream()
    await stream.write_all(text)
    return await stream.read_all()


@every_loop
async def test_each_stream_has_a_handler(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        serving = asyncio.create_task(far.serve_streams(echo))
        texts = [b"%d" % number for number in range(50)]
        assert await asyncio.gather(*(ask(near, text) for text in texts)) == texts
        await near.close()
        await serving


@every_loop
async def test_either_end_serves(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        serving = asyncio.create_task(near.serve_streams(echo))
        assert await ask(far, b"a question of the server") == b"a question of the server"
        await far.close()
        await serving


@every_loop
async def test_unidirectional_streams_are_served_beside_the_others(pair: PairOfSessions) -> None:
    got: list[bytes] = []

    async def note(stream: WebTransportReceiveStream) -> None:
        got.append(await stream.read_all())

    async with pair() as (near, far):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(far.serve_streams(note, unidirectional=True))
            tasks.create_task(far.serve_streams(echo))
            for text in (b"one", b"two"):
                stream = await near.create_unidirectional_stream()
                await stream.write_all(text)
                assert await ask(near, text) == text
            await until(lambda: len(got) == 2)
            await near.close()
        assert sorted(got) == [b"one", b"two"]


@every_loop
async def test_streams_that_came_before_the_call_are_served(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        asking = [asyncio.create_task(ask(near, b"%d" % number)) for number in range(3)]
        await until(lambda: len(far._incoming_bidi or ()) == 3)
        serving = asyncio.create_task(far.serve_streams(echo))
        assert [await one for one in asking] == [b"0", b"1", b"2"]
        await near.close()
        await serving


@every_loop
async def test_only_so_many_handlers_run_and_further_streams_wait(pair: PairOfSessions) -> None:
    running: list[bytes] = []
    most = 0
    gate = asyncio.Event()

    async def slow(stream: WebTransportStream) -> None:
        nonlocal most
        text = await stream.read_all()
        running.append(text)
        most = max(most, len(running))
        await gate.wait()
        running.remove(text)
        await stream.write_all(text)

    async with pair() as (near, far):
        serving = asyncio.create_task(far.serve_streams(slow, max_concurrent=3))
        asking = [asyncio.create_task(ask(near, b"%d" % number)) for number in range(10)]
        await until(lambda: len(running) == 3)
        await until(lambda: len(far._incoming_bidi or ()) == 7)
        gate.set()
        assert [await one for one in asking] == [b"%d" % number for number in range(10)]
        assert most == 3
        await near.close()
        await serving


@every_loop
async def test_further_streams_are_refused_when_too_many_wait(pair: PairOfSessions) -> None:
    started = asyncio.Event()

    async def hang(stream: WebTransportStream) -> None:
        started.set()
        await stream.read_all()

    async with pair(server={"max_incoming_streams": 2}) as (near, far):
        serving = asyncio.create_task(far.serve_streams(hang, max_concurrent=1))
        streams = []
        for _ in range(2):
            streams.append(await near.create_bidirectional_stream())
            await streams[-1].write(b"x")
        await started.wait()
        await until(lambda: len(far._incoming_bidi or ()) == 1)
        await near.close()
        await serving


@every_loop
async def test_what_a_handler_leaves_open_is_finished(pair: PairOfSessions) -> None:
    async def answer(stream: WebTransportStream) -> None:
        await stream.write(b"answer")

    async def ignore(stream: WebTransportReceiveStream) -> None:
        pass

    async with pair() as (near, far):
        serving = [
            asyncio.create_task(far.serve_streams(answer)),
            asyncio.create_task(far.serve_streams(ignore, unidirectional=True)),
        ]
        stream = await near.create_bidirectional_stream()
        await stream.write(b"no end")
        assert await stream.read_all() == b"answer"
        assert await stream.wait_stopped() == 0
        one_way = await near.create_unidirectional_stream()
        await one_way.write(b"no end")
        assert await one_way.wait_stopped() == 0
        await stream.abort()
        await one_way.abort()
        await until(lambda: not far.open_streams())
        await near.close()
        await asyncio.gather(*serving)


@every_loop
async def test_an_error_is_logged_and_ends_one_stream(
    pair: PairOfSessions, expected_logs: ExpectedLogs, caplog: pytest.LogCaptureFixture
) -> None:
    expected_logs("stream handler .*fail raised ZeroDivisionError")

    async def fail(stream: WebTransportStream) -> None:
        text = await stream.read_all()
        if text == b"bad":
            raise ZeroDivisionError("no\nway")
        await stream.write_all(text)

    async with pair() as (near, far):
        serving = asyncio.create_task(far.serve_streams(fail, error_code=77))
        with pytest.raises(StreamResetError) as caught:
            await ask(near, b"bad")
        assert caught.value.error_code == 77
        assert await ask(near, b"good") == b"good"
        assert not serving.done()
        await near.close()
        await serving
    (record,) = [one for one in caplog.records if "stream handler" in one.getMessage()]
    assert record.name == "pywebtransport.session"
    assert record.exc_text is not None
    assert "in fail" in record.exc_text
    assert "no\\nway" in record.getMessage()


@every_loop
async def test_many_errors_are_logged_as_few_lines(
    pair: PairOfSessions, expected_logs: ExpectedLogs, caplog: pytest.LogCaptureFixture
) -> None:
    expected_logs("stream handler .*fail raised ZeroDivisionError")

    async def fail(stream: WebTransportStream) -> None:
        raise ZeroDivisionError

    async with pair() as (near, far):
        serving = asyncio.create_task(far.serve_streams(fail))
        for _ in range(60):
            with pytest.raises((StreamResetError, StreamStoppedError)):
                await ask(near, b"x")
        await near.close()
        await serving
    lines = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert 20 <= len(lines) < 60


@every_loop
async def test_the_receiving_half_is_stopped_after_an_error(
    pair: PairOfSessions, expected_logs: ExpectedLogs
) -> None:
    expected_logs("stream handler .*fail raised ZeroDivisionError")

    async def fail(stream: WebTransportReceiveStream) -> None:
        raise ZeroDivisionError

    async with pair() as (near, far):
        serving = asyncio.create_task(
            far.serve_streams(fail, unidirectional=True, error_code=2**32 - 1)
        )
        stream = await near.create_unidirectional_stream()
        await stream.write(b"x")
        assert await stream.wait_stopped() == 2**32 - 1
        await near.close()
        await serving


@every_loop
async def test_a_reset_of_the_peer_is_no_error(
    pair: PairOfSessions, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="pywebtransport.session")
    ended: list[BaseException] = []

    async def read(stream: WebTransportStream) -> None:
        try:
            await stream.read_all()
        except BaseException as error:
            ended.append(error)
            raise

    async with pair() as (near, far):
        serving = asyncio.create_task(far.serve_streams(read))
        stream = await near.create_bidirectional_stream()
        await stream.write(b"x")
        stream.reset(5)
        await until(lambda: ended)
        (error,) = ended
        assert isinstance(error, StreamResetError)
        await near.close()
        await serving
    assert {one.levelname for one in caplog.records if "handler" in one.getMessage()} == {"DEBUG"}


@every_loop
async def test_at_the_end_of_the_session_handlers_end_by_themselves(pair: PairOfSessions) -> None:
    ended: list[str] = []

    async def read(stream: WebTransportStream) -> None:
        try:
            await stream.read_all()
        except SessionClosedError:
            await asyncio.sleep(0)  # it may still have something to do
            ended.append("told")
            raise

    async with pair() as (near, far):
        serving = asyncio.create_task(far.serve_streams(read, max_concurrent=2))
        for _ in range(2):
            stream = await near.create_bidirectional_stream()
            await stream.write(b"x")
        await until(lambda: len(far.open_streams()) == 2 and not far._incoming_bidi)
        await near.close()
        await serving
        assert ended == ["told", "told"]


@every_loop
async def test_cancellation_ends_all_handlers_and_keeps_the_session(pair: PairOfSessions) -> None:
    started = 0
    ended: list[int] = []

    async def hang(stream: WebTransportStream) -> None:
        nonlocal started
        started += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)  # is waited for
            ended.append(stream.stream_id)
            raise

    async with pair() as (near, far):
        serving = asyncio.create_task(far.serve_streams(hang, error_code=9))
        asking = [asyncio.create_task(ask(near, b"x")) for _ in range(20)]
        await until(lambda: started == 20)
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert len(ended) == 20
        for one in asking:
            with pytest.raises(StreamResetError) as caught:
                await one
            assert caught.value.error_code == 9
        # Streams are accepted as before.
        again = asyncio.create_task(ask(near, b"again"))
        stream = await take(far)
        await echo(stream)
        assert await again == b"again"


@every_loop
async def test_cancellation_while_there_is_no_room(pair: PairOfSessions) -> None:
    started = asyncio.Event()

    async def hang(stream: WebTransportStream) -> None:
        started.set()
        await asyncio.Event().wait()

    async with pair() as (near, far):
        serving = asyncio.create_task(far.serve_streams(hang, max_concurrent=1))
        asking = [asyncio.create_task(ask(near, b"%d" % number)) for number in range(2)]
        await started.wait()
        await until(lambda: len(far._incoming_bidi or ()) == 1)
        serving.cancel()
        await asyncio.wait({serving})
        assert serving.cancelled()
        await echo(await take(far))  # it was not lost
        results = await asyncio.gather(*asking, return_exceptions=True)
        assert sorted(type(one).__name__ for one in results) == ["StreamResetError", "bytes"]


@every_loop
async def test_a_handler_that_is_cancelled_alone_ends_its_stream(pair: PairOfSessions) -> None:
    tasks: list[asyncio.Task[Any]] = []

    async def hang(stream: WebTransportStream) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        await asyncio.Event().wait()

    async with pair() as (near, far):
        serving = asyncio.create_task(far.serve_streams(hang))
        asking = asyncio.create_task(ask(near, b"x"))
        await until(lambda: tasks)
        tasks[0].cancel()
        with pytest.raises(StreamResetError):
            await asking
        assert not serving.done()
        await near.close()
        await serving


@every_loop
async def test_the_first_step_needs_no_turn_where_python_allows_it(pair: PairOfSessions) -> None:
    """The handler and the loop that started it run in the same turn from Python 3.12 on."""
    loop = asyncio.get_running_loop()
    turn = 0
    seen: list[int] = []

    def count() -> None:
        nonlocal turn
        turn += 1
        handles.append(loop.call_soon(count))

    async def note(stream: WebTransportStream) -> None:
        seen.append(turn)
        await stream.write_all(b"done")

    handles = [loop.call_soon(count)]
    async with pair() as (near, far):
        stream = await near.create_bidirectional_stream()
        await stream.write(b"x")
        await until(lambda: far._incoming_bidi)

        async def serve() -> None:
            seen.append(turn)
            await far.serve_streams(note)

        serving = asyncio.create_task(serve())
        assert await stream.read_all() == b"done"
        await stream.abort()
        await near.close()
        await serving
    handles[-1].cancel()
    assert seen[1] - seen[0] == (0 if sys.version_info >= (3, 12) else 1)


async def test_a_task_factory_of_the_application_is_used(pair: PairOfSessions) -> None:
    loop = asyncio.get_running_loop()
    made: list[str] = []

    def factory(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
        made.append(coro.__qualname__)
        return asyncio.Task(coro, loop=loop, **options)

    async with pair() as (near, far):
        serving = asyncio.create_task(far.serve_streams(echo))
        loop.set_task_factory(factory)
        try:
            assert await ask(near, b"x") == b"x"
        finally:
            loop.set_task_factory(None)
        assert "_serve" in made
        await near.close()
        await serving


def no_argument() -> None: ...


def not_async(stream: WebTransportStream) -> None: ...


@pytest.mark.parametrize(
    ("handler", "options", "message"),
    [
        (None, {}, "handler"),
        (no_argument, {}, r"async def handler\(stream\)"),
        (not_async, {}, r"not an async function.*async def handler\(stream\)"),
        (echo, {"unidirectional": 1}, "unidirectional = 1: expected a bool"),
        (echo, {"max_concurrent": 0}, "max_concurrent"),
        (echo, {"max_concurrent": 1.5}, "max_concurrent"),
        (echo, {"error_code": -1}, "error_code"),
        (echo, {"error_code": 2**32}, "error_code"),
    ],
)
@every_loop
async def test_wrong_arguments_are_refused(
    pair: PairOfSessions,
    handler: Callable[[WebTransportStream], Awaitable[object]],
    options: dict[str, Any],
    message: str,
) -> None:
    async with pair() as (near, far):
        asking = asyncio.create_task(ask(near, b"x"))
        await until(lambda: far._incoming_bidi)
        with pytest.raises(ConfigurationError, match=message):
            await far.serve_streams(handler, **options)
        await echo(await take(far))
        assert await asking == b"x"


async def test_a_result_that_cannot_be_awaited_is_reported(
    pair: PairOfSessions, expected_logs: ExpectedLogs
) -> None:
    """Of a lambda, it is only known when it is called."""
    expected_logs("stream handler .*<lambda> raised TypeError")

    async with pair() as (near, far):
        serving = asyncio.create_task(
            far.serve_streams(lambda stream: None)  # type: ignore[arg-type,return-value]
        )
        with pytest.raises(StreamResetError):
            await ask(near, b"x")
        await near.close()
        await serving
