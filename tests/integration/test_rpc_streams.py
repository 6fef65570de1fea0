"""Calls whose method yields its results, over real sessions."""

from __future__ import annotations

import asyncio
import gc
import json
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from pywebtransport.exceptions import ConfigurationError, SerializationError, SessionClosedError
from pywebtransport.rpc import (
    InvalidParamsError,
    MethodNotFoundError,
    Proceed,
    ResultStream,
    RpcCall,
    RpcCancelledError,
    RpcDirection,
    RpcError,
    RpcErrorCode,
    RpcManager,
    RpcTimeoutError,
    RpcUnsupportedError,
)
from tests.support.endpoints import PairOfSessions
from tests.support.leaks import ExpectedLogs
from tests.support.steps import cancelled_at, until

pytestmark = pytest.mark.loops("virtual")

Managers = Callable[..., AbstractAsyncContextManager[tuple[RpcManager, RpcManager]]]


@pytest.fixture
def managers(pair: PairOfSessions) -> Managers:
    """``async with managers(near={...}, far={...}) as (near, far)``: client's and server's."""

    @asynccontextmanager
    async def make(
        near: dict[str, Any] | None = None, far: dict[str, Any] | None = None, **fields: Any
    ) -> AsyncIterator[tuple[RpcManager, RpcManager]]:
        async with (
            pair(**fields) as (client, server),
            RpcManager(client, **(near or {})) as first,
            RpcManager(server, **(far or {})) as second,
        ):
            yield first, second

    return make


async def idle(*managers: RpcManager) -> None:
    """Nothing is under way any more, at any end."""
    await until(
        lambda: all(manager.active_calls == {"incoming": 0, "outgoing": 0} for manager in managers)
    )
    await until(lambda: not any(manager.session.open_streams() for manager in managers))


async def collect(results: ResultStream[Any], items: list[Any]) -> None:
    async for item in results:
        items.append(item)


@dataclass
class Point:
    x: int
    y: int


class Feed:
    """A method that yields numbers, and notes how far it came and how it ended."""

    def __init__(self, size: int = 0, pause: bool = False) -> None:
        self.made = 0
        self.size = size
        self.pause = pause
        self.ended = asyncio.Event()
        self.error: BaseException | None = None

    async def __call__(self, count: int | None = None) -> AsyncIterator[Any]:
        try:
            while count is None or self.made < count:
                self.made += 1
                yield "x" * self.size if self.size else self.made
                if self.pause:
                    await asyncio.Event().wait()
        except BaseException as error:
            self.error = error
            raise
        finally:
            self.ended.set()


# ------------------------------------------------------------------------ items


async def test_items_come_in_order_and_end(managers: Managers) -> None:
    async with managers() as (near, far):

        @far.register
        async def count(first: int, *, last: int) -> AsyncIterator[int]:
            for number in range(first, last + 1):
                yield number

        @near.register
        async def nothing() -> AsyncIterator[int]:
            for number in ():
                yield number

        assert [item async for item in near.stream("count", 3, last=6)] == [3, 4, 5, 6]
        named = {"first": 1, "last": 2}
        results = near.stream("count", named_params=named, timeout=5, item_timeout=5)
        assert (results.method, results.items, results.is_closed) == ("count", 0, False)
        assert [item async for item in results] == [1, 2]
        assert (results.items, results.is_closed) == (2, True)
        assert [item async for item in results] == []  # it is over
        assert [item async for item in far.stream("nothing")] == []
        many = [item async for item in near.stream("count", 1, last=3000)]
        assert many == list(range(1, 3001))
        await idle(near, far)


@pytest.mark.loops("asyncio", "uvloop")
async def test_items_over_real_sockets(managers: Managers) -> None:
    async with managers() as (near, far):
        feed = Feed(size=1000)
        far.register(feed, name="feed")
        assert [len(item) async for item in near.stream("feed", 300)] == [1000] * 300
        async for _ in near.stream("feed"):
            break
        await until(lambda: feed.error is not None)
        await idle(near, far)


