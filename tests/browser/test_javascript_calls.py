"""Remote calls, publish/subscribe and reconnecting of ``examples/js/pywebtransport.js``."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from pywebtransport import WebTransportSession
from pywebtransport.pubsub import Broker
from pywebtransport.rpc import (
    MethodNotFoundError,
    Proceed,
    RpcCall,
    RpcError,
    RpcManager,
    RpcTimeoutError,
)
from pywebtransport.serializer import JSONSerializer
from tests.support.leaks import ExpectedLogs
from tests.support.ports import free_port

from .javascript import (
    FORMATS,
    HEADER,
    IN_BROWSERS,
    VisitFactory,
    formats,
    message,
    page_with_helper,
)
from .kinds import Kind

pytestmark = IN_BROWSERS
# One tab serves all tests here.
page = pytest.fixture(scope="module")(page_with_helper)


# -------------------------------------------------------------------------------- remote calls


@dataclass
class Item:
    """A parameter and a result."""

    name: str
    price: int


class Shop:
    """The server's half: a handler, and what happened in it."""

    def __init__(self, format: str = "json", **options: Any) -> None:
        self.format = format
        self.options = options
        self.told: asyncio.Queue[str] = asyncio.Queue()
        self.cancelled: asyncio.Queue[str] = asyncio.Queue()
        self.rpc: asyncio.Queue[RpcManager] = asyncio.Queue()

    async def __call__(self, session: WebTransportSession) -> None:
        rpc = RpcManager(session, serializer=FORMATS[self.format](), **self.options)
        for method in (self.add, self.item, self.refuse, self.fail, self.wait, self.leave):
            rpc.register(method)
        rpc.register(self.tell, name="waiting")
        rpc.register(self.tell, name="gone")
        rpc.register(self.tell)
        rpc.register(self.types)
        async with rpc:
            self.rpc.put_nowait(rpc)
            await session.wait_closed()

    def add(self, a: int, b: int = 1) -> int:
        """Of two numbers."""
        return a + b

    def item(self, item: Item) -> Item:
        """Takes and gives a dataclass."""
        return Item(item.name.upper(), item.price + 1)

    def types(self, data: bytes, large: int, real: float, text: str) -> list[Any]:
        """Of every parameter."""
        assert (data, large, real, text) == (b"\0\xff", 2**60, 0.5, "é")
        return [data, large, real, text]

    def refuse(self) -> None:
        """Fails with an error of its own."""
        raise RpcError("sold out", error_code=3, data={"left": [1, 2]})

    def fail(self) -> None:
        """Fails otherwise."""
        raise LookupError("secret")

    async def wait(self, name: str) -> None:
        """Until it is cancelled."""
        self.told.put_nowait(name)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.put_nowait(name)
            raise

    def tell(self, text: str) -> None:
        """A notification."""
        self.told.put_nowait(text)

    async def leave(self) -> None:
        """Ends the session instead of answering."""
        rpc = await self.rpc.get()
        await rpc.session.close(code=4, reason="closing time")


@formats
async def test_calls_of_the_page(
    format: str, visit: VisitFactory, expected_logs: ExpectedLogs
) -> None:
    expected_logs("handler of 'fail'")
    shop = Shop(format)
    async with visit(shop) as it:
        await it.run("js.openRpc", format)
        assert await it.run("js.call", "add", [1, 2]) == 3
        assert await it.run("js.call", "add", [1], {"named": {"b": 40}}) == 41
        item = {"name": "tea", "price": 350}
        assert await it.run("js.call", "item", [item]) == {"name": "TEA", "price": 351}
        real = "AP8=" if format == "json" else {"bytes": "00ff"}
        assert await it.run("js.callTypes") == [real, {"bigint": str(2**60)}, 0.5, "é"]
        await it.run("js.notify", "tell", ["hello"])
        assert await shop.told.get() == "hello"
        assert await it.run("js.callAll", "add", 150) == [index + 1 for index in range(150)]

        error = await it.run("js.callFails", "refuse", [])
        assert (error["name"], error["code"], error["data"], error["remote"]) == (
            "RpcError",
            3,
            {"left": [1, 2]},
            True,
        )
        assert error["message"] == "refuse: sold out"
        error = await it.run("js.callFails", "fail", [])
        assert (error["name"], error["code"]) == ("RpcError", -32603)
        assert "secret" not in error["message"]
        error = await it.run("js.callFails", "nothing", [])
        assert (error["name"], error["code"]) == ("MethodNotFoundError", -32601)
        error = await it.run("js.callFails", "add", ["x"])
        assert (error["name"], error["code"]) == ("InvalidParamsError", -32602)


