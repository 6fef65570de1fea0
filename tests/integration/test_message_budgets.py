"""Messages take memory as what they become, until they are answered; and a turn each."""

from __future__ import annotations

import asyncio
import json
import struct
from contextlib import suppress
from typing import Any

import pytest

from pywebtransport import WebTransportClient
from pywebtransport.exceptions import SerializationError, WebTransportError
from pywebtransport.rpc import RpcError, RpcErrorCode, RpcManager
from pywebtransport.rpc._incoming import IncomingCalls
from pywebtransport.serializer import JSONSerializer
from pywebtransport.serializer._messages import MessageCodec
from pywebtransport.session import WebTransportSession
from pywebtransport.stream import StructuredStream, WebTransportStream
from pywebtransport.utils import _turns as turns
from tests.support.endpoints import ClientFactory, PairOfSessions, Serving
from tests.support.steps import cancelled_at, take, until
from tests.support.turns import Clock, Meter

MIB = 2**20
REQUEST, RESULT = 1, 2
# 20,000 empty lists: 60 kB, which become 2.5 MiB.
MANY = b"[" + b",".join([b"[]"] * 20_000) + b"]"
WIDE = b'{"method":"wait","params":[' + MANY + b"]}"


def frame(type_id: int, payload: bytes) -> bytes:
    return struct.pack("!HI", type_id, len(payload)) + payload


async def ask(session: WebTransportSession, data: bytes) -> WebTransportStream:
    stream = await session.create_bidirectional_stream()
    await stream.write_all(data)
    return stream


async def answer(stream: WebTransportStream) -> Any:
    return json.loads((await stream.read_all(max_size=4 * MIB))[6:])


class Waiting:
    """A method that waits until it may go on."""

    def __init__(self) -> None:
        self.running = self.done = 0
        self.go_on = asyncio.Event()

    async def __call__(self, value: Any = None, more: Any = None) -> int:
        self.running += 1
        try:
            await self.go_on.wait()
        finally:
            self.running -= 1
        self.done += 1
        return len(value or ())


# ------------------------------------------------------------------------ memory


async def test_requests_that_wait_take_no_more_than_the_session_may(pair: PairOfSessions) -> None:
    limit = 12 * MIB
    async with (
        pair(server={"max_session_memory": limit}) as (client, server),
        RpcManager(server) as rpc,
    ):
        waiting = Waiting()
        rpc.register(waiting, name="wait")
        rpc.register(lambda: 1, name="one")
        budget, base = server.memory_budget, server.memory_budget.used
        streams = [await ask(client, frame(REQUEST, WIDE)) for _ in range(40)]
        await until(lambda: budget.waiting)
        for _ in range(50):
            await asyncio.sleep(0)
        assert 1 <= waiting.running <= 5
        assert budget.peak <= limit
        waiting.go_on.set()
        answers = [await answer(stream) for stream in streams]
        assert answers == [{"value": 20_000}] * 40
        await until(lambda: not rpc.active_calls["incoming"])
        assert (budget.used, budget.peak <= limit) == (base, True)


async def test_small_requests_count_too(pair: PairOfSessions) -> None:
    """A hundred calls of 4 kB, which become 2 MiB."""
    async with pair() as (client, server), RpcManager(server) as rpc:
        waiting, base = Waiting(), server.memory_budget.used
        rpc.register(waiting, name="wait")
        lists = b"[" + b",".join([b"[]"] * 1300) + b"]"
        small = b'{"method":"wait","params":[' + lists + b"]}"
        streams = [await ask(client, frame(REQUEST, small)) for _ in range(20)]
        await until(lambda: waiting.running == 20)
        used = server.memory_budget.used - base
        assert used >= 20 * 1300 * 64  # that many empty lists
        waiting.go_on.set()
        for stream in streams:
            await answer(stream)
        await until(lambda: not rpc.active_calls["incoming"])
        assert server.memory_budget.used == base