async def test_items_have_types(managers: Managers) -> None:
    async with managers() as (near, far):

        @far.register
        async def line(to: Point) -> AsyncIterator[Point]:
            for x in range(to.x):
                yield Point(x, to.y)

        points = [point async for point in near.stream("line", Point(3, 7), item_type=Point)]
        assert points == [Point(0, 7), Point(1, 7), Point(2, 7)]
        with pytest.raises(SerializationError, match=r"expected .*int"):
            await collect(near.stream("line", Point(1, 1), item_type=int), [])
        await idle(near, far)


async def test_an_item_is_there_before_the_method_has_ended(managers: Managers) -> None:
    async with managers() as (near, far):
        feed = Feed(pause=True)
        far.register(feed, name="feed")
        async with near.stream("feed") as results:
            assert await anext(results) == 1
            assert not feed.ended.is_set()
        assert results.is_closed
        await feed.ended.wait()
        await idle(near, far)


# ----------------------------------------------------------------------- errors


async def test_errors_come_after_the_items(managers: Managers, expected_logs: ExpectedLogs) -> None:
    expected_logs("handler of 'fails' raised KeyError")
    expected_logs("an answer cannot be sent: cannot write")
    expected_logs("an answer cannot be sent: the Item message of")
    async with managers() as (near, far):

        @far.register
        async def fails(kind: str) -> AsyncIterator[int]:
            yield 1
            yield 2
            if kind == "own":
                raise RpcError("sold out", error_code=7, data=["tea"])
            if kind == "large":
                yield "x" * 2_000_000  # type: ignore[misc]
            if kind == "other":
                yield object()  # type: ignore[misc]
            raise KeyError(kind)

        async def items_and_error(kind: str) -> tuple[list[int], RpcError]:
            items: list[int] = []
            with pytest.raises(RpcError) as caught:
                await collect(near.stream("fails", kind), items)
            return items, caught.value

        items, error = await items_and_error("own")
        assert items == [1, 2]
        assert (error.message, error.error_code, error.data) == ("sold out", 7, ["tea"])
        assert (error.remote, error.method) == (True, "fails")
        items, error = await items_and_error("unexpected")
        assert (items, error.error_code) == ([1, 2], RpcErrorCode.INTERNAL_ERROR)
        items, error = await items_and_error("large")
        assert (items, error.error_code) == ([1, 2], RpcErrorCode.INTERNAL_ERROR)
        assert error.data == {"size": 2_000_012, "max_size": 1_048_576}
        items, error = await items_and_error("other")
        assert (items, error.message) == ([1, 2], "internal error")
        await idle(near, far)


async def test_what_is_wrong_before_the_first_item(managers: Managers) -> None:
    async with managers() as (near, far):

        @far.register
        async def count(last: int) -> AsyncIterator[int]:
            for number in range(last):
                yield number

        far.register(lambda: 1, name="one")
        with pytest.raises(MethodNotFoundError):
            await anext(near.stream("nowhere"))
        with pytest.raises(InvalidParamsError):
            await anext(near.stream("count", "many"))
        with pytest.raises(RpcError, match=r"'count' yields its results: call it with stream\(\)"):
            await near.call("count", 3)
        with pytest.raises(RpcError, match=r"'one' does not yield its results: call it with call"):
            await anext(near.stream("one"))
        for wrong in (
            {"timeout": 0},
            {"item_timeout": -1},
            {"item_timeout": True},
            {"item_type": 5},
            {"metadata": {"a": 1}},
            {"named_params": 3},
        ):
            with pytest.raises(ConfigurationError):
                near.stream("count", 3, **wrong)
        with pytest.raises(RpcError, match="method must be 1 to 256"):
            near.stream("")
        await idle(near, far)


async def test_a_peer_of_the_first_version_is_named(pair: PairOfSessions) -> None:
    """It answers what it does not know as it has always done."""
    async with pair() as (client, server), RpcManager(client) as near:

        async def old_peer() -> None:
            async for stream in server.incoming_bidirectional_streams():
                type_id, size = struct.unpack("!HI", await stream.readexactly(6))
                await stream.readexactly(size)
                text = f"the registry has no type ID {type_id} (message of {size} bytes)"
                payload = json.dumps({"code": -32600, "message": text, "data": None}).encode()
                await stream.write(struct.pack("!HI", 3, len(payload)) + payload, end_stream=True)

        task = asyncio.create_task(old_peer())
        with pytest.raises(RpcUnsupportedError, match="of a version that does not know") as caught:
            await anext(near.stream("feed"))
        assert (caught.value.method, caught.value.remote) == ("feed", True)
        task.cancel()
        await asyncio.wait([task])