async def test_calls_with_wrong_arguments_are_refused_here(visit: VisitFactory) -> None:
    async with visit(Shop()) as it:
        await it.run("js.openRpc")
        for method, params, options, field in (
            ("", [], {}, "method"),
            ("x" * 257, [], {}, "method"),
            ("add", {"a": 1}, {}, "params"),
            ("add", [], {"named": [1]}, "named"),
            ("add", [], {"metadata": {"token": 1}}, "metadata"),
            ("add", [], {"timeoutMs": 0}, "timeoutMs"),
        ):
            error = await it.run("js.callFails", method, params, options)
            assert (error["name"], error["field"]) == ("ConfigurationError", field)


async def test_calls_too_large_for_either_end(visit: VisitFactory, kind: Kind) -> None:
    async with visit(Shop(max_message_size=2000)) as it:
        await it.run("js.openRpc", "json", {"maxMessageSize": 3000})
        error = await it.run("js.callFails", "tell", ["x" * 2990])
        assert (error["name"], error["maxSize"]) == ("SerializationError", 3000)
        error = await it.run("js.callFails", "tell", ["x" * 2500])
        # Firefox drops an answer that comes together with STOP_SENDING.
        if kind.name != "firefox" or error["name"] != "RpcCancelledError":
            assert (error["name"], error["code"]) == ("RpcError", -32600)
            assert error["data"]["max_size"] == 2000
        assert await it.run("js.call", "add", [1, 2]) == 3


async def test_cancelled_call_cancels_its_handler(visit: VisitFactory, kind: Kind) -> None:
    shop = Shop()
    async with visit(shop) as it:
        await it.run("js.openRpc")
        await it.run("js.begin", "wait", ["one"])
        assert await shop.told.get() == "one"
        error = await it.run("js.abort")
        assert (error["name"], error["message"]) == ("Error", "changed my mind")
        if kind.tells_cancel:
            assert await shop.cancelled.get() == "one"
        assert await it.run("js.call", "add", [1, 2]) == 3


async def test_call_that_takes_too_long(visit: VisitFactory) -> None:
    shop = Shop()
    async with visit(shop) as it:
        await it.run("js.openRpc")
        error = await it.run("js.callFails", "wait", ["one"], {"timeoutMs": 80})
        assert (error["name"], error["code"]) == ("RpcTimeoutError", -32001)
        assert await shop.cancelled.get() == "one"  # it is told how long it may take


async def test_further_calls_wait_for_a_slot(visit: VisitFactory) -> None:
    shop = Shop()
    async with visit(shop) as it:
        await it.run("js.openRpc", "json", {"concurrencyLimit": 1})
        await it.run("js.begin", "wait", ["one"])
        assert await shop.told.get() == "one"
        error = await it.run("js.callFails", "wait", ["two"], {"timeoutMs": 50})
        assert error["name"] == "RpcTimeoutError"
        await it.run("js.abort")
        assert await it.run("js.callAll", "add", 20) == [index + 1 for index in range(20)]
        assert shop.told.empty()


async def test_calls_end_with_the_session_or_with_close(visit: VisitFactory) -> None:
    shop = Shop()
    async with visit(shop) as it:
        await it.run("js.openRpc")
        error = await it.run("js.callFails", "leave", [])
        assert error["name"] == "SessionClosedError"
        assert error["code"] in (4, None)
        error = await it.run("js.callFails", "add", [1, 2])
        assert error["name"] == "SessionClosedError"
        await it.run("js.openRpc")
        await it.run("js.begin", "wait", ["one"])
        assert await shop.told.get() == "one"
        errors = await it.run("js.closeRpc")
        assert [error["name"] for error in errors.values()] == ["RpcCancelledError"] * 2


async def test_page_survives_sessions_that_end_right_after_a_call(visit: VisitFactory) -> None:
    """Chromium ends the process of a page whose streams have an unacknowledged end then."""
    plans: asyncio.Queue[tuple[float, bool]] = asyncio.Queue()

    async def handler(session: WebTransportSession) -> None:
        delay, double = plans.get_nowait()
        called = asyncio.Event()

        async def end() -> None:
            if double:
                assert await rpc.call("double", 2) == 4
            called.set()

        async with RpcManager(session) as rpc:
            rpc.register(end)
            await called.wait()
            await asyncio.sleep(delay)
            await session.close(code=3)

    async with visit(handler) as it:
        for attempt in range(30):
            plans.put_nowait((attempt % 5 * 0.0005, attempt % 2 == 0))
            await it.run("js.openRpc")
            await it.run("js.begin", "end", [])
            await it.run("js.ended")


