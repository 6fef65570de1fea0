"""What is awaited without a coroutine frame is awaited, refused and cancelled like a coroutine."""

from __future__ import annotations

import asyncio
import collections.abc
import gc
import inspect
import weakref
from collections.abc import Callable, Coroutine
from typing import Any
from unittest import mock

import pytest

from pywebtransport import (
    WebTransportReceiveStream,
    WebTransportSendStream,
    WebTransportSession,
    WebTransportStream,
)
from pywebtransport.datagram import WebTransportDatagramTransport
from pywebtransport.exceptions import (
    ConfigurationError,
    StreamError,
    StreamLimitError,
    StreamResetError,
    TimeoutError,
)
from tests.support.endpoints import PairOfSessions
from tests.support.steps import take, until

Verb = Coroutine[Any, Any, Any]


class Ends:
    """Both ends of a stream and of datagrams."""

    def __init__(self, near: WebTransportStream, far: WebTransportStream) -> None:
        self.near = near
        self.far = far
        self.near_datagrams = near.session.datagrams
        self.far_datagrams = far.session.datagrams

    async def feed(self) -> None:
        """Let the far end have something of each kind."""
        await self.near.write(b"data")
        await self.near_datagrams.send(b"data")
        await until(lambda: self.far_datagrams.get_receive_buffer_size())
        await until(lambda: self.far.debug_state()["buffers"]["received"])


# What is there at once, by name.
READY: dict[str, Callable[[Ends], Verb]] = {
    "read": lambda ends: ends.far.read(100),
    "readexactly": lambda ends: ends.far.readexactly(4),
    "write": lambda ends: ends.far.write(b"answer"),
    "write_all": lambda ends: ends.far.write_all(b"answer"),
    "close": lambda ends: ends.far.close(),
    "send": lambda ends: ends.far_datagrams.send(b"answer"),
    "receive": lambda ends: ends.far_datagrams.receive(),
    "create_bidirectional_stream": lambda ends: ends.far.session.create_bidirectional_stream(),
    "create_unidirectional_stream": lambda ends: ends.far.session.create_unidirectional_stream(),
}
# Of these, what takes what is there, and what ends the stream.
TAKING = ("read", "readexactly", "receive")
ENDING = ("write_all", "close")
# What waits.
WAITING: dict[str, Callable[[Ends], Verb]] = {
    "read": lambda ends: ends.near.read(100),
    "read_all": lambda ends: ends.near.read_all(),
    "readexactly": lambda ends: ends.near.readexactly(100),
    "write": lambda ends: ends.near.write(bytes(4_000_000)),
    "receive": lambda ends: ends.near_datagrams.receive(),
    "receive in time": lambda ends: ends.near_datagrams.receive(timeout=60),
}


@pytest.fixture
def ends_of(pair: PairOfSessions) -> Any:
    from contextlib import asynccontextmanager

    @asynccontextmanager
    async def made(**config: Any) -> Any:
        async with pair(client=config, server=config) as (client, server):
            near = await client.create_bidirectional_stream()
            await near.write(b"x")
            far = await take(server)
            assert await far.read(1) == b"x"
            yield Ends(near, far)

    return made


def read_or_received(name: str, value: object) -> bool:
    if name.startswith("create"):
        assert isinstance(value, WebTransportSendStream)
        return isinstance(value, WebTransportReceiveStream) == ("bidirectional" in name)
    return value == b"data" if name in TAKING else value is None


@pytest.mark.parametrize("name", READY)
async def test_awaited_in_every_way(ends_of: Any, name: str) -> None:
    verb = READY[name]
    async with ends_of() as ends:
        loop = asyncio.get_running_loop()
        for wrap in (
            lambda it: it,
            asyncio.create_task,
            asyncio.ensure_future,
            lambda it: asyncio.wait_for(it, 60),
            asyncio.shield,
            asyncio.gather,
            loop.create_task,
        ):
            if name in ENDING and ends.far.debug_state()["stream"]["state"] != "open":
                break
            await ends.feed()
            result = await wrap(verb(ends))
            (value,) = result if isinstance(result, list) else [result]
            assert read_or_received(name, value)
            if name not in TAKING:
                await ends.far.read(100)
                await ends.far_datagrams.receive()


