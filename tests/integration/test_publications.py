"""Small messages of a session are published on one stream: answers, refusals, ends, limits."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from pywebtransport import WebTransportClient
from pywebtransport.events import MemoryBackend
from pywebtransport.exceptions import (
    ConfigurationError,
    SessionClosedError,
    StreamResetError,
)
from pywebtransport.pubsub import (
    Broker,
    PubSubError,
    PubSubErrorCode,
    PubSubManager,
    TopicForbiddenError,
)
from pywebtransport.pubsub import _publisher as publisher
from pywebtransport.pubsub._manager import publisher_of
from pywebtransport.pubsub._messages import PUBLISHING_REGISTRY, Published, Refused
from pywebtransport.rpc import (
    RpcCancelledError,
    RpcError,
    RpcErrorCode,
    RpcManager,
    RpcTimeoutError,
)
from pywebtransport.rpc._messages import REGISTRY as CALLS
from pywebtransport.rpc._messages import Request
from pywebtransport.serializer import JSONSerializer
from pywebtransport.session import WebTransportSession
from pywebtransport.stream import StructuredStream, WebTransportStream
from tests.support.endpoints import ClientFactory, Serving
from tests.support.leaks import ExpectedLogs
from tests.support.steps import until

pytestmark = pytest.mark.loops("virtual")

Linked = Callable[..., AbstractAsyncContextManager[tuple[Broker, PubSubManager]]]


@pytest.fixture
def linked(serving: Serving, client_config: ClientFactory) -> Linked:
    """``async with linked(authorize=..., server={...}) as (broker, member)``."""

    @asynccontextmanager
    async def make(
        *args: Any, server: dict[str, Any] | None = None, **options: Any
    ) -> AsyncIterator[tuple[Broker, PubSubManager]]:
        async with (
            Broker(*args, **options) as broker,
            serving(broker.serve, **(server or {})) as served,
            WebTransportClient(config=client_config()) as client,
            client.connect(served.url()) as session,
            PubSubManager(session) as member,
        ):
            yield broker, member

    return make


async def streams_so_far(session: WebTransportSession) -> int:
    """How many bidirectional streams the client has opened, the one of the session included."""
    stream = await session.create_bidirectional_stream()
    stream.reset()
    stream.stop_sending()
    return stream.stream_id // 4


def sessions_at(room: Broker) -> list[WebTransportSession]:
    """The sessions that are served."""
    return [client.session for client in room._clients]


def open_at(room: Broker) -> int:
    """How many streams of publications are open at the broker."""
    return sum(client._publications for client in room._clients)


async def raw_publications(session: WebTransportSession) -> WebTransportStream:
    """A stream of publications whose messages the test writes."""
    stream = await session.create_bidirectional_stream()
    structured = StructuredStream[Any](stream, JSONSerializer(), CALLS)
    await structured.send_obj(Request("pubsub.publications"))
    return stream


def on(stream: WebTransportStream) -> StructuredStream[Any]:
    return StructuredStream(stream, JSONSerializer(), PUBLISHING_REGISTRY)


async def until_line(member: PubSubManager) -> publisher._Line:
    """The client's side of the first stream of publications."""
    await until(lambda: publisher_of(member)._line)
    line = publisher_of(member)._line
    assert line is not None
    return line


# ------------------------------------------------------------------------- messages


async def test_messages_share_a_stream_and_arrive_in_the_order_of_the_calls(
    linked: Linked,
) -> None:
    async with linked() as (broker, member), member.subscribe("numbers") as subscription:
        before = await streams_so_far(member.session)
        await asyncio.gather(*(member.publish("numbers", number) for number in range(100)))
        for number in range(100, 200):
            await member.publish("numbers", number)
        assert await streams_so_far(member.session) == before + 2
        received = [(await anext(subscription)).data for _ in range(200)]
        assert received == list(range(200))
        assert broker.get_stats()["published"] == 200