@pytest.mark.parametrize("how", ["reset", "close manager", "close session"])
async def test_a_call_that_ends_early_gives_its_memory_back(pair: PairOfSessions, how: str) -> None:
    async with pair(server={"max_session_memory": 12 * MIB}) as (client, server):
        budget, base = server.memory_budget, server.memory_budget.used
        async with RpcManager(server) as rpc:
            waiting = Waiting()
            rpc.register(waiting, name="wait")
            streams = [await ask(client, frame(REQUEST, WIDE)) for _ in range(10)]
            # And one whose request does not come in.
            half = await client.create_bidirectional_stream()
            await half.write(frame(REQUEST, WIDE)[:30_000])
            await until(lambda: waiting.running and budget.waiting)
            if how == "reset":
                for stream in (*streams, half):
                    await stream.abort(1)
            elif how == "close session":
                await client.close()
            else:
                await rpc.close()
            await until(lambda: not rpc.active_calls["incoming"])
            assert (budget.used, budget.waiting, waiting.done) == (base, 0, 0)


async def test_a_request_that_never_fits_is_answered_with_the_limit(pair: PairOfSessions) -> None:
    async with (
        pair(server={"max_session_memory": 65_536}) as (client, server),
        RpcManager(server) as rpc,
        RpcManager(client) as near,
    ):
        base = server.memory_budget.used
        rpc.register(lambda value: len(value), name="length")
        with pytest.raises(RpcError, match="max_session_memory=65536 has no room") as caught:
            await near.call("length", "x" * 200_000)
        assert caught.value.error_code == RpcErrorCode.INVALID_REQUEST
        assert caught.value.data["max_session_memory"] == 65_536
        assert await near.call("length", "xyz") == 3
        await until(lambda: server.memory_budget.used == base)


async def test_a_request_of_too_many_items_is_answered_with_the_limit(pair: PairOfSessions) -> None:
    async with (
        pair() as (client, server),
        RpcManager(server) as rpc,
        RpcManager(client, serializer=JSONSerializer(max_items=10**9)) as near,
    ):
        rpc.register(lambda value: [[]] * value, name="lists")
        rpc.register(lambda value: len(value), name="length")
        with pytest.raises(RpcError, match="more than max_items=131072") as caught:
            await near.call("length", [[]] * 100_000)
        assert caught.value.data["max_items"] == 131_072
        assert await near.call("lists", 3) == [[], [], []]


async def test_an_answer_of_too_many_items_is_refused(
    pair: PairOfSessions, expected_logs: Any
) -> None:
    expected_logs("an answer cannot be sent")
    async with (
        pair() as (client, server),
        RpcManager(server) as rpc,
        RpcManager(client) as near,
    ):
        rpc.register(lambda count: [[]] * count, name="lists")
        # By the side that would send it, which tells the caller why,
        with pytest.raises(RpcError, match="max_items") as caught:
            await near.call("lists", 100_000)
        assert caught.value.data["max_items"] == 131_072
    async with pair() as (client, server), RpcManager(client) as near:
        # and by the side that receives it.
        call = asyncio.create_task(near.call("lists"))
        stream = await take(server)
        lists = b'{"value":[' + b",".join([b"[]"] * 100_000) + b"]}"
        await stream.write_all(frame(RESULT, lists))
        with pytest.raises(SerializationError, match="max_items"):
            await call
        assert client.memory_budget.used == 0


async def test_answers_that_come_in_take_no_more_than_the_session_may(pair: PairOfSessions) -> None:
    """A server sends most of a large answer to each call, and no end of any."""
    limit = 4 * MIB
    async with (
        pair(client={"max_session_memory": limit}) as (client, server),
        RpcManager(client) as near,
    ):
        calls = [asyncio.create_task(near.call("x", timeout=50)) for _ in range(10)]
        part = frame(RESULT, b'{"value":"' + b"x" * (MIB - 20) + b'"}')[: 900 * 1024]
        streams = [await take(server) for _ in calls]
        writers = [asyncio.create_task(stream.write(part)) for stream in streams]
        done, _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        for call in done:
            assert "max_session_memory=4194304" in str(call.exception())
        assert client.memory_budget.peak <= limit
        for task in (*calls, *writers):
            task.cancel()
        await asyncio.gather(*calls, *writers, return_exceptions=True)
        for stream in streams:
            await stream.abort(1)
        assert (client.memory_budget.used, client.memory_budget.waiting) == (0, 0)


async def test_many_large_calls_at_a_time_of_an_honest_client_all_pass(
    pair: PairOfSessions,
) -> None:
    """It sends no more at a time than the server has room for."""
    async with (
        pair() as (client, server),
        RpcManager(server) as rpc,
        RpcManager(client) as near,
    ):
        rpc.register(lambda value: len(value), name="length")
        text = "x" * 900_000
        lengths = await asyncio.gather(*(near.call("length", text) for _ in range(60)))
        assert lengths == [900_000] * 60
        assert server.memory_budget.peak <= server.memory_budget.limit
        assert near.request_budget.peak <= 4 * MIB
        assert near.request_budget.used == 0