@pytest.mark.parametrize("name", READY)
async def test_is_a_coroutine_to_those_who_ask(ends_of: Any, name: str) -> None:
    async with ends_of() as ends:
        await ends.feed()
        verb = READY[name](ends)
        assert asyncio.iscoroutine(verb)
        assert isinstance(verb, collections.abc.Coroutine)
        assert inspect.isawaitable(verb)
        short = "write" if name == "write_all" else name
        assert verb.__qualname__.endswith(f".{short}")
        assert verb.__name__ == short
        assert short in repr(verb)
        assert read_or_received(name, await verb)


@pytest.mark.parametrize("name", READY)
async def test_does_nothing_before_it_is_awaited_and_warns(ends_of: Any, name: str) -> None:
    async with ends_of() as ends:
        await ends.feed()
        before = ends.far.stats.to_dict(), ends.far_datagrams.stats
        verb = READY[name](ends)
        with pytest.warns(RuntimeWarning, match=r"coroutine '\w+\.\w+' was never awaited"):
            del verb
        closed = READY[name](ends)
        closed.close()
        closed.close()
        with pytest.raises(RuntimeError, match="cannot reuse"):
            await closed
        del closed
        after = ends.far.stats.to_dict(), ends.far_datagrams.stats
        for one, other in zip(before, after, strict=True):
            assert {**one, "uptime": 0} == {**other, "uptime": 0}


@pytest.mark.parametrize("name", READY)
async def test_is_awaited_once(ends_of: Any, name: str) -> None:
    async with ends_of() as ends:
        await ends.feed()
        verb = READY[name](ends)
        await verb
        for again in (
            verb.__await__().__next__,
            lambda: verb.send(None),
            lambda: verb.throw(OSError),
        ):
            with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
                again()


@pytest.mark.parametrize("name", READY)
async def test_driven_by_hand(ends_of: Any, name: str) -> None:
    async with ends_of() as ends:
        for step in ("send", "next", "throw"):
            if name in ENDING and step != "send":
                break
            await ends.feed()
            verb = READY[name](ends)
            if step == "throw":
                with pytest.raises(OSError, match="thrown"):
                    verb.throw(OSError("thrown"))
                continue
            with pytest.raises(StopIteration) as caught:
                verb.send(None) if step == "send" else next(verb)  # type: ignore[call-overload]
            assert read_or_received(name, caught.value.value)
            if name not in TAKING:
                await ends.far.read(100)
                await ends.far_datagrams.receive()


@pytest.mark.parametrize("name", WAITING)
async def test_cancelled_while_it_waits(ends_of: Any, name: str) -> None:
    async with ends_of() as ends:
        task = asyncio.create_task(WAITING[name](ends))
        await asyncio.sleep(0)
        assert not task.done()
        task.cancel("enough")
        with pytest.raises(asyncio.CancelledError):
            await task
        if name == "write":
            assert len(await ends.far.readexactly(4_000_000)) == 4_000_000
        await ends.far.write(b"later")
        await ends.far_datagrams.send(b"later")
        assert await ends.near.read(100) == b"later"
        assert await ends.near_datagrams.receive() == b"later"


@pytest.mark.parametrize("name", WAITING)
async def test_closed_while_it_waits(ends_of: Any, name: str) -> None:
    async with ends_of() as ends:
        verb = WAITING[name](ends)
        assert asyncio.isfuture(verb.send(None))
        verb.close()
        await ends.far.write(b"later")
        await ends.far_datagrams.send(b"later")
        assert await ends.near.read(100) == b"later"
        assert await ends.near_datagrams.receive() == b"later"


async def test_opening_waits_for_a_limit_and_can_be_cancelled(pair: PairOfSessions) -> None:
    async with pair(client={"max_streams": 1}) as (near, _):
        first = await near.create_bidirectional_stream()
        with pytest.raises(StreamLimitError):
            await near.create_bidirectional_stream()
        waiting = asyncio.create_task(near.create_bidirectional_stream(timeout=60))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})
        waiting = asyncio.create_task(near.create_unidirectional_stream(timeout=60))
        await first.abort()
        assert isinstance(await waiting, WebTransportSendStream)