async def test_answers_are_for_many_messages(linked: Linked) -> None:
    async with linked() as (_, member):
        stream = await raw_publications(member.session)
        one = on(stream).encode
        frames = [PUBLISHING_REGISTRY[17]("a", number) for number in range(50)]
        await stream.write(b"".join(b"".join(one(frame)) for frame in frames))
        answers = on(stream)
        totals = [(await answers.receive_obj()).total]
        while totals[-1] < 50:
            totals.append((await answers.receive_obj()).total)
        # One for what each packet brought.
        assert totals[-1] == 50
        assert len(totals) < 5
        await stream.close()
        assert await stream.read() == b""


async def test_a_delivery_needs_no_task_while_there_is_room(linked: Linked) -> None:
    async with linked() as (broker, member), member.subscribe("a") as subscription:
        names = set()
        for number in range(20):
            await broker.publish("a", number)
            names |= {task.get_name() for task in asyncio.all_tasks()}
        assert [(await anext(subscription)).data for _ in range(20)] == list(range(20))
        assert "pubsub subscription" in names
        assert "pubsub delivery" not in names


async def test_large_messages_are_calls(linked: Linked) -> None:
    async with linked() as (_, member), member.subscribe("a") as subscription:
        await member.publish("a", "small")
        before = await streams_so_far(member.session)
        await member.publish("a", "x" * 20_000)
        assert await streams_so_far(member.session) == before + 2
        assert [(await anext(subscription)).data for _ in range(2)] == ["small", "x" * 20_000]


async def allowed(session: WebTransportSession, action: str, topic: str) -> bool:
    return True


class Own(MemoryBackend):
    """A backend that publishes in its own way."""

    async def publish(self, channel: str, payload: bytes) -> None:
        await super().publish(channel, payload)


@pytest.mark.parametrize("options", [{"authorize": allowed}, {"backend": Own()}])
async def test_a_broker_whose_messages_have_to_wait_takes_calls(
    linked: Linked, options: dict[str, Any]
) -> None:
    """One slow message would hold up those behind it."""
    async with linked(**options) as (_, member), member.subscribe("a") as subscription:
        await asyncio.gather(*(member.publish("a", number) for number in range(3)))
        before = await streams_so_far(member.session)
        await member.publish("a", 3)
        assert await streams_so_far(member.session) == before + 2
        assert [(await anext(subscription)).data for _ in range(4)] == [0, 1, 2, 3]


async def test_interceptors_see_every_message(
    serving: Serving, client_config: ClientFactory
) -> None:
    seen: list[str] = []

    async def note(call: Any, proceed: Callable[[], Awaitable[Any]]) -> Any:
        seen.append(f"{call.direction} {call.method}")
        return await proceed()

    async with Broker() as broker:
        for there, here in (([note], []), ([], [note])):

            async def handler(session: WebTransportSession) -> None:
                await broker.serve(session, rpc=RpcManager(session, interceptors=there))  # noqa: B023

            async with (
                serving(handler) as served,
                WebTransportClient(config=client_config()) as client,
                client.connect(served.url()) as session,
                RpcManager(session, interceptors=here) as rpc,
                PubSubManager(rpc=rpc) as member,
            ):
                await member.publish("a")
                await member.publish("a")
    assert seen == ["incoming pubsub.publish"] * 2 + ["outgoing pubsub.publish"] * 2


async def test_a_client_with_few_streams_left_uses_calls(linked: Linked) -> None:
    """The stream stays open, and calls need some, too."""
    async with linked(server={"initial_max_streams_bidi": 20}) as (_, member):
        before = await streams_so_far(member.session)
        for number in range(5):
            await member.publish("a", number)
        assert await streams_so_far(member.session) == before + 6


async def test_a_broker_of_an_earlier_version_takes_calls(
    serving: Serving, client_config: ClientFactory
) -> None:
    published: list[Any] = []

    async def handler(session: WebTransportSession) -> None:
        rpc = RpcManager(session)
        rpc.register(lambda topic, data: published.append(data), name="pubsub.publish")
        await rpc.serve()

    async with (
        serving(handler) as served,
        WebTransportClient(config=client_config()) as client,
        client.connect(served.url()) as session,
        PubSubManager(session) as member,
    ):
        await asyncio.gather(*(member.publish("a", number) for number in range(10)))
        await member.publish("a", 10)
    assert sorted(published) == list(range(11))