@formats
async def test_calls_of_the_server(format: str, visit: VisitFactory) -> None:
    async def with_token(call: RpcCall, proceed: Proceed) -> Any:
        call.metadata["token"] = "t"
        return await proceed()

    shop = Shop(format, interceptors=[with_token])
    async with visit(shop) as it:
        await it.run("js.openRpc", format)
        rpc = await shop.rpc.get()
        assert await rpc.call("double", 21) == 42
        assert await asyncio.gather(*(rpc.call("double", n) for n in range(150))) == [
            2 * n for n in range(150)
        ]
        assert await rpc.call("named", 1, b=[2]) == [1, {"b": [2]}, {"token": "t"}]
        with pytest.raises(RpcError) as refused:
            await rpc.call("refuse", {"x": 1})
        assert (refused.value.error_code, refused.value.data) == (7, {"x": 1})
        with pytest.raises(MethodNotFoundError):
            await rpc.call("nothing")
        with pytest.raises(RpcError) as failed:
            await rpc.call("cyclic")
        assert (failed.value.error_code, failed.value.message) == (-32603, "internal error")
        await rpc.notify("nothing")
        with pytest.raises(RpcTimeoutError):
            await rpc.call("never", timeout=0.1)


async def test_server_cancels_its_call(visit: VisitFactory) -> None:
    shop = Shop()
    async with visit(shop) as it:
        await it.run("js.openRpc")
        rpc = await shop.rpc.get()
        call = asyncio.ensure_future(rpc.call("wait", "one"))
        assert await shop.told.get() == "one"  # it waits
        call.cancel()
        assert await shop.told.get() == "one"  # it is told
        assert await rpc.call("double", 1) == 2


async def test_page_answers_what_is_no_request(visit: VisitFactory) -> None:
    async with visit() as it:
        await it.run("js.openRpc", "json", {"maxMessageSize": 1000})
        session = await it.sessions.get()
        for sent in (
            message(b"{", 1),
            message(b'{"params": []}', 1),
            message(b'{"method": "double", "params": {}}', 1),
            message(b'{"method": "double", "timeout": -1}', 1),
            message(b'{"value": 1}', 2),
            message(b"{}", 99),
            HEADER.pack(1, 1001),
        ):
            stream = await session.create_bidirectional_stream()
            async with stream:
                await stream.write(sent)
                type_id, size = HEADER.unpack(await stream.readexactly(HEADER.size))
                failure = JSONSerializer().deserialize(await stream.readexactly(size))
                assert (type_id, failure["code"]) == (3, -32600)


# --------------------------------------------------------------------------- publish/subscribe


def may(session: WebTransportSession, action: str, topic: str) -> bool:
    """Everything but one topic."""
    return topic != "rooms.secret"


@formats
async def test_topics_of_a_broker(format: str, visit: VisitFactory) -> None:
    broker = Broker(authorize=may, serializer=FORMATS[format](), max_subscriptions=3)
    async with broker, visit(broker.serve) as it:
        await it.run("js.openPubSub", format)
        await it.run("js.subscribe", "rooms.python")
        await it.run("js.subscribe", "rooms.*")
        await it.run("js.publish", "rooms.python", {"text": "é"})
        await broker.publish("rooms.rust", [1, None])
        python = {"topic": "rooms.python", "data": {"text": "é"}}
        rust = {"topic": "rooms.rust", "data": [1, None]}
        assert await it.run("js.take", "rooms.python", 1) == [python]
        assert await it.run("js.take", "rooms.*", 2) == [python, rust]

        ended = await it.run("js.unsubscribe", "rooms.python")
        assert ended == {"next": None, "isClosed": True}
        await it.run("js.publish", "rooms.python", 2)
        assert await it.run("js.take", "rooms.*", 1) == [{"topic": "rooms.python", "data": 2}]
        await it.run("js.subscribe", "rooms.python", {"maxQueue": 5})
        await broker.publish("rooms.python", "again")
        again = [{"topic": "rooms.python", "data": "again"}]
        assert await it.run("js.take", "rooms.python", 1) == again

        for function in ("js.subscribeFails", "js.publishFails"):
            error = await it.run(function, "rooms.secret")
            assert (error["name"], error["code"]) == ("TopicForbiddenError", 2)
            error = await it.run(function, "rooms..x")
            assert (error["name"], error["code"]) == ("InvalidTopicError", 1)
        await it.run("js.subscribe", "third")
        error = await it.run("js.subscribeFails", "fourth")
        assert (error["name"], error["code"]) == ("SubscriptionLimitError", 3)
        error = await it.run("js.publishFails", "rooms.python", "x" * 66_000)
        assert (error["name"], error["code"]) == ("PubSubError", 7)
        error = await it.run("js.subscribeFails", "x", {"policy": "perhaps"})
        assert (error["name"], error["field"]) == ("ConfigurationError", "policy")

        # One message was waiting: it is still given out.
        ends = await it.run("js.closePubSub")
        assert [end and end["data"] for end in ends] == [None, "again", None]


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest", "close"])
async def test_queue_of_a_subscription_is_bounded(policy: str, visit: VisitFactory) -> None:
    async with Broker() as broker, visit(broker.serve) as it:
        await it.run("js.openPubSub")
        await it.run("js.subscribe", "ticks", {"policy": policy, "maxQueue": 3})
        await it.run("js.subscribe", "other")
        for number in range(10):
            await broker.publish("ticks", number)
            # Let the broker's own queue of three empty itself.
            await broker.publish("other", number)
            await it.run("js.take", "other", 1)
        if policy == "close":
            await it.run("js.waiting", "ticks", 4)
            taken = await it.run("js.take", "ticks", 3)
            assert [message["data"] for message in taken] == [0, 1, 2]
            error = await it.run("js.takeFails", "ticks")
            assert (error["name"], error["code"]) == ("SlowSubscriberError", 5)
            assert await it.run("js.take", "ticks", 1) == [None]
            return
        assert await it.run("js.waiting", "ticks", 10) == {"waiting": 3, "dropped": 7}
        taken = await it.run("js.take", "ticks", 3)
        kept = [7, 8, 9] if policy == "drop_oldest" else [0, 1, 2]
        assert [message["data"] for message in taken] == kept