# ------------------------------------------------------------------ backpressure


async def test_the_method_waits_for_the_caller(managers: Managers) -> None:
    """Buffer and window bound how far it runs ahead, however slow the caller is."""
    fields = {"max_read_buffer_size": 16_384}
    async with managers(
        client=fields, server={"max_write_buffer_size": 32_768, "write_timeout": 1.0}
    ) as (near, far):
        feed = Feed(size=1000)
        far.register(feed, name="feed")
        async with near.stream("feed", 500) as results:
            assert len(await anext(results)) == 1000
            # Far longer than the write timeout of the server: only the caller sets the pace.
            await asyncio.sleep(10)
            ahead = feed.made
            assert ahead < 150
            await asyncio.sleep(10)
            assert feed.made == ahead
            assert [len(item) async for item in results] == [1000] * 499
        assert feed.error is None
        await idle(near, far)


async def test_items_are_limited_by_the_caller_too(managers: Managers) -> None:
    async with managers(near={"max_message_size": 500}) as (near, far):
        feed = Feed(size=1000)
        far.register(feed, name="feed")
        with pytest.raises(SerializationError, match="more than max_message_size=500"):
            await anext(near.stream("feed"))
        await feed.ended.wait()
        await idle(near, far)


# ------------------------------------------------------------------ cancellation


async def test_leaving_the_loop_ends_the_method(managers: Managers) -> None:
    async with managers() as (near, far):
        for size in (0, 5000):  # it waits for an item, or for room
            feed = Feed(size, pause=not size)
            far.register(feed, name="feed")
            async for _ in near.stream("feed"):
                break
            await feed.ended.wait()
            assert isinstance(feed.error, asyncio.CancelledError | GeneratorExit)
            far.unregister("feed")
            await idle(near, far)


async def test_closing_and_dropping_end_the_method(managers: Managers) -> None:
    async with managers() as (near, far):
        for way in ("aclose", "aclosing", "del", "before"):
            feed = Feed(pause=True)
            far.register(feed, name="feed")
            results = near.stream("feed")
            if way == "before":
                await results.aclose()
                assert [item async for item in results] == []
                assert feed.made == 0
            else:
                assert await anext(results) == 1
            if way == "aclose":
                await results.aclose()
                await results.aclose()
                with pytest.raises(StopAsyncIteration):
                    await anext(results)
            elif way == "aclosing":
                async with aclosing(results):
                    pass
            del results
            gc.collect()
            if way != "before":
                await feed.ended.wait()
            far.unregister("feed")
            await idle(near, far)


async def test_cancelling_the_caller_ends_the_method(managers: Managers) -> None:
    async with managers() as (near, far):
        feed = Feed(pause=True)
        far.register(feed, name="feed")
        results = near.stream("feed")

        async def consume() -> None:
            async for _ in results:
                pass

        task = asyncio.create_task(consume())
        await until(lambda: results.items == 1)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        await feed.ended.wait()
        assert results.is_closed
        await idle(near, far)


async def test_cancelled_at_every_await(managers: Managers) -> None:
    async with managers() as (near, far):

        @far.register
        async def count(last: int) -> AsyncIterator[int]:
            for number in range(last):
                yield number

        for step in range(40):
            items: list[int] = []

            async def consume(items: list[int] = items) -> None:
                async for item in near.stream("count", 3):
                    items.append(item)

            was_cancelled = await cancelled_at(consume, step)
            assert items == [0, 1, 2][: len(items)]
            await idle(near, far)
            if not was_cancelled:
                assert items == [0, 1, 2]
                return
        raise AssertionError("it did not end")


async def test_a_method_that_is_cancelled_ends_the_loop(managers: Managers) -> None:
    async with managers() as (near, far):
        feed = Feed(pause=True)
        far.register(feed, name="feed")
        results = near.stream("feed")
        assert await anext(results) == 1
        await far.close()
        with pytest.raises(RpcCancelledError):
            await anext(results)
        assert feed.ended.is_set()
        await idle(near)


