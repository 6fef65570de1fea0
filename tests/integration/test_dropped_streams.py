"""Streams without references: none stays half open until its session ends."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from collections.abc import Awaitable, Callable

import pytest

from pywebtransport import StructuredStream, WebTransportError, WebTransportSession
from pywebtransport._core import session_diagnostics
from pywebtransport.exceptions import StreamResetError, StreamStoppedError
from pywebtransport.serializer import JSONSerializer
from pywebtransport.stream import WebTransportReceiveStream, WebTransportStream
from pywebtransport.types import EventType
from tests.support.endpoints import PairOfSessions
from tests.support.steps import take, take_unidirectional, until

DROPPED = "was dropped with its sending half open"
Handler = Callable[[WebTransportStream], Awaitable[object]]


async def echo(stream: WebTransportStream) -> None:
    async for data in stream:
        await stream.write(data)
    await stream.close()


async def read_all(stream: WebTransportStream) -> None:
    await stream.read_all()


async def read_once(stream: WebTransportStream) -> None:
    await stream.read()


async def look_away(stream: WebTransportStream) -> None:
    """Accepted, and that is all."""


async def converse(stream: WebTransportStream) -> None:
    structured = StructuredStream(stream, JSONSerializer(), {1: dict})
    async for message in structured:
        await structured.send_obj(message)


async def leave_properly(stream: WebTransportStream) -> None:
    async with stream:
        await echo(stream)


async def leave_early(stream: WebTransportStream) -> None:
    async with stream:
        await stream.read(1)


async def write_for_ever(stream: WebTransportStream) -> None:
    while True:
        await stream.write(bytes(10_000))


def run(thread: threading.Thread) -> None:
    thread.start()
    thread.join()


async def abandoned(
    near: WebTransportSession, far: WebTransportSession, *, code: int
) -> tuple[WebTransportStream, WebTransportStream]:
    """A stream that ``near`` reset after an answer, and its other end, which knows."""
    stream = await near.create_bidirectional_stream()
    await stream.write(b"hi")
    other = await take(far)
    assert await other.read() == b"hi"
    await other.write(b"answer")
    stream.reset(code)
    with pytest.raises(StreamResetError):
        await other.read()
    return stream, other


HANDLERS = [echo, read_all, read_once, look_away, converse, leave_properly, leave_early]


async def serve(session: WebTransportSession, handler: Handler) -> None:
    """As applications do: one task for each stream, which forgets it when something fails."""

    async def one(stream: WebTransportStream) -> None:
        with contextlib.suppress(WebTransportError):
            await handler(stream)

    tasks = set()
    async for stream in session.incoming_bidirectional_streams():
        task = asyncio.create_task(one(stream))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        del stream


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("end", ["reset", "fin"])
@pytest.mark.parametrize("handler", HANDLERS, ids=lambda one: one.__name__)
async def test_a_peer_that_gives_streams_up_gets_all_of_them_back(
    pair: PairOfSessions, handler: Handler, end: str
) -> None:
    async with pair(server={"initial_max_streams_bidi": 5}) as (near, far):
        serving = asyncio.create_task(serve(far, handler))
        for _ in range(40):
            stream = await near.create_bidirectional_stream(timeout=30)
            await stream.write(b"hi")
            if end == "reset":
                stream.reset(7)
            else:
                await stream.close()
            stream.stop_sending(7)  # a page that forgets both halves
        await until(lambda: not far._streams)
        assert far._orphans is None or not far._orphans.streams
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving


async def test_the_peer_learns_that_its_abandoned_stream_is_over(pair: PairOfSessions) -> None:
    """It sends no STOP_SENDING: a page that resets its half and continues to read."""
    async with pair() as (near, far):
        stream, other = await abandoned(near, far, code=7)
        with pytest.warns(ResourceWarning, match=rf"stream {other.stream_id} of / {DROPPED}"):
            del other
        with pytest.raises(StreamResetError) as caught:
            await stream.read_all()
        assert caught.value.error_code == 0
        await until(lambda: not near._streams and not far._streams)


async def test_what_was_written_on_a_dropped_stream_arrives(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        stream = await near.create_unidirectional_stream()
        await stream.write(b"all of it")
        with pytest.warns(ResourceWarning, match="use it in 'async with stream:'"):
            del stream
        assert await (await take_unidirectional(far)).read_all() == b"all of it"
        await until(lambda: not near._streams)

        both = await near.create_bidirectional_stream()
        await both.write_all(b"question")
        other = await take(far)
        assert await other.read_all() == b"question"
        await other.write(b"answer")
        with pytest.warns(ResourceWarning, match=DROPPED):
            del other
        assert await both.read_all() == b"answer"


async def test_an_unused_half_of_a_read_stream_ends_quietly(pair: PairOfSessions) -> None:
    """A bidirectional stream used one way: nothing is lost, so nothing is said."""
    async with pair() as (near, far):
        stream = await near.create_bidirectional_stream()
        await stream.write_all(b"one way")
        assert await (await take(far)).read_all() == b"one way"
        with pytest.raises(StreamResetError):
            await stream.read()
        await until(lambda: not far._streams)


async def test_a_dropped_stream_that_the_peer_still_uses_is_left_to_it(
    pair: PairOfSessions,
) -> None:
    async with pair() as (near, far):
        stream = await near.create_bidirectional_stream()
        await stream.write(b"!")
        number = stream.stream_id
        del stream  # both halves are open
        other = await take(far)
        await other.write(b"an answer that nobody reads")
        assert other.is_writable
        # Whoever asks for it by its ID has it again, and then it is not ended.
        stream = WebTransportStream(stream_id=number, session=near)
        assert await stream.read() == b"an answer that nobody reads"
        await other.close()
        assert await stream.read() == b""
        assert stream.is_writable
        await stream.close()
        assert await other.read_all() == b"!"


async def test_the_peers_end_ends_a_dropped_stream(
    pair: PairOfSessions, caplog: pytest.LogCaptureFixture
) -> None:
    async with pair() as (near, far):
        others = []
        for _ in range(3):
            stream = await near.create_bidirectional_stream()
            await stream.write(b"!")
            del stream
            others.append(await take(far))
        for other in others:
            assert await other.read() == b"!"
            await other.close()
            assert await other.read() == b""  # the FIN of a half that nobody held
        await until(lambda: not near._streams)
        [issue] = [i for i in await near.diagnose_issues() if "were ended" in i]
        assert issue.startswith("3 streams were dropped")
        told = [record for record in caplog.records if DROPPED in record.getMessage()]
        assert len(told) == 1  # one line for a session, with the stream and the path
        assert f"({near.path})" in told[0].getMessage()


async def test_a_flood_for_a_dropped_stream_is_stopped(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        stream = await near.create_bidirectional_stream()
        await stream.write_all(b"send me everything")
        del stream
        other = await take(far)
        with pytest.raises(StreamStoppedError):
            await write_for_ever(other)


@pytest.mark.parametrize("answer", [b"", b"answer"])
async def test_an_end_that_crosses_a_stop_leaves_nothing_open(
    pair: PairOfSessions, answer: bytes
) -> None:
    """The peer has already finished when it learns that nobody reads: it sends nothing more."""
    warned = pytest.warns(ResourceWarning, match=DROPPED) if answer else contextlib.nullcontext()
    async with pair() as (near, far):
        stream = await near.create_bidirectional_stream()
        await stream.write(b"hi")
        other = await take(far)
        assert await other.read() == b"hi"
        if answer:
            await other.write(answer)
        other.stop_sending(3)
        await stream.close()
        with warned:
            del other
        if answer:
            assert await stream.read_all() == answer
        else:
            with pytest.raises(StreamResetError):
                await stream.read_all()
        await until(lambda: not near._streams and not far._streams)


async def test_a_flood_that_ends_before_it_is_stopped_leaves_nothing_open(
    pair: PairOfSessions,
) -> None:
    async with pair() as (near, far):
        stream = await near.create_bidirectional_stream()
        await stream.write(b"hi")
        del stream
        other = await take(far)
        for _ in range(20):
            await other.write(bytes(10_000), wait_flush=False)
        await other.close()
        assert await other.read_all() == b"hi"
        await until(lambda: not near._streams and not far._streams)


async def test_a_stream_that_the_peer_reset_unanswered_is_no_waste(pair: PairOfSessions) -> None:
    """The peer gave it up, nothing was sent: the code that read it did nothing wrong."""
    async with pair() as (near, far):
        stream = await near.create_bidirectional_stream()
        await stream.write(b"hi")
        other = await take(far)
        stream.reset(7)
        with pytest.raises(StreamResetError):
            await other.read_all()
        del other
        with pytest.raises(StreamResetError):
            await stream.read_all()
        await until(lambda: not near._streams and not far._streams)


async def test_streams_with_listeners_are_theirs(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        stream = await near.create_bidirectional_stream()
        heard = asyncio.Event()
        stream.on(EventType.STREAM_DATA_RECEIVED, lambda event: heard.set())
        await stream.write_all(b"question")
        del stream
        gc.collect()
        other = await take(far)
        await other.write(b"answer")
        await heard.wait()
        assert other.is_writable


async def test_a_cycle_that_another_thread_collects(pair: PairOfSessions) -> None:
    async with pair() as (near, far):
        stream, other = await abandoned(near, far, code=1)
        other.cycle = other  # type: ignore[attr-defined]
        del other
        collector = threading.Thread(target=gc.collect)
        with pytest.warns(ResourceWarning, match=DROPPED):
            run(collector)
        await until(lambda: not far._streams)
        with pytest.raises(StreamResetError):
            await stream.read_all()


async def test_streams_that_nobody_accepts_cost_the_peer_its_credit(pair: PairOfSessions) -> None:
    """Reset or not: the queue is bounded by what the peer may have open."""
    async with pair(server={"initial_max_streams_uni": 4}) as (near, far):
        for _ in range(4):
            stream = await near.create_unidirectional_stream(timeout=5)
            await stream.write(b"x")
            stream.reset(3)
        await until(lambda: far._incoming_uni and len(far._incoming_uni) == 4)
        await until(lambda: all(s._quic.is_closed for s in far._incoming_uni or ()))
        with pytest.raises(TimeoutError, match="stream limit"):
            await near.create_unidirectional_stream(timeout=0.05)
        for _ in range(4):
            with pytest.raises(StreamResetError):
                await (await take_unidirectional(far)).read()
        await (await near.create_unidirectional_stream(timeout=20)).write_all(b"")


@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize("sent", ["nothing", "unread", "unread and finished", "reset"])
async def test_leaving_async_with_ends_both_halves(
    pair: PairOfSessions, sent: str, raises: bool
) -> None:
    async with pair(server={"initial_max_streams_bidi": 1}) as (near, far):
        stream = await near.create_bidirectional_stream()
        await stream.write(b"!")
        other = await take(far)
        assert await other.read() == b"!"
        if sent.startswith("unread"):
            await stream.write(b"unread")
        if sent.endswith("finished"):
            await stream.close()
        if sent == "reset":
            stream.reset(1)
        await until(lambda: sent == "nothing" or other._quic.buffered or other._quic.is_reset)
        with contextlib.suppress(KeyError):
            async with other:
                if raises:
                    raise KeyError
        if raises:
            with pytest.raises(StreamResetError):
                await stream.read()
        else:
            assert await stream.read() == b""
        if stream.is_writable:
            with pytest.raises(StreamStoppedError):
                await write_for_ever(stream)
        # All of it is the peer's again.
        await (await near.create_bidirectional_stream(timeout=20)).abort()
        await until(lambda: not near._streams)


async def test_held_half_open_streams_are_named(
    pair: PairOfSessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_diagnostics, "_IDLE_AGE", 0.0)
    async with pair() as (near, far):
        held: list[WebTransportReceiveStream] = []
        for _ in range(2):
            stream = await near.create_bidirectional_stream()
            await stream.write_all(b"question")
            held.append(stream)
            other = await take(far)
            assert await other.read_all() == b"question"
            held.append(other)
        numbers = f"{held[1].stream_id}, {held[3].stream_id}"
        [issue] = [i for i in await far.diagnose_issues() if "half open" in i]
        assert issue.startswith("2 streams older than")
        assert f"waits on them: {numbers};" in issue
        # One that somebody waits on is at work.
        waiting = [asyncio.create_task(stream.read()) for stream in held[::2]]
        await asyncio.sleep(0)
        assert not any("half open" in issue for issue in await near.diagnose_issues())
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