async def test_large_calls_of_an_honest_client_pass_however_slow_the_server_is(
    pair: PairOfSessions,
) -> None:
    """Requests that were received, but not decoded yet, use the server's room, too."""
    begun, go_on = 0, asyncio.Event()

    async def length(value: str) -> int:
        nonlocal begun
        begun += 1
        await go_on.wait()
        return len(value)

    async with (
        pair() as (client, server),
        RpcManager(server) as rpc,
        RpcManager(client) as near,
    ):
        rpc.register(length)
        text = "x" * 900_000
        calls = [asyncio.create_task(near.call("length", text)) for _ in range(60)]
        # Until all is received that is sent without an answer.
        await until(lambda: begun >= 13 and not near.request_budget.used)
        go_on.set()
        assert await asyncio.gather(*calls) == [900_000] * 60
        assert server.memory_budget.peak <= server.memory_budget.limit


async def test_decoded_calls_leave_room_for_those_that_come_in(pair: PairOfSessions) -> None:
    """Lists take a multiple of their size on the wire: decoded, 60 of them would take 200 MiB."""
    begun, go_on = 0, asyncio.Event()

    async def total(numbers: list[int]) -> int:
        nonlocal begun
        begun += 1
        await go_on.wait()
        return len(numbers)

    async with (
        pair() as (client, server),
        RpcManager(server) as rpc,
        RpcManager(client) as near,
    ):
        rpc.register(total)
        numbers = list(range(100_000))
        calls = [asyncio.create_task(near.call("total", numbers)) for _ in range(60)]
        # Until all is received that is sent without an answer.
        await until(lambda: begun and not near.request_budget.used)
        go_on.set()
        assert await asyncio.gather(*calls) == [100_000] * 60
        assert server.memory_budget.peak <= server.memory_budget.limit


async def test_requests_that_come_in_are_refused_when_there_is_no_room(
    pair: PairOfSessions,
) -> None:
    """Not one of them is left waiting: what is unread would use up the credit of the others."""
    async with (
        pair(server={"max_session_memory": 4 * MIB}) as (client, server),
        RpcManager(server) as rpc,
    ):
        rpc.register(lambda value: len(value), name="length")
        payload = b'{"method":"length","params":["' + b"x" * 500_000 + b'"]}'
        streams = [await client.create_bidirectional_stream() for _ in range(20)]

        async def send(stream: WebTransportStream) -> Any:
            with suppress(WebTransportError):
                await stream.write_all(frame(REQUEST, payload))
            return await answer(stream)

        answers = await asyncio.gather(*map(send, streams))
        refused = [one for one in answers if "code" in one]
        assert all("max_session_memory=4194304" in one["message"] for one in refused)
        assert all(one == {"value": 500_000} for one in answers if "code" not in one)
        assert len(refused) < 20
        assert server.memory_budget.peak <= 4 * MIB


async def test_messages_count_while_they_come_in(pair: PairOfSessions) -> None:
    size = 2 * MIB
    payload = json.dumps("x" * (size - 2)).encode()
    for limit, count in ((16 * MIB, 6), (3 * MIB, 6)):
        async with pair(server={"max_session_memory": limit}) as (client, server):
            budget, base = server.memory_budget, server.memory_budget.used

            async def receive(server: WebTransportSession = server) -> int:
                far: StructuredStream[Any] = StructuredStream(
                    await take(server), JSONSerializer(), {1: str}
                )
                return len(await far.receive_obj())

            async def send(client: WebTransportSession = client) -> None:
                stream = await client.create_bidirectional_stream()
                with suppress(WebTransportError):
                    await stream.write_all(frame(1, payload))

            senders = [asyncio.create_task(send()) for _ in range(count)]
            results = await asyncio.gather(
                *(receive() for _ in range(count)), return_exceptions=True
            )
            await asyncio.gather(*senders)
            good = [one for one in results if one == size - 2]
            bad = [str(one) for one in results if one != size - 2]
            assert all(f"max_session_memory={limit}" in text for text in bad)
            assert len(good) == count if limit == 16 * MIB else len(good) >= 1
            assert (budget.used, budget.waiting, budget.peak <= limit) == (base, 0, True)