async def test_closing_the_manager_and_the_session(managers: Managers) -> None:
    async with managers() as (near, far):
        feed = Feed(pause=True)
        far.register(feed, name="feed")
        results = near.stream("feed")
        assert await anext(results) == 1
        waiting = asyncio.create_task(anext(results))  # type: ignore[arg-type]
        other = near.stream("feed")
        assert await anext(other) == 2
        await near.close()
        with pytest.raises(RpcCancelledError, match="the manager was closed"):
            await waiting
        with pytest.raises(RpcCancelledError, match="the manager was closed"):
            await anext(other)
        with pytest.raises(RpcCancelledError, match="the manager was closed"):
            await anext(near.stream("feed"))
    async with managers() as (near, far):
        feed = Feed(pause=True)
        far.register(feed, name="feed")
        results = near.stream("feed")
        assert await anext(results) == 1
        await far.session.close(code=5, reason="over")
        with pytest.raises(SessionClosedError):
            await anext(results)
        await feed.ended.wait()


# ---------------------------------------------------------------------- timeouts


async def test_time_for_an_item_and_for_the_call(managers: Managers) -> None:
    async with managers(near={"default_timeout": 3.0}) as (near, far):
        loop = asyncio.get_running_loop()
        ends = []

        @far.register
        async def slow(pause: float) -> AsyncIterator[int]:
            number = 0
            try:
                while True:
                    await asyncio.sleep(pause)
                    yield (number := number + 1)
            finally:
                ends.append(number)

        async def until_error(pause: float, **limits: float) -> tuple[int, RpcTimeoutError, float]:
            items: list[int] = []
            began = loop.time()
            with pytest.raises(RpcTimeoutError) as caught:
                await collect(near.stream("slow", pause, **limits), items)
            return len(items), caught.value, loop.time() - began

        count, error, took = await until_error(5.0)
        assert (count, error.timeout_duration, error.remote) == (0, 3.0, False)
        assert "no item within 3.0 seconds; it waited for the peer's next item" in str(error)
        assert 2.9 < took < 3.2
        count, error, took = await until_error(1.0, timeout=4.5, item_timeout=2.0)
        assert (count, error.timeout_duration) == (4, 4.5)
        assert 4.4 < took < 4.7
        count, error, took = await until_error(2.0, item_timeout=1.0)
        assert (count, error.timeout_duration) == (0, 1.0)
        await until(lambda: len(ends) == 3)
        await idle(near, far)


async def test_streams_take_their_place_among_the_calls(managers: Managers) -> None:
    async with managers(near={"concurrency_limit": 1}) as (near, far):
        feed = Feed(pause=True)
        far.register(feed, name="feed")
        async with near.stream("feed") as results:
            assert await anext(results) == 1
            with pytest.raises(RpcTimeoutError, match=r"one of 1 calls to end"):
                await anext(near.stream("feed", item_timeout=0.5))
            with pytest.raises(RpcTimeoutError, match=r"one of 1 calls to end"):
                await near.call("feed", timeout=0.5)
        await feed.ended.wait()
        await idle(near, far)


# ------------------------------------------------------------------- interceptors


async def test_interceptors_run_around_the_whole_call(managers: Managers) -> None:
    seen: list[str] = []

    async def note(call: RpcCall, proceed: Proceed) -> Any:
        side = "near" if call.direction is RpcDirection.OUTGOING else "far"
        if side == "near":
            call.metadata["token"] = "secret"
        elif call.metadata.get("token") != "secret" or call.method == "forbidden":
            raise RpcError("who are you?", error_code=401)
        seen.append(f"{side} begins {call.is_stream}")
        try:
            return await proceed()
        except RpcError as error:
            seen.append(f"{side} {error.message}")
            raise
        finally:
            seen.append(f"{side} ends")

    settings = {"interceptors": [note]}
    async with managers(near=settings, far=settings) as (near, far):

        @far.register
        async def some(fail: bool) -> AsyncIterator[int]:
            yield 1
            seen.append("item")
            if fail:
                raise RpcError("no more", error_code=3)

        assert [item async for item in near.stream("some", False)] == [1]
        assert seen == ["near begins True", "far begins True", "item", "far ends", "near ends"]
        seen.clear()
        with pytest.raises(RpcError, match="no more"):
            await collect(near.stream("some", True), [])
        assert seen[2:] == ["item", "far no more", "far ends", "near no more", "near ends"]
        with pytest.raises(RpcError, match="who are you"):
            await anext(near.stream("forbidden"))
        await idle(near, far)