async def test_errors_come_where_it_is_awaited(ends_of: Any) -> None:
    async with ends_of() as ends:
        wrong: list[tuple[Verb, type[Exception]]] = [
            (ends.near.read("1"), ConfigurationError),  # type: ignore[arg-type]
            (ends.near.read(1 << 70), ConfigurationError),
            (ends.near.write(1), ConfigurationError),  # type: ignore[arg-type]
            (ends.near.write_all(b"", chunk_size=0), ConfigurationError),
            (ends.near_datagrams.send(1), ConfigurationError),  # type: ignore[arg-type]
            (ends.near_datagrams.send(b"", priority=9), ConfigurationError),
            (ends.near_datagrams.send(b"", ttl=-1), ConfigurationError),
            (ends.near_datagrams.receive(timeout=-1), ConfigurationError),
            (ends.near_datagrams.receive(timeout=0), TimeoutError),
            (ends.near.session.create_bidirectional_stream(timeout=-1), ConfigurationError),
            (ends.near.session.create_unidirectional_stream(send_order=0.5), ConfigurationError),
        ]
        for verb, error in wrong:
            with pytest.raises(error):
                await verb
        first = asyncio.create_task(ends.near.read())
        await asyncio.sleep(0)
        with pytest.raises(StreamError, match="another coroutine"):
            await ends.near.read()
        first.cancel()
        await asyncio.wait({first})
        await ends.near.close()
        with pytest.raises(StreamError) as caught:
            await ends.near.write(b"more")
        # Nothing of what the engine raised is left in the traceback of the caller.
        assert caught.value.__suppress_context__
        assert caught.value.__cause__ is None


async def test_an_error_is_the_end_for_those_who_drive_by_hand(ends_of: Any) -> None:
    async with ends_of() as ends:
        await ends.near.close()
        verb = ends.near.write(b"more")
        with pytest.raises(StreamError, match="finished"):
            verb.send(None)
        with pytest.raises(RuntimeError, match="cannot reuse"):
            verb.send(None)


async def test_special_sizes(ends_of: Any) -> None:
    async with ends_of() as ends:
        assert await ends.near.read(0) == b""
        await ends.far.write_all(b"all of it")
        assert await ends.near.read(-1) == b"all of it"
        assert await ends.near.read() == b""


async def test_cancelled_between_pieces_keeps_them(ends_of: Any) -> None:
    async with ends_of() as ends:
        await ends.far.write(b"first ")
        task = asyncio.create_task(ends.near.readexactly(11))
        await until(lambda: ends.near.stats.bytes_received)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await ends.far.write(b"second")
        assert await ends.near.readexactly(9) == b"first sec"
        assert ends.near.stats.bytes_received == 9


async def test_a_read_timeout_between_pieces_keeps_them(ends_of: Any) -> None:
    async with ends_of(read_timeout=0.01) as ends:
        await ends.far.write(b"first ")
        with pytest.raises(TimeoutError, match="read_timeout"):
            await ends.near.readexactly(11)
        await ends.far.write(b"second")
        assert await ends.near.readexactly(9) == b"first sec"


class Whole(int):
    """A number that is no ordinary one."""


async def test_pieces_with_unusual_numbers(ends_of: Any) -> None:
    async with ends_of() as ends:
        assert await ends.near.readexactly(0) == b""
        await ends.far.write_all(b"all of it")
        assert await ends.near.readexactly(Whole(4)) == b"all "
        with pytest.raises(StreamError, match="longer than max_size=3"):
            await ends.near.read_all(Whole(3))
        with pytest.raises(StreamError, match="longer than max_size=4") as caught:
            await ends.near.read_all(4)
        assert caught.value.details == {"max_size": 4, "received": 5}
        for wrong in (-1, True, 2**70, "3"):
            with pytest.raises(ConfigurationError, match="n"):
                await ends.near.readexactly(wrong)
        for wrong in (-1, True, "3"):
            with pytest.raises(ConfigurationError, match="max_size"):
                await ends.near.read_all(wrong)
        assert await ends.near.read_all(2**70) == b"of it"


async def test_too_few_bytes_are_in_the_error(ends_of: Any) -> None:
    async with ends_of() as ends:
        await ends.far.write_all(b"few")
        with pytest.raises(StreamError, match="ended after 3 of 5 bytes") as caught:
            await ends.near.readexactly(5)
        assert caught.value.details == {"partial": b"few", "expected": 5}


async def test_closing_with_a_code_resets(ends_of: Any) -> None:
    async with ends_of() as ends:
        await ends.near.close(code=7, reason="not sent")
        with pytest.raises(StreamResetError) as caught:
            await ends.far.read()
        assert caught.value.error_code == 7