# ------------------------------------------------------------------------- refusals


async def test_each_message_has_its_own_outcome(
    linked: Linked, expected_logs: ExpectedLogs
) -> None:
    expected_logs("handler of 'pubsub.publish' raised ValueError: broken")
    expected_logs("the reason of a refusal cannot be sent")

    def authorize(session: WebTransportSession, action: str, topic: str) -> bool:
        if topic == "broken":
            raise ValueError("broken")
        if topic == "own":
            raise PubSubError("own", error_code=99, data={"why": 1})
        if topic == "unsendable":
            raise PubSubError("own", data=object())
        return topic != "secret"

    async with linked(authorize=authorize, max_message_size=1000) as (broker, member):
        topics = ("a", "secret", "own", "a", "broken", "unsendable", "large", "a")
        sizes = [2000 if topic == "large" else 1 for topic in topics]
        outcomes = await asyncio.gather(
            *(member.publish(topic, "x" * size) for topic, size in zip(topics, sizes, strict=True)),
            return_exceptions=True,
        )
        assert [outcomes[index] for index in (0, 3, 7)] == [None] * 3
        _, forbidden, own, _, broken, unsendable, large, _ = outcomes
        assert isinstance(forbidden, TopicForbiddenError)
        assert (forbidden.topic, forbidden.remote) == ("secret", True)
        assert isinstance(own, RpcError)
        assert (own.message, own.error_code, own.data) == ("own", 99, {"why": 1})
        for error in (broken, unsendable):
            assert isinstance(error, RpcError)
            assert (error.message, error.error_code) == (
                "internal error",
                RpcErrorCode.INTERNAL_ERROR,
            )
        assert isinstance(large, PubSubError)
        assert large.error_code == PubSubErrorCode.TOO_LARGE
        assert broker.get_stats()["published"] == 3


@pytest.mark.parametrize(
    ("type_id", "payload", "words"),
    [
        (17, b"{", "malformed"),
        (17, b'{"topic":"a"', "malformed"),
        (17, b'{"topic":5,"data":1}', "topic"),
        (17, b'{"topic":"a","data":1,"more":2}', "more"),
        (16, b'{"subscription":1}', "type ID 16"),
        (17, b'{"topic":"a.*","data":1}', "wildcards"),
    ],
)
async def test_what_cannot_be_published_is_refused(
    linked: Linked, type_id: int, payload: bytes, words: str
) -> None:
    async with linked() as (broker, member), member.subscribe("**") as subscription:
        stream = await raw_publications(member.session)
        frame = type_id.to_bytes(2, "big") + len(payload).to_bytes(4, "big") + payload
        good = b"".join(on(stream).encode(PUBLISHING_REGISTRY[17]("a", "good")))
        await stream.write(frame + good)
        refused = await on(stream).receive_obj()
        assert isinstance(refused, Refused)
        assert refused.number == 1
        assert words in refused.message
        assert await on(stream).receive_obj() == Published(2)
        assert (await anext(subscription)).data == "good"
        assert broker.get_stats()["published"] == 1


@pytest.mark.parametrize("end", [b"\x00\x11\x7f\xff\xff\xff", b"\x00"])
async def test_what_is_no_message_ends_the_stream(linked: Linked, end: bytes) -> None:
    async with linked() as (broker, member):
        stream = await raw_publications(member.session)
        await stream.write(end, end_stream=True)
        with pytest.raises(StreamResetError, match="code 1"):
            await stream.read()
        await until(lambda: open_at(broker) == 0)
        await member.publish("a", "others go on")


async def test_streams_of_a_session_are_limited(linked: Linked) -> None:
    async with linked() as (broker, member):
        streams = [await raw_publications(member.session) for _ in range(5)]
        with pytest.raises(StreamResetError):
            await streams[4].read()
        assert open_at(broker) == 4
        for stream in streams[:4]:
            await stream.close()
            assert await stream.read() == b""
        assert open_at(broker) == 0


# ----------------------------------------------------------------------------- ends


def hanging(session: WebTransportSession, action: str, topic: str) -> Awaitable[bool] | bool:
    """A plain function whose answer never comes for one topic."""
    return asyncio.get_running_loop().create_future() if topic == "slow" else True