async def test_an_interceptor_of_the_caller_may_refuse(managers: Managers) -> None:
    async def refuse(call: RpcCall, proceed: Proceed) -> Any:
        if call.method == "silent":
            return None
        raise PermissionError("not today")

    async with managers(near={"interceptors": [refuse]}) as (near, far):
        with pytest.raises(PermissionError, match="not today"):
            await anext(near.stream("feed"))
        assert [item async for item in near.stream("silent")] == []
        await idle(near, far)


# ---------------------------------------------------------------------- hostile peers


def frame(type_id: int, payload: Any) -> bytes:
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return struct.pack("!HI", type_id, len(data)) + data


ITEM = frame(6, {"value": 1})
ANSWERS: dict[str, tuple[bytes, type[Exception], str]] = {
    "a result": (ITEM + frame(2, {"value": 5}), SerializationError, "with a Result, expected an"),
    "a request": (ITEM + frame(1, {"method": "x"}), SerializationError, "with a Request"),
    "no end": (ITEM, RpcCancelledError, "the peer did not answer"),
    "half an item": (ITEM + ITEM[:8], RpcCancelledError, "the peer did not answer"),
    "no JSON": (ITEM + frame(6, b"{"), SerializationError, "malformed JSON"),
    "unknown": (ITEM + frame(99, {}), SerializationError, "no type ID 99"),
    "a failure without a code": (
        ITEM + frame(3, {"code": "x"}),
        SerializationError,
        "expected int",
    ),
    "too large": (
        ITEM + struct.pack("!HI", 6, 2**31),
        SerializationError,
        "more than max_message_size",
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_answers_that_make_no_sense(name: str, pair: PairOfSessions) -> None:
    data, kind, text = ANSWERS[name]
    async with pair() as (client, server), RpcManager(client) as near:
        results = near.stream("feed")
        task = asyncio.create_task(anext(results))  # type: ignore[arg-type]
        stream = await anext(aiter(server.incoming_bidirectional_streams()))
        await stream.write(data, end_stream=True)
        assert await task == 1
        with pytest.raises(kind, match=text):
            await anext(results)
        assert [item async for item in results] == []
        await until(lambda: near.active_calls["outgoing"] == 0)
        await until(lambda: not client.open_streams())


async def test_what_follows_the_end_is_ignored(pair: PairOfSessions) -> None:
    async with pair() as (client, server), RpcManager(client) as near:
        results = near.stream("feed")
        task = asyncio.create_task(collect(results, items := []))
        stream = await anext(aiter(server.incoming_bidirectional_streams()))
        await stream.write(ITEM + frame(7, {}) + ITEM * 3)
        await task
        assert items == [1]
        await stream.wait_stopped()


async def test_a_caller_that_takes_nothing_holds_its_own_session_only(
    managers: Managers,
) -> None:
    """The method waits at its window; the end of the session ends it."""
    async with managers(client={"max_read_buffer_size": 16_384}) as (near, far):
        feed = Feed(size=1000)
        far.register(feed, name="feed")
        stream = await near.session.create_bidirectional_stream()
        await stream.write(frame(5, {"method": "feed"}), end_stream=True)
        await until(lambda: feed.made > 10)
        await asyncio.sleep(40)  # longer than any write timeout
        assert not feed.ended.is_set()
        await near.session.close()
        await feed.ended.wait()
        assert isinstance(feed.error, asyncio.CancelledError | GeneratorExit)


async def test_requests_that_make_no_sense(managers: Managers) -> None:
    async with managers() as (near, far):
        far.register(Feed(), name="feed")
        for payload in ({}, {"method": 5}, {"method": "feed", "timeout": -1}, b"{"):
            stream = await near.session.create_bidirectional_stream()
            await stream.write(frame(5, payload), end_stream=True)
            answer = await stream.read_all()
            assert answer[:2] == b"\x00\x03"
            assert json.loads(answer[6:])["code"] == RpcErrorCode.INVALID_REQUEST
        await idle(near, far)