async def test_a_compiled_method_is_documented_in_python() -> None:
    for owner, name in (
        *((WebTransportReceiveStream, name) for name in ("read", "read_all", "readexactly")),
        *((WebTransportSendStream, name) for name in ("write", "write_all", "finish")),
        (WebTransportStream, "close"),
        (WebTransportSession, "create_bidirectional_stream"),
        (WebTransportDatagramTransport, "send"),
    ):
        method = getattr(owner, name)
        assert method.__qualname__ == f"{owner.__name__}.{name}"
        assert method.__module__ == owner.__module__
        assert inspect.getdoc(method)
        compiled = inspect.signature(method, follow_wrapped=False)
        for shown in inspect.signature(method).parameters.values():
            taken = compiled.parameters[shown.name]
            assert (taken.kind, taken.default) == (shown.kind, shown.default)


async def test_a_read_timeout_ends_the_wait(ends_of: Any) -> None:
    async with ends_of(read_timeout=0.01) as ends:
        with pytest.raises(TimeoutError, match="read_timeout"):
            await ends.near.read()
        assert ends.near.stats.read_errors == 1
        await ends.far.write(b"later")
        assert await ends.near.read() == b"later"


@pytest.mark.parametrize("count", [1, 3])
async def test_those_who_receive_are_served_in_order(ends_of: Any, count: int) -> None:
    async with ends_of() as ends:
        tasks = [asyncio.create_task(ends.near_datagrams.receive()) for _ in range(count)]
        await asyncio.sleep(0)
        for number in range(count):
            await ends.far_datagrams.send(b"%d" % number)
        assert await asyncio.gather(*tasks) == [b"%d" % number for number in range(count)]
        assert ends.near_datagrams.stats["total_receive_time"] > 0


def test_mocks_await_them() -> None:
    stream = mock.create_autospec(WebTransportStream, instance=True)
    datagrams = mock.create_autospec(WebTransportDatagramTransport, instance=True)
    session = mock.create_autospec(WebTransportSession, instance=True)
    for method in (
        *(stream.read, stream.read_all, stream.readexactly),
        *(stream.write, stream.write_all, stream.close, datagrams.send, datagrams.receive),
        *(session.create_bidirectional_stream, session.create_unidirectional_stream),
    ):
        assert isinstance(method, mock.AsyncMock) or asyncio.iscoroutinefunction(method)


@pytest.mark.parametrize("name", READY)
async def test_one_that_is_used_again_behaves_like_a_new_one(ends_of: Any, name: str) -> None:
    async with ends_of() as ends:
        await ends.feed()
        verb = READY[name](ends)
        await verb
        kind, place = type(verb), id(verb)
        del verb
        again = READY[name](ends)
        assert (type(again), id(again)) == (kind, place)
        assert gc.is_tracked(again)
        with pytest.warns(RuntimeWarning, match="was never awaited"):
            del again
        closed = READY[name](ends)
        closed.close()
        with pytest.raises(RuntimeError, match="cannot reuse"):
            await closed


async def test_one_with_weak_references_is_not_used_again(ends_of: Any) -> None:
    async with ends_of() as ends:
        await ends.feed()
        gone: list[object] = []
        verb = ends.far.read(100)
        reference = weakref.ref(verb, gone.append)
        assert await verb == b"data"
        del verb
        assert gone == [reference]
        assert reference() is None
        other = ends.far.read(100)
        assert reference() is None
        other.close()


async def test_many_that_wait_at_a_time_are_told_apart(ends_of: Any) -> None:
    """More than are kept: some are new, some were used before."""
    async with ends_of() as ends:
        for number in (300, 300):
            waiting = [asyncio.create_task(ends.far_datagrams.receive()) for _ in range(number)]
            await asyncio.sleep(0)
            expected = [str(each).encode() for each in range(number)]
            for each in expected:
                await ends.near_datagrams.send(each)
            assert await asyncio.gather(*waiting) == expected
            del waiting


async def test_a_limit_beyond_any_length(ends_of: Any) -> None:
    async with ends_of() as ends:
        await ends.near.write_all(b"data")
        assert await ends.far.read_all(max_size=1 << 70) == b"data"
        with pytest.raises(ConfigurationError, match="max_size"):
            await ends.far.read_all(max_size=-(1 << 70))