async def test_an_announced_message_that_never_fits_is_not_read(pair: PairOfSessions) -> None:
    async with pair(server={"max_session_memory": 65_536}) as (client, server):
        base = server.memory_budget.used
        stream = await client.create_bidirectional_stream()
        await stream.write(struct.pack("!HI", 1, MIB))
        far = await take(server)
        structured: StructuredStream[Any] = StructuredStream(far, JSONSerializer(), {1: str})
        with pytest.raises(SerializationError, match="max_session_memory=65536") as caught:
            await structured.receive_obj()
        assert caught.value.details["max_session_memory"] == 65_536
        with suppress(WebTransportError):
            while True:
                await stream.write(b"x" * 1000)
                await asyncio.sleep(0)
        assert server.memory_budget.used == base
        await structured.send_obj("still works")


# ------------------------------------------------------------------------ turns


@pytest.fixture
def meter(monkeypatch: pytest.MonkeyPatch) -> Meter:
    """Decoding one large message takes 3 ms, one small message 0.1 ms; nothing else does."""
    clock, meter = Clock.installed(monkeypatch), Meter()
    deserialize, steps = JSONSerializer.deserialize, JSONSerializer._plain_steps

    def work(data: bytes) -> None:
        milliseconds = 3.0 if len(data) > 10_000 else 0.1
        clock.work(milliseconds / 1000)
        meter.work(milliseconds)

    def note(self: JSONSerializer, data: bytes, obj_type: Any = None) -> Any:
        work(data)
        return deserialize(self, data, obj_type)

    def note_steps(self: JSONSerializer, data: bytes) -> Any:
        work(data)
        return (yield from steps(self, data))

    monkeypatch.setattr(JSONSerializer, "deserialize", note)
    monkeypatch.setattr(JSONSerializer, "_plain_steps", note_steps)
    return meter


async def test_large_requests_are_decoded_in_a_turn_each(
    pair: PairOfSessions, meter: Meter
) -> None:
    async with pair() as (client, server), RpcManager(server) as rpc:
        waiting = Waiting()
        waiting.go_on.set()
        rpc.register(waiting, name="wait")
        with meter.running():
            streams = [await ask(client, frame(REQUEST, WIDE)) for _ in range(30)]
            for stream in streams:
                assert await answer(stream) == {"value": 20_000}
        assert sum(meter.turns) > 89.9
        assert max(meter.turns) < 5


async def test_a_flood_of_small_requests_is_spread_over_turns(
    pair: PairOfSessions, meter: Meter
) -> None:
    small = frame(REQUEST, b'{"method":"one"}')
    async with pair() as (client, server), RpcManager(server, concurrency_limit=200) as rpc:
        rpc.register(lambda: 1, name="one")
        with meter.running():
            streams = [await client.create_bidirectional_stream() for _ in range(150)]
            for stream in streams:
                await stream.write(small, end_stream=True)
            for stream in streams:
                assert await answer(stream) == {"value": 1}
        assert sum(meter.turns) > 14.9
        assert max(meter.turns) < 5


@pytest.mark.parametrize("size", [10, 20_000])
async def test_a_loop_over_messages_that_are_there_leaves_turns_to_others(
    pair: PairOfSessions, meter: Meter, size: int
) -> None:
    count = 400 if size == 10 else 40
    async with pair() as (client, server):
        stream = await client.create_bidirectional_stream()
        message = frame(1, json.dumps("x" * size).encode())
        await stream.write_all(message * count)
        far = await take(server)
        await until(lambda: far._quic.buffered == len(message) * count)
        structured: StructuredStream[Any] = StructuredStream(far, JSONSerializer(), {1: str})
        heard = 0
        with meter.running():
            async for _ in structured:
                heard += 1
        assert heard == count
        assert max(meter.turns) < 5


