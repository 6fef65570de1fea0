"""Remote calls over real sessions: results, errors, types, limits, cancellation, ends."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct

from pywebtransport import WebTransportClient
from pywebtransport.exceptions import (
    ConfigurationError,
    SerializationError,
    SessionClosedError,
)
from pywebtransport.rpc import (
    InvalidParamsError,
    MethodNotFoundError,
    Proceed,
    RpcCall,
    RpcCancelledError,
    RpcDirection,
    RpcError,
    RpcErrorCode,
    RpcManager,
    RpcTimeoutError,
)
from pywebtransport.serializer import JSONSerializer, MsgPackSerializer, ProtobufSerializer
from pywebtransport.session import WebTransportSession
from tests.support.endpoints import ClientFactory, PairOfSessions, Serving
from tests.support.leaks import ExpectedLogs
from tests.support.steps import cancelled_at, until

pytestmark = pytest.mark.loops("virtual")

ROOT = Path(__file__).resolve().parents[2]

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


@dataclass
class Point:
    x: int
    y: int


@dataclass
class Shape:
    name: str
    points: list[Point]


class Waiting:
    """A handler that waits, and notes that it runs and how it ended."""

    def __init__(self) -> None:
        self.running = 0
        self.most = 0
        self.started = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self, value: Any = None) -> Any:
        self.running += 1
        self.most = max(self.most, self.running)
        self.started.set()
        try:
            await self.go_on.wait()
            return value
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        finally:
            self.running -= 1


async def idle(*managers: RpcManager) -> None:
    """Nothing is under way any more, at any end."""
    await until(
        lambda: all(manager.active_calls == {"incoming": 0, "outgoing": 0} for manager in managers)
    )
    await until(lambda: not any(manager.session._streams for manager in managers))


# ---------------------------------------------------------------- calls and results


async def test_each_side_calls_the_other(managers: Managers) -> None:
    async with managers() as (near, far):

        @far.register
        async def add(a: int, b: int) -> int:
            return a + b

        @near.register(name="text.upper")
        def upper(text: str) -> str:
            return text.upper()

        assert await near.call("add", 1, 2) == 3
        assert await near.call("add", 1, named_params={"b": 5}) == 6
        assert await near.call("add", a=1, b=5) == 6
        assert await near.call("add", 1, b=5, named_params={}) == 6
        assert await near.call("add", named_params={"a": 1}, b=5) == 6
        with pytest.raises(ConfigurationError, match=r"named_params.*'b' is also given"):
            await near.call("add", 1, b=5, named_params={"b": 5})
        with pytest.raises(InvalidParamsError, match="unexpected keyword argument 'c'"):
            await near.call("add", 1, b=5, c=6)
        assert await far.call("text.upper", "abc") == "ABC"
        assert (near.methods, far.methods) == (("text.upper",), ("add",))
        await idle(near, far)


async def test_keywords_of_a_call_travel_like_named_params(managers: Managers) -> None:
    """Those whose names are arguments of ``call`` go into ``named_params``."""
    seen: list[tuple[Any, ...]] = []

    async def note(call: RpcCall, proceed: Proceed) -> Any:
        seen.append((call.method, call.params, call.named_params))
        return await proceed()

    async with managers(far={"interceptors": [note]}) as (near, far):
        far.register(lambda *params, **named: named, name="names")
        own = {"timeout": 1, "method": "x", "self": None, "no identifier": 2}
        assert await near.call("names", named_params=own) == own
        assert await near.call("names", 1, more={"a": 1}, named_params=own) == {
            **own,
            "more": {"a": 1},
        }
        await near.notify("names", 2, more=3)
        await until(lambda: len(seen) == 3)
        assert seen[1:] == [
            ("names", [1], {**own, "more": {"a": 1}}),
            ("names", [2], {"more": 3}),
        ]
        await idle(near, far)


@pytest.mark.parametrize("value", [None, True, 0, -1.5, "ä\u2028", [], {"a": [1, {"b": None}]}])
async def test_values_come_back_as_they_went(managers: Managers, value: Any) -> None:
    async with managers() as (near, far):
        far.register(lambda value: value, name="echo")
        assert await near.call("echo", value) == value


async def test_dataclasses_both_ways(managers: Managers) -> None:
    async with managers() as (near, far):

        @far.register
        def mirror(shape: Shape, origin: Point | None = None) -> Shape:
            assert isinstance(shape.points[0], Point)
            return Shape(shape.name, [Point(-p.x, -p.y) for p in shape.points])

        shape = Shape("line", [Point(1, 2), Point(3, 4)])
        result = await near.call("mirror", shape, result_type=Shape)
        assert result == Shape("line", [Point(-1, -2), Point(-3, -4)])
        plain = await near.call("mirror", shape, named_params={"origin": Point(0, 0)})
        assert plain["points"][0] == {"x": -1, "y": -2}
        with pytest.raises(InvalidParamsError, match="missing field points"):
            await near.call("mirror", {"name": "x"})
        with pytest.raises(SerializationError, match="x"):
            await near.call("mirror", shape, result_type=Point)


async def test_msgpack_carries_bytes(managers: Managers) -> None:
    options = {"serializer": MsgPackSerializer()}
    async with managers(near=options, far=options) as (near, far):
        far.register(lambda data: data[::-1], name="reverse")
        assert await near.call("reverse", b"\x00\xff") == b"\xff\x00"


async def test_a_thousand_calls_at_once(managers: Managers) -> None:
    async with managers(near={"concurrency_limit": 1000}) as (near, far):

        @far.register
        async def double(value: int) -> int:
            await asyncio.sleep(0)
            return value * 2

        results = await asyncio.gather(*(near.call("double", i) for i in range(1000)))
        assert results == [2 * i for i in range(1000)]
        await idle(near, far)


async def test_a_large_call_does_not_hold_up_a_small_one(managers: Managers) -> None:
    size = 4_000_000
    options = {"max_message_size": size + 100}
    async with managers(near=options, far=options) as (near, far):
        far.register(lambda text: text, name="echo")
        large = asyncio.create_task(near.call("echo", "x" * size))
        assert await near.call("echo", "small") == "small"
        assert not large.done()
        assert await large == "x" * size


# ---------------------------------------------------------------------------- errors


async def test_unknown_methods_and_wrong_parameters(managers: Managers) -> None:
    async with managers() as (near, far):
        far.register(lambda value: value, name="echo")
        with pytest.raises(MethodNotFoundError, match="there is no method 'nope'") as missing:
            await near.call("nope")
        assert missing.value.remote is True
        assert missing.value.method == "nope"
        with pytest.raises(InvalidParamsError, match="missing a required argument: 'value'"):
            await near.call("echo")
        far.unregister("echo")
        far.unregister("echo")
        with pytest.raises(MethodNotFoundError):
            await near.call("echo", 1)


async def test_errors_of_the_application_travel_with_code_and_data(managers: Managers) -> None:
    async with managers() as (near, far):

        @far.register
        def join(room: str) -> None:
            raise RpcError("the room is full", error_code=409, data={"room": room})

        with pytest.raises(RpcError, match="the room is full") as caught:
            await near.call("join", "x")
        assert (caught.value.error_code, caught.value.data) == (409, {"room": "x"})
        assert caught.value.remote is True


async def test_other_errors_are_logged_there_and_say_nothing_here(
    managers: Managers, expected_logs: ExpectedLogs
) -> None:
    expected_logs("handler of 'broken' raised ValueError: the secret is 42")
    async with managers() as (near, far):

        @far.register
        def broken() -> None:
            raise ValueError("the secret is 42")

        with pytest.raises(RpcError) as caught:
            await near.call("broken")
        assert type(caught.value) is RpcError
        assert caught.value.error_code == RpcErrorCode.INTERNAL_ERROR
        assert "secret" not in str(caught.value.to_dict())


async def test_a_result_that_cannot_be_sent_is_an_internal_error(
    managers: Managers, expected_logs: ExpectedLogs
) -> None:
    expected_logs("an answer cannot be sent: cannot write")
    expected_logs("an answer cannot be sent: the Result message of")
    async with managers(far={"max_message_size": 1000}) as (near, far):
        far.register(object, name="thing")
        far.register(lambda: "x" * 1000, name="large")
        for name in ("thing", "large"):
            with pytest.raises(RpcError) as caught:
                await near.call(name)
            assert caught.value.error_code == RpcErrorCode.INTERNAL_ERROR


async def test_errors_of_calls_within_calls_are_not_passed_on(
    managers: Managers, expected_logs: ExpectedLogs
) -> None:
    """ "No such method" of the inner call would mean another thing to the outer caller."""
    expected_logs("handler of 'outer' raised MethodNotFoundError")
    async with managers() as (near, far):

        @far.register
        async def outer() -> None:
            await far.call("missing")

        with pytest.raises(RpcError) as caught:
            await near.call("outer")
        assert type(caught.value) is RpcError
        assert caught.value.error_code == RpcErrorCode.INTERNAL_ERROR


async def test_parameters_that_cannot_be_sent(managers: Managers) -> None:
    async with managers(near={"max_message_size": 1000}) as (near, far):
        far.register(lambda value: value, name="echo")
        with pytest.raises(SerializationError):
            await near.call("echo", object())
        with pytest.raises(SerializationError, match="larger than max_message_size=1000"):
            await near.call("echo", "x" * 1000)
        assert await near.call("echo", 1) == 1
        await idle(near, far)


async def test_a_request_that_is_too_large_there_is_refused(managers: Managers) -> None:
    async with managers(far={"max_message_size": 1000}) as (near, far):
        far.register(lambda value: value, name="echo")
        for size in (1000, 900_000):
            with pytest.raises(RpcError, match="more than max_message_size=1000") as caught:
                await near.call("echo", "x" * size)
            assert caught.value.error_code == RpcErrorCode.INVALID_REQUEST
        assert await near.call("echo", 1) == 1
        await idle(near, far)


async def test_an_answer_that_is_too_large_here(managers: Managers) -> None:
    async with managers(near={"max_message_size": 1000}) as (near, far):
        far.register(lambda size: "x" * size, name="make")
        for size in (1000, 900_000):
            with pytest.raises(SerializationError, match="max_message_size=1000"):
                await near.call("make", size)
        assert await near.call("make", 1) == "x"
        await idle(near, far)


# ------------------------------------------------------------------- notifications


async def test_notifications_run_and_answer_nothing(
    managers: Managers, expected_logs: ExpectedLogs
) -> None:
    expected_logs("handler of 'broken' raised ValueError")
    async with managers() as (near, far):
        got: list[Any] = []

        @far.register
        async def note(value: int, more: int = 0) -> str:
            await asyncio.sleep(0)
            got.append((value, more))
            return "nobody hears this"

        @far.register
        def broken() -> None:
            raise ValueError("not told")

        await near.notify("note", 1)
        await near.notify("note", 2, named_params={"more": 3})
        await near.notify("broken")
        await near.notify("missing")
        await until(lambda: len(got) == 2)
        assert sorted(got) == [(1, 0), (2, 3)]
        await idle(near, far)


async def test_notifications_that_cannot_be_sent(managers: Managers) -> None:
    async with managers() as (near, far):
        with pytest.raises(SerializationError):
            await near.notify("note", object())
        await idle(near, far)


# ---------------------------------------------------------- timeouts and cancellation


async def test_cancelling_the_call_cancels_the_handler(managers: Managers) -> None:
    async with managers() as (near, far):
        waiting = far.register(Waiting(), name="wait")
        call = asyncio.create_task(near.call("wait"))
        await waiting.started.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await waiting.cancelled.wait()
        await idle(near, far)


async def test_a_call_that_takes_too_long_ends_on_both_sides(managers: Managers) -> None:
    async with managers() as (near, far):
        waiting = far.register(Waiting(), name="wait")
        with pytest.raises(RpcTimeoutError) as caught:
            await near.call("wait", timeout=0.2)
        assert caught.value.method == "wait"
        await until(lambda: waiting.cancelled.is_set() or not waiting.started.is_set())
        await idle(near, far)


async def test_a_timeout_of_the_handler_s_own_is_its_error(
    managers: Managers, expected_logs: ExpectedLogs
) -> None:
    expected_logs("handler of 'slow' raised TimeoutError")
    async with managers() as (near, far):

        @far.register
        async def slow() -> None:
            raise TimeoutError("a database")

        with pytest.raises(RpcError) as caught:
            await near.call("slow", timeout=30)
        assert caught.value.error_code == RpcErrorCode.INTERNAL_ERROR


async def test_the_default_timeout_holds_where_none_is_given(managers: Managers) -> None:
    async with managers(near={"default_timeout": 0.05}) as (near, far):
        far.register(Waiting(), name="wait")
        with pytest.raises(RpcTimeoutError):
            await near.call("wait")
        await idle(near, far)


async def test_without_any_timeout(managers: Managers) -> None:
    async with managers(near={"default_timeout": None}) as (near, far):
        waiting = far.register(Waiting(), name="wait")
        call = asyncio.create_task(near.call("wait", 5))
        await waiting.started.wait()
        waiting.go_on.set()
        assert await call == 5


async def test_a_timeout_of_an_interceptor_is_its_own(managers: Managers) -> None:
    async def slow(call: RpcCall, proceed: Proceed) -> Any:
        raise TimeoutError("of another thing")

    async with managers(near={"interceptors": [slow]}) as (near, _):
        with pytest.raises(TimeoutError, match="of another thing") as caught:
            await near.call("f", timeout=30)
        assert not isinstance(caught.value, RpcError)


async def test_read_timeout_of_the_streams_does_not_end_a_call(managers: Managers) -> None:
    async with managers(client={"read_timeout": 0.001}) as (near, far):
        waiting = far.register(Waiting(), name="wait")
        call = asyncio.create_task(near.call("wait", 5))
        await waiting.started.wait()
        await until(lambda: any(s.stats.read_errors > 2 for s in near.session.open_streams()))
        waiting.go_on.set()
        assert await call == 5


async def test_cancelling_at_every_await_leaves_nothing(managers: Managers) -> None:
    async with managers() as (near, far):
        far.register(lambda value: value, name="echo")
        index = 0
        while await cancelled_at(lambda: near.call("echo", "x" * 100_000), index):
            index += 1
        assert index > 0
        await idle(near, far)
        assert await near.call("echo", 1) == 1


async def test_a_call_cancelled_before_it_is_taken_never_runs(managers: Managers) -> None:
    async with managers(far={"concurrency_limit": 1}) as (near, far):
        waiting = far.register(Waiting(), name="wait")
        ran: list[int] = []
        far.register(lambda: ran.append(1), name="run")
        first = asyncio.create_task(near.call("wait"))
        await waiting.started.wait()
        second = asyncio.create_task(near.call("run"))
        await until(lambda: far.session._incoming_bidi)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        # The STOP_SENDING is there when something sent after it is.
        await near.session.datagrams.send(b"after")
        await far.session.datagrams.receive()
        waiting.go_on.set()
        await first
        await idle(near, far)
        assert ran == []


# -------------------------------------------------------------------------- limits


async def test_incoming_calls_beyond_the_limit_wait(managers: Managers) -> None:
    async with managers(far={"concurrency_limit": 3}) as (near, far):
        waiting = far.register(Waiting(), name="wait")
        calls = [asyncio.create_task(near.call("wait", i)) for i in range(10)]
        await until(lambda: waiting.running == 3 and len(far.session._incoming_bidi or ()) >= 6)
        assert far.active_calls["incoming"] == 3
        waiting.go_on.set()
        assert await asyncio.gather(*calls) == list(range(10))
        assert waiting.most == 3


async def test_outgoing_calls_beyond_the_limit_wait_within_their_timeout(
    managers: Managers,
) -> None:
    async with managers(near={"concurrency_limit": 2}) as (near, far):
        waiting = far.register(Waiting(), name="wait")
        calls = [asyncio.create_task(near.call("wait", i)) for i in range(5)]
        await until(lambda: waiting.running == 2)
        assert near.active_calls["outgoing"] == 2
        with pytest.raises(RpcTimeoutError):
            await near.call("wait", timeout=0.05)
        waiting.go_on.set()
        assert await asyncio.gather(*calls) == list(range(5))
        assert waiting.most == 2


async def test_the_peer_s_stream_limit_makes_calls_wait(managers: Managers) -> None:
    limits = {"initial_max_streams_bidi": 4}
    async with managers(server=limits) as (near, far):
        far.register(lambda value: value, name="echo")
        results = await asyncio.gather(*(near.call("echo", i) for i in range(50)))
        assert results == list(range(50))


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"concurrency_limit": 0}, "concurrency_limit"),
        ({"concurrency_limit": True}, "concurrency_limit"),
        ({"max_message_size": -1}, "max_message_size"),
        ({"max_message_size": 1.5}, "max_message_size"),
        ({"default_timeout": 0}, "default_timeout"),
        ({"request_timeout": -1}, "request_timeout"),
        ({"request_timeout": float("nan")}, "request_timeout"),
    ],
)
async def test_options_out_of_range(
    pair: PairOfSessions, options: dict[str, Any], key: str
) -> None:
    async with pair() as (session, _):
        with pytest.raises(ConfigurationError) as caught:
            RpcManager(session, **options)
        assert caught.value.config_key == key


async def test_arguments_out_of_range(managers: Managers) -> None:
    async with managers() as (near, _):
        near.register(lambda: 1, name="taken")
        for name in ("taken", "", "x" * 300, "a\n"):
            with pytest.raises(ConfigurationError) as caught:
                near.register(lambda: 1, name=name)
            assert caught.value.config_key == "name"
        with pytest.raises(ConfigurationError) as caught:
            near.register(5, name="five")  # type: ignore[type-var]
        assert caught.value.config_key == "func"
        with pytest.raises(ConfigurationError):
            near.register(Waiting())  # an object has no name
        for timeout in (0, -1, float("inf")):
            with pytest.raises(ConfigurationError) as caught:
                await near.call("f", timeout=timeout)
            assert caught.value.config_key == "timeout"
        with pytest.raises(RpcError, match="method must be"):
            await near.call("")


# --------------------------------------------------------------------- interceptors


async def test_interceptors_see_both_directions_and_carry_metadata(managers: Managers) -> None:
    seen: list[tuple[str, RpcDirection, str, dict[str, str]]] = []

    logged_in = True

    async def out(call: RpcCall, proceed: Proceed) -> Any:
        if not logged_in:
            return await proceed()
        call.metadata["token"] = "secret"
        result = await proceed()
        seen.append(("near", call.direction, call.method, call.metadata))
        return result

    async def guard(call: RpcCall, proceed: Proceed) -> Any:
        seen.append(("far", call.direction, call.method, dict(call.metadata)))
        assert call.timeout is not None
        assert call.session.is_ready
        if call.metadata.get("token") != "secret":
            raise RpcError("log in first", error_code=401)
        return [await proceed(), list(call.params)]

    async with managers(near={"interceptors": [out]}, far={"interceptors": [guard]}) as (near, far):
        far.register(lambda value: value, name="echo")
        assert await near.call("echo", 5, metadata={"a": "b"}) == [5, [5]]
        expected = {"token": "secret", "a": "b"}
        assert seen == [
            ("far", RpcDirection.INCOMING, "echo", expected),
            ("near", RpcDirection.OUTGOING, "echo", expected),
        ]
        logged_in = False
        with pytest.raises(RpcError, match="log in first") as caught:
            await near.call("echo", 5)
        assert caught.value.error_code == 401
        await near.notify("echo", 5)
        await until(lambda: len(seen) == 4)


# ------------------------------------------------------------------------ life cycle


async def test_closing_the_manager_ends_its_calls_and_not_the_session(managers: Managers) -> None:
    async with managers() as (near, far):
        waiting = far.register(Waiting(), name="wait")
        back = near.register(Waiting(), name="back")
        calls = [asyncio.create_task(near.call("wait")), asyncio.create_task(far.call("back"))]
        await waiting.started.wait()
        await back.started.wait()
        await near.close()
        await near.close()
        with pytest.raises(RpcCancelledError, match="the manager was closed") as here:
            await calls[0]
        assert here.value.remote is False
        with pytest.raises(RpcCancelledError) as there:
            await calls[1]
        assert there.value.remote is True
        await waiting.cancelled.wait()
        assert back.cancelled.is_set()
        assert near.is_closed
        assert not near.session.is_closed
        with pytest.raises(RpcCancelledError):
            await near.call("wait")
        with pytest.raises(ConfigurationError, match="cannot be started again"):
            await near.start()
        await idle(near, far)


@pytest.mark.parametrize("closer", ["near", "far"])
async def test_the_end_of_the_session_ends_everything(managers: Managers, closer: str) -> None:
    async with managers() as (near, far):
        waiting = far.register(Waiting(), name="wait")
        call = asyncio.create_task(near.call("wait"))
        await waiting.started.wait()
        await (near if closer == "near" else far).session.close(code=5, reason="enough")
        with pytest.raises(SessionClosedError) as caught:
            await call
        assert caught.value.code == 5
        await waiting.cancelled.wait()
        await idle(near, far)
        with pytest.raises(SessionClosedError):
            await near.call("wait")


async def test_the_end_of_the_session_ends_notifications_too(managers: Managers) -> None:
    async with managers(far={"concurrency_limit": 1}) as (near, far):
        waiting = far.register(Waiting(), name="wait")
        await near.notify("wait")
        await waiting.started.wait()
        acceptors = [task for task in asyncio.all_tasks() if task.get_name() == "rpc acceptor"]
        assert len(acceptors) == 2
        await near.session.close()
        await waiting.cancelled.wait()
        await idle(near, far)
        await asyncio.gather(*acceptors)


async def test_closing_the_manager_while_calls_wait_for_a_stream(managers: Managers) -> None:
    async with managers(server={"initial_max_streams_bidi": 3}) as (near, far):
        waiting = far.register(Waiting(), name="wait")
        calls = [asyncio.create_task(near.call("wait")) for _ in range(5)]
        await until(lambda: waiting.running == near.active_calls["outgoing"] > 0)
        assert waiting.running < 5
        await near.close()
        for call in calls:
            with pytest.raises(RpcCancelledError, match="the manager was closed"):
                await call
        await idle(near, far)


async def test_managers_that_were_never_started(pair: PairOfSessions) -> None:
    async with pair() as (client, _):
        manager = RpcManager(client)
        await manager.close()
        with pytest.raises(ConfigurationError):
            await manager.start()


async def test_a_handler_may_close_its_session(managers: Managers) -> None:
    done = asyncio.Event()
    async with managers() as (near, far):

        @near.register
        async def leave() -> None:
            await near.session.close(code=3)
            await asyncio.sleep(0)
            done.set()

        with pytest.raises(SessionClosedError) as caught:
            await far.call("leave")
        assert caught.value.code == 3
        await done.wait()
        await idle(near, far)


async def test_serving_in_a_handler_of_the_application(
    serving: Serving, client_config: ClientFactory
) -> None:
    served: list[RpcManager] = []

    async def handler(session: WebTransportSession) -> None:
        rpc = RpcManager(session)
        rpc.register(lambda: session.path, name="path")
        served.append(rpc)
        await rpc.serve()

    async with (
        serving({"/rpc": handler}) as server,
        WebTransportClient(config=client_config()) as client,
    ):
        async with client.connect(server.url("/rpc")) as session, RpcManager(session) as rpc:
            assert await rpc.call("path") == "/rpc"
        await until(lambda: served[0].is_closed)


async def test_datagrams_and_unidirectional_streams_stay_free(managers: Managers) -> None:
    async with managers() as (near, far):
        far.register(lambda: 1, name="one")
        stream = await near.session.create_unidirectional_stream()
        await stream.write_all(b"own business")
        async for received in far.session.incoming_unidirectional_streams():
            assert await received.read_all() == b"own business"
            break
        assert await near.call("one") == 1


async def test_handlers_may_call_back(managers: Managers) -> None:
    async with managers() as (near, far):

        @far.register
        async def outer(value: int) -> Any:
            return await far.call("inner", value + 1)

        near.register(lambda value: value * 10, name="inner")
        assert await near.call("outer", 1) == 20


def test_the_example_runs() -> None:
    finished = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "examples" / "rpc.py")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout.splitlines() == [
        "shall I pay 7.70? yes",
        "bought 2 things for 7.70",
        "there is no coffee left (code 1), but ['cake', 'tea']",
    ]


# ------------------------------------------------------------------------ serializers


class Wrong(JSONSerializer):
    """Reads something else than it wrote."""

    def deserialize(self, data: bytes, obj_type: Any = None) -> Any:
        return None


async def test_a_serializer_that_cannot_write_calls_is_refused_at_construction(
    pair: PairOfSessions,
) -> None:
    async with pair() as (client, _):
        for serializer, text in (
            (ProtobufSerializer(message_class=Struct), "expected a Struct message, got Request"),
            (Wrong(), "it reads something else than it wrote"),
        ):
            with pytest.raises(ConfigurationError, match=text) as caught:
                RpcManager(client, serializer=serializer)
            assert caught.value.config_key == "serializer"
            assert "JSONSerializer or MsgPackSerializer" in str(caught.value)
        assert not client.open_streams()


async def test_a_serializer_of_the_application_is_tried_and_used(managers: Managers) -> None:
    class Own(JSONSerializer):
        """A class of its own."""

    settings = {"serializer": Own()}
    async with managers(near=settings, far=settings) as (near, far):
        far.register(lambda text: text.upper(), name="upper")
        assert await near.call("upper", "a") == "A"