async def test_a_timeout_names_what_it_waited_for(linked: Linked) -> None:
    async with linked(authorize=hanging) as (_, member):
        await member.publish("a")
        with pytest.raises(RpcTimeoutError, match="the peer's answer") as caught:
            await member.publish("slow", timeout=0.5)
        assert caught.value.timeout_duration == 0.5
        for seconds in (0, -1, "5", True):
            with pytest.raises(ConfigurationError, match="timeout"):
                await member.publish("a", timeout=seconds)  # type: ignore[arg-type]


async def test_each_message_has_its_own_timeout(linked: Linked) -> None:
    async with linked(authorize=hanging) as (_, member):
        loop = asyncio.get_running_loop()
        start = loop.time()

        async def publish(timeout: float | None) -> float:
            with pytest.raises(RpcTimeoutError, match=f"within {timeout or 30.0} seconds"):
                await member.publish("slow", timeout=timeout)
            return loop.time() - start

        seconds = (5.0, 2.0, None, 3.0, 2.0)
        took = await asyncio.gather(*map(publish, seconds))
        assert [round(each) for each in took] == [5, 2, 30, 3, 2]


async def test_timeouts_that_are_close_together_need_few_looks(
    linked: Linked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look at them is one at all messages that wait."""
    looks = 0
    expire = publisher._Line._expire

    def look(line: Any) -> None:
        nonlocal looks
        looks += 1
        expire(line)

    monkeypatch.setattr(publisher._Line, "_expire", look)
    async with linked(authorize=hanging) as (_, member):
        waiting = [member.publish("slow", timeout=1 + number / 10_000) for number in range(100)]
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {RpcTimeoutError}
    assert 1 <= looks <= 4


async def test_messages_before_a_slow_one_are_answered(linked: Linked) -> None:
    async with linked(authorize=hanging) as (_, member):
        quick = asyncio.create_task(member.publish("quick"))
        slow = asyncio.create_task(member.publish("slow"))
        await quick
        slow.cancel()
        await asyncio.wait([slow])
        assert slow.cancelled()


async def test_a_message_whose_answer_cannot_be_written_is_published(linked: Linked) -> None:
    """What it waits for is awaited, although the client has stopped reading."""

    def authorize(session: WebTransportSession, action: str, topic: str) -> Awaitable[bool]:
        return allowed(session, action, topic)

    async with linked(authorize=authorize) as (broker, member):
        stream = await raw_publications(member.session)
        stream.stop_sending()
        one = on(stream).encode
        frames = [one(PUBLISHING_REGISTRY[17]("a", number)) for number in range(2)]
        await stream.write(b"".join(map(b"".join, frames)))
        await until(lambda: broker.get_stats()["published"] == 2)
        await until(lambda: open_at(broker) == 0)


async def test_messages_that_many_others_would_precede_are_calls(
    linked: Linked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pywebtransport.pubsub._publisher._MOST_WAITING", 3)
    async with linked(authorize=hanging) as (_, member):
        waiting = [asyncio.create_task(member.publish("slow")) for _ in range(4)]
        await asyncio.sleep(0)
        await member.publish("quick")
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)


async def test_a_stream_without_answers_is_given_up(linked: Linked) -> None:
    """Once nobody waits for them; then messages are calls, which no slow one holds up."""
    async with linked(authorize=hanging) as (broker, member):
        with pytest.raises(RpcTimeoutError):
            await member.publish("slow", timeout=0.5)
        line = publisher_of(member)._line
        assert line is not None
        await until(lambda: line.is_over)
        await member.publish("quick", timeout=5)
        assert open_at(broker) == 1


@asynccontextmanager
async def hostile(
    serving: Serving, client_config: ClientFactory, converse: Callable[..., Awaitable[None]]
) -> AsyncIterator[PubSubManager]:
    """A member whose broker answers in its own way."""

    async def handler(session: WebTransportSession) -> None:
        rpc = RpcManager(session)
        rpc.register_conversation("pubsub.publications", converse)
        await rpc.serve()

    async with (
        serving(handler) as served,
        WebTransportClient(config=client_config()) as client,
        client.connect(served.url()) as session,
        PubSubManager(session) as member,
    ):
        yield member


async def test_a_broker_that_stops_reading_and_says_nothing(
    serving: Serving, client_config: ClientFactory
) -> None:
    async def converse(stream: WebTransportStream) -> None:
        await stream.read()
        stream.stop_sending()
        await asyncio.get_running_loop().create_future()

    async with hostile(serving, client_config, converse) as member:
        first = asyncio.create_task(member.publish("a", timeout=3600))
        line = await until_line(member)
        await until(lambda: not line._stream.is_writable)
        second = asyncio.create_task(member.publish("a", timeout=3600))
        with pytest.raises(RpcCancelledError, match="gave the publication up"):
            await first
        await until(lambda: line._reader.done())
        second.cancel()
        await asyncio.wait([second])


async def test_useless_answers_leave_turns_to_others(
    serving: Serving, client_config: ClientFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any number of answers may say that nothing was published yet."""
    monkeypatch.setattr("pywebtransport.utils._turns._SLICE_NS", 0)
    count = 400

    async def converse(stream: WebTransportStream) -> None:
        answer = b"".join(on(stream).encode(Published(0)))
        await stream.write(answer * count + b"".join(on(stream).encode(Published(1))))
        await stream.close()

    turns = 0

    async def watch() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async with hostile(serving, client_config, converse) as member:
        before: list[int] = []
        take = publisher._Line._take

        def noted(line: Any, answer: object) -> None:
            before.append(turns)
            take(line, answer)

        monkeypatch.setattr(publisher._Line, "_take", noted)
        watcher = asyncio.create_task(watch())
        await member.publish("a")
        watcher.cancel()
        assert len(before) == count + 1
        assert max(Counter(before).values()) <= 16


async def test_large_messages_leave_turns_to_others(
    linked: Linked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are not enough of them in a read to be counted."""
    monkeypatch.setattr("pywebtransport.utils._turns._SLICE_NS", 0)
    loop = asyncio.get_running_loop()
    turn = 0

    def next_turn() -> None:
        nonlocal turn
        turn += 1
        loop.call_soon(next_turn)

    seen: list[int] = []

    def authorize(session: WebTransportSession, action: str, topic: str) -> bool:
        seen.append(turn)
        return True

    async with linked(authorize=authorize) as (broker, member):
        stream = await raw_publications(member.session)
        await until(lambda: open_at(broker))
        frame = b"".join(on(stream).encode(PUBLISHING_REGISTRY[17]("a", "x" * 12_000)))
        next_turn()
        await stream.write(frame * 16)
        await stream.close()
        await until(lambda: open_at(broker) == 0)
    assert len(seen) == 16
    assert max(Counter(seen).values()) <= 2


@pytest.mark.parametrize("end", ["manager", "session", "server"])
async def test_ends_while_a_message_waits(linked: Linked, end: str) -> None:
    async with linked(authorize=hanging) as (broker, member):
        waiting = asyncio.create_task(member.publish("slow"))
        await until(lambda: open_at(broker))
        kind: type[Exception]
        if end == "manager":
            kind = RpcCancelledError
            await member.close()
        else:
            kind = SessionClosedError
            session = member.session
            if end == "server":
                (session,) = sessions_at(broker)
            await session.close(code=7 if end == "server" else 0)
        with pytest.raises(kind):
            await waiting
        await until(lambda: not sessions_at(broker) or end == "manager")


async def test_a_cancelled_message_does_not_shift_the_answers(linked: Linked) -> None:
    async with linked() as (broker, member):
        await member.publish("a")
        tasks = [asyncio.create_task(member.publish("a", number)) for number in range(10)]
        await asyncio.sleep(0)
        tasks[3].cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes].count(asyncio.CancelledError) == 1
        await member.publish("a")
        assert broker.get_stats()["published"] == 12


async def test_an_idle_stream_is_finished_and_another_opened(linked: Linked) -> None:
    async with linked() as (broker, member):
        await member.publish("a")
        assert open_at(broker) == 1
        await until(lambda: open_at(broker) == 0)
        await member.publish("a")
        assert open_at(broker) == 1