async def test_subscription_ends_with_its_session(visit: VisitFactory) -> None:
    sessions: list[WebTransportSession] = []
    async with Broker() as broker:

        async def handler(session: WebTransportSession) -> None:
            sessions.append(session)
            await broker.serve(session)

        async with visit(handler) as it:
            await it.run("js.openPubSub")
            await it.run("js.subscribe", "ticks")
            await sessions[0].close(code=9, reason="maintenance")
            error = await it.run("js.takeFails", "ticks")
            assert error["name"] == "SessionClosedError"
            assert await it.run("js.take", "ticks", 1) == [None]


# --------------------------------------------------------------------------------- reconnecting


class Greeter:
    """A handler that greets each session with its number."""

    def __init__(self, first: int) -> None:
        self.number = first
        self.sessions: list[WebTransportSession] = []

    async def __call__(self, session: WebTransportSession) -> None:
        self.sessions.append(session)
        rpc = RpcManager(session)
        rpc.register(self.greet)
        await rpc.serve()

    def greet(self) -> str:
        """A text that no other session gets."""
        self.number += 1
        return f"session {self.number}"


async def test_page_comes_back_after_the_server_was_restarted(visit: VisitFactory) -> None:
    port = free_port()
    async with visit(Greeter(0), bind_port=port) as it:
        await it.run("js.keep")
        assert await it.run("js.current") == "session 1"
    greeter = Greeter(10)
    async with visit(greeter, bind_port=port) as it:
        seen = await it.run("js.next", "session 1")
        assert seen["greetings"] == ["session 1", "session 11"]
        states = seen["states"]
        assert states[:3] == ["connecting", "open", "waiting"]
        assert states[-2:] == ["connecting", "open"]
        # The server ends a session, too, and goes on.
        await greeter.sessions[0].close(code=3, reason="over")
        seen = await it.run("js.next", "session 11")
        assert seen["greetings"][-1] == "session 12"
        ended = await it.run("js.leave")
        assert (ended["state"], ended["session"]) == ("closed", None)
        assert ended["after"]["name"] == "ConnectionError"
        await greeter.sessions[1].wait_closed()


async def test_page_gives_up(visit: VisitFactory) -> None:
    async with visit() as it:
        it.url = it.served.url("/elsewhere")
        seen = await it.run("js.giveUp", {"maxAttempts": 2})
        assert (seen["name"], seen["cause"]) == ("ConnectionError", "ConnectionError")
        assert seen["states"] == ["connecting", "waiting", "connecting", "closed"]
        # Another attempt would be useless.
        it.hash = b"x"
        seen = await it.run("js.giveUp", {})
        assert (seen["state"], seen["cause"]) == ("closed", "ConfigurationError")


async def test_page_waits_for_a_session_no_longer_than_it_wants(visit: VisitFactory) -> None:
    async with visit() as it:  # the handler does not greet
        error = await it.run("js.noSessionYet")
        assert (error["name"], error["message"]) == ("ConnectionError", "no session within 30 ms")