async def test_a_message_whose_receiver_was_cancelled_goes_to_the_next_one(
    pair: PairOfSessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in the moment in which it waits for its turn to be decoded."""
    clock = Clock.installed(monkeypatch)
    seen = asyncio.Event()
    decode = MessageCodec.decode_in_turns

    async def note(self: MessageCodec, *args: Any) -> Any:
        if not seen.is_set():
            seen.set()
            await asyncio.Event().wait()
        return await decode(self, *args)

    monkeypatch.setattr(MessageCodec, "decode_in_turns", note)
    async with pair() as (client, server):
        base = server.memory_budget.used
        near: StructuredStream[str] = StructuredStream(
            await client.create_bidirectional_stream(), JSONSerializer(), {1: str}
        )
        for text in ("a" * 50_000, "b"):
            await near.send_obj(text)
        far: StructuredStream[str] = StructuredStream(
            await take(server), JSONSerializer(), {1: str}
        )
        first = asyncio.create_task(far.receive_obj())
        await seen.wait()
        clock.work(1)
        first.cancel()
        with suppress(asyncio.CancelledError):
            await first
        assert first.cancelled()
        assert [await far.receive_obj(), await far.receive_obj()] == ["a" * 50_000, "b"]
        assert server.memory_budget.used == base


async def test_a_large_message_survives_a_cancellation_at_every_await(
    pair: PairOfSessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every slice is used up at once, so that it waits wherever it can."""
    monkeypatch.setattr(turns, "_SLICE_NS", 1000)
    monkeypatch.setattr(turns, "_STEP_NS", 1000)
    async with pair() as (client, server):
        stream = await client.create_bidirectional_stream()
        near: StructuredStream[Any] = StructuredStream(stream, JSONSerializer(), {1: list})
        await near.send_obj([])
        far: StructuredStream[Any] = StructuredStream(
            await take(server), JSONSerializer(), {1: list}
        )
        assert await far.receive_obj() == []
        texts = ["x" * 50_000, "y" * 60_000]
        await near.send_obj(texts)
        got: list[Any] = []

        async def receive() -> None:
            got.append(await far.receive_obj())

        index = 0
        while await cancelled_at(receive, index):
            index += 1
        assert index > 110_000 / 16_384  # at the look at each piece, for instance
        assert got == [texts]
        await near.send_obj(["next"])
        assert await far.receive_obj() == ["next"]
        await until(lambda: not server.memory_budget.waiting)


async def test_as_many_calls_begin_in_a_turn_as_fit_into_it(
    pair: PairOfSessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, meter = Clock.installed(monkeypatch), Meter()
    handle = IncomingCalls._handle

    async def counted(self: IncomingCalls, stream: WebTransportStream) -> None:
        clock.work(0.0001)
        meter.work()
        await handle(self, stream)

    monkeypatch.setattr(IncomingCalls, "_handle", counted)
    async with pair() as (client, server):
        streams = [
            await ask(client, frame(REQUEST, b'{"method":"one","params":[]}')) for _ in range(90)
        ]
        await until(lambda: len(server._incoming_bidi or ()) == 90)
        with meter.running():
            async with RpcManager(server) as rpc:
                rpc.register(lambda: 1, name="one")
                assert [await answer(stream) for stream in streams] == [{"value": 1}] * 90
        assert sum(meter.turns) == 90
        # Those of a slice, and the one that finds it over.
        assert max(meter.turns) <= 20 + 1


class SlowSerializer:
    """Takes a slice of the event loop's turn for each message, and notes which ones it read."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.read: list[bytes] = []

    def serialize(self, *, obj: Any) -> bytes:
        return bytes(obj)

    def deserialize(self, *, data: bytes, obj_type: Any = None) -> Any:
        self.clock.work(turns.SLICE)
        self.read.append(data[:1])
        return data


async def test_a_message_does_not_wait_for_all_of_another_connection(
    serving: Serving, client_config: ClientFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A peer with many streams has one place in the line, as one with a single stream."""
    count = 40
    sessions: list[WebTransportSession] = []

    async def hold(session: WebTransportSession) -> None:
        sessions.append(session)
        await session.wait_closed()

    async with (
        serving({"/": hold}) as server,
        WebTransportClient(config=client_config()) as first,
        WebTransportClient(config=client_config()) as second,
    ):
        streams: list[WebTransportStream] = []
        for client, letter, number in ((first, b"a", count), (second, b"b", 1)):
            near = await client.connect(server.url("/"))
            await until(lambda: len(sessions) == 1 if not streams else len(sessions) == 2)
            for _ in range(number):
                await ask(near, frame(1, letter * 30_000))
                streams.append(await take(sessions[-1]))
        await until(lambda: all(stream._quic.buffered == 30_006 for stream in streams))
        serializer = SlowSerializer(Clock.installed(monkeypatch))
        await asyncio.gather(
            *(
                StructuredStream(stream, serializer, {1: bytes}).receive_obj()  # type: ignore[arg-type]
                for stream in streams
            )
        )
    assert len(serializer.read) == count + 1
    assert serializer.read.index(b"b") <= 3
