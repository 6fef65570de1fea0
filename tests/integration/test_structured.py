"""Objects over streams and datagrams of real sessions."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from pywebtransport import (
    ClientConfig,
    ConfigurationError,
    DatagramError,
    SerializationError,
    Serializer,
    StreamError,
    StructuredDatagramTransport,
    StructuredStream,
    TimeoutError,
    WebTransportClient,
    WebTransportSession,
    WebTransportStream,
)
from pywebtransport.constants import ErrorCodes
from pywebtransport.datagram.utils import create_heartbeat_datagram
from pywebtransport.exceptions import (
    DatagramTooLargeError,
    SessionClosedError,
    StreamResetError,
    StreamStoppedError,
)
from pywebtransport.serializer import JSONSerializer, MsgPackSerializer, ProtobufSerializer
from pywebtransport.utils import certificate_hash, generate_self_signed_cert
from tests.support.endpoints import PairOfSessions
from tests.support.messages import Everything, Item, Order, everything
from tests.support.steps import take, take_unidirectional, until

from .test_examples import EXAMPLES, load
from .test_rpc_failures import WIDE, Wide

pytestmark = pytest.mark.loops("virtual")


@dataclass
class Say:
    text: str


JSON = JSONSerializer()
REGISTRY: dict[int, type[Any]] = {1: Order, 2: Item, 500: Say}
HEADER = struct.Struct("!HI")
ORDER = Order(1, "c", True, [Item("a", 1.5)])


def message(text: str) -> bytes:
    """A ``Say`` in its form on the wire."""
    payload = json.dumps({"text": text}, separators=(",", ":")).encode()
    return HEADER.pack(500, len(payload)) + payload


@asynccontextmanager
async def structured(
    pair: PairOfSessions, **limits: Any
) -> AsyncIterator[tuple[StructuredStream[Any], StructuredStream[Any]]]:
    """Both ends of one stream of messages."""
    async with pair() as (client, server):
        near = await client.create_structured_stream(serializer=JSON, registry=REGISTRY, **limits)
        await near.send_obj(Say("hello"))
        stream = await take(server)
        far = StructuredStream(stream=stream, serializer=JSON, registry=REGISTRY, **limits)
        assert await far.receive_obj() == Say("hello")
        yield near, far


@asynccontextmanager
async def raw(
    pair: PairOfSessions, client: dict[str, Any] | None = None, **limits: Any
) -> AsyncIterator[tuple[StructuredStream[Any], WebTransportStream]]:
    """A stream of messages at the client, whose other end is bytes."""
    async with pair(client=client or {}) as (near, far):
        messages = await near.create_structured_stream(JSON, REGISTRY, **limits)
        await messages.send_obj(Say("hello"))
        stream = await take(far)
        assert await stream.readexactly(len(message("hello"))) == message("hello")
        yield messages, stream


async def take_into(got: list[Any], messages: StructuredStream[Any]) -> None:
    """Keep the messages that come before the iteration ends or raises."""
    async for received in messages:
        got.append(received)


async def repeat(send: Callable[[], Awaitable[None]]) -> None:
    """Send again and again, until it raises."""
    while True:
        await send()
        await asyncio.sleep(0)


# -------------------------------------------------------------------- streams


def stamp(seconds: int) -> Timestamp:
    return Timestamp(seconds=seconds)


@pytest.mark.parametrize(
    ("serializer", "registry", "objects"),
    [
        (JSONSerializer(), REGISTRY | {3: Everything}, [ORDER, Item("ä"), everything()]),
        (JSONSerializer(sort_keys=True), REGISTRY, [ORDER, Item("ä")]),
        (MsgPackSerializer(), REGISTRY, [ORDER, Item("ä", float("inf"))]),
        (ProtobufSerializer(message_class=Timestamp), {9: Timestamp}, [stamp(1), stamp(2)]),
        (
            ProtobufSerializer(message_class=Message),
            {9: Timestamp, 10: Struct},
            [stamp(1), Struct()],
        ),
    ],
    ids=["json", "json-keywords", "msgpack", "protobuf", "protobuf-several"],
)
async def test_objects_survive_both_ways_and_as_datagrams(
    pair: PairOfSessions,
    serializer: Serializer,
    registry: dict[int, type[Any]],
    objects: list[Any],
) -> None:
    async with pair() as (client, server):
        near = await client.create_structured_stream(serializer=serializer, registry=registry)
        for obj in objects:
            await near.send_obj(obj=obj)
        far = StructuredStream(await take(server), serializer, registry)
        for obj in objects:
            got = await far.receive_obj()
            assert got == obj
            assert type(got) is type(obj)
            await far.send_obj(got)
        await far.close()
        assert [obj async for obj in near] == objects

        sender = await client.create_structured_datagram_transport(
            serializer=serializer, registry=registry
        )
        receiver = StructuredDatagramTransport(
            datagram_transport=server.datagrams, serializer=serializer, registry=registry
        )
        for obj in objects:
            await sender.send_obj(obj=obj)
            assert await receiver.receive_obj(timeout=30) == obj


@pytest.mark.parametrize("serializer", [JSONSerializer(), MsgPackSerializer()])
async def test_fields_of_every_type_come_as_they_were(
    pair: PairOfSessions, serializer: Serializer
) -> None:
    registry: dict[int, type[Any]] = {1: Wide}
    async with pair() as (client, server):
        stream = await client.create_structured_stream(serializer=serializer, registry=registry)
        await stream.send_obj(obj=WIDE)
        there = StructuredStream(
            stream=await take(server), serializer=serializer, registry=registry
        )
        assert await there.receive_obj() == WIDE
        with pytest.raises(SerializationError, match=r"Wide\.when: .* would be read as datetime"):
            await stream.send_obj(obj=Wide("2026-01-02T00:00:00"))
        await stream.send_obj(obj=Wide("tomorrow"))
        assert await there.receive_obj() == Wide("tomorrow")
        near = await client.create_structured_datagram_transport(
            serializer=serializer, registry=registry
        )
        far = await server.create_structured_datagram_transport(
            serializer=serializer, registry=registry
        )
        await near.send_obj(obj=WIDE)
        assert await far.receive_obj() == WIDE
        await there.close()
        await stream.close()


async def test_the_wire_format_of_a_stream(pair: PairOfSessions) -> None:
    async with raw(pair) as (near, far):
        await near.send_obj(Say("ä"))
        payload = '{"text":"ä"}'.encode()
        expected = b"\x01\xf4\x00\x00\x00\x0d" + payload
        assert await far.readexactly(len(expected)) == expected
        await far.write(message("back"))
        assert await near.receive_obj() == Say("back")
        assert near.stream_id == far.stream_id == near.stream.stream_id
        assert "StructuredStream" in repr(near)


async def test_concurrent_senders_do_not_mix_their_messages(pair: PairOfSessions) -> None:
    async with structured(pair) as (near, far):
        # Small ones go out as one piece, large ones as two.
        texts = [f"{number}" + "x" * size for number in range(40) for size in (0, 20_000, 90_000)]
        tasks = [asyncio.create_task(near.send_obj(Say(text))) for text in texts]
        got = [(await far.receive_obj()).text for _ in texts]
        await asyncio.gather(*tasks)
        assert got == texts


async def test_concurrent_receivers_get_one_message_each_in_order(pair: PairOfSessions) -> None:
    async with structured(pair) as (near, far):
        receivers = [asyncio.create_task(far.receive_obj()) for _ in range(10)]
        await asyncio.sleep(0)
        for number in range(10):
            await near.send_obj(Say(str(number) * 50_000))
        got = await asyncio.gather(*receivers)
        assert [say.text[0] for say in got] == list("0123456789")


async def test_pieces_of_any_size_make_the_same_messages(pair: PairOfSessions) -> None:
    async with raw(pair) as (near, far):
        texts = ["", "a", "b" * 300]
        wire = b"".join(map(message, texts))
        task = asyncio.create_task(collect(near, len(texts)))
        for place in range(len(wire)):
            await far.write(wire[place : place + 1])
            await far.flush()
        assert await task == [Say(text) for text in texts]


async def collect(stream: StructuredStream[Any], count: int) -> list[Any]:
    return [await stream.receive_obj() for _ in range(count)]


@pytest.mark.parametrize("first", [0, 1, 5, 6, 7, 15])
async def test_a_cancelled_receive_loses_nothing(pair: PairOfSessions, first: int) -> None:
    async with raw(pair) as (near, far):
        wire = message("after the cancellation")
        stream = near.stream
        before = stream.stats.bytes_received
        task = asyncio.create_task(near.receive_obj())
        await far.write(wire[:first])
        await until(lambda: stream.stats.bytes_received == before + first)
        waiting = asyncio.create_task(near.receive_obj())  # behind the first one
        await asyncio.sleep(0)
        waiting.cancel()
        task.cancel()
        for cancelled in (task, waiting):
            with pytest.raises(asyncio.CancelledError):
                await cancelled
        await far.write(wire[first:] + message("next"))
        assert await near.receive_obj() == Say("after the cancellation")
        assert await near.receive_obj() == Say("next")


async def test_a_read_timeout_loses_nothing(pair: PairOfSessions) -> None:
    async with raw(pair, client={"read_timeout": 0.02}) as (near, far):
        wire = message("late")
        before = near.stream.stats.bytes_received
        await far.write(wire[:8])
        while near.stream.stats.bytes_received < before + 8:
            with pytest.raises(TimeoutError, match=r"read_timeout=0\.02"):
                await near.receive_obj()
        await far.write(wire[8:])
        await until(lambda: near.stream.debug_state()["buffers"]["received"] == len(wire) - 8)
        assert await near.receive_obj() == Say("late")


async def test_iteration_ends_when_the_peer_finishes(pair: PairOfSessions) -> None:
    async with structured(pair) as (near, far):
        for number in range(3):
            await near.send_obj(Say(str(number)))
        await near.close()
        assert [say.text async for say in far] == ["0", "1", "2"]
        assert [say async for say in far] == []
        with pytest.raises(StreamError, match="no more messages") as caught:
            await far.receive_obj()
        assert caught.value.details["end_of_stream"] is True
        await far.send_obj(Say("still"))
        assert await near.receive_obj() == Say("still")
        await far.close()
        await until(lambda: near.is_closed)
        with pytest.raises(StreamError):
            await near.send_obj(Say("no more"))


@pytest.mark.parametrize(
    ("kept", "part"), [(1, "header"), (5, "header"), (6, "payload"), (9, "pay")]
)
async def test_an_end_within_a_message_is_an_error(
    pair: PairOfSessions, kept: int, part: str
) -> None:
    async with raw(pair) as (near, far):
        await far.write_all(message("whole") + message("cut off")[:kept])
        got: list[Any] = []
        with pytest.raises(StreamError, match=f"within a message.*{part}") as caught:
            await take_into(got, near)
        assert got == [Say("whole")]
        assert caught.value.details["end_of_stream"] is False


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (HEADER.pack(7, 3) + b"abc", "no type ID 7"),
        (HEADER.pack(500, 0), "malformed JSON"),
        (HEADER.pack(500, 3) + b"{\xff}", "malformed JSON"),
        (HEADER.pack(500, 2) + b"{}", "Say: missing field text"),
        (HEADER.pack(500, 10) + b'{"text":1}', r"Say\.text: expected str, got int 1"),
        (HEADER.pack(500, 200) + b"[" * 200, "malformed JSON"),
        (HEADER.pack(500, 200) + b"[" * 100 + b"]" * 100, "max_depth=64"),
    ],
    ids=["unknown", "empty", "bytes", "missing", "type", "unbalanced", "deep"],
)
async def test_after_a_message_not_understood_the_next_is_received(
    pair: PairOfSessions, bad: bytes, words: str
) -> None:
    async with raw(pair) as (near, far):
        await far.write(message("1") + bad + message("2") + bad + message("3"))
        await far.close()
        assert await near.receive_obj() == Say("1")
        with pytest.raises(SerializationError, match=words) as caught:
            await near.receive_obj()
        assert caught.value.details["type_id"] in (7, 500)
        got: list[Any] = []
        with pytest.raises(SerializationError, match=words):
            await take_into(got, near)
        got += [say async for say in near]
        assert got == [Say("2"), Say("3")]
        await near.send_obj(Say("fine"))
        assert await far.readexactly(len(message("fine"))) == message("fine")


@pytest.mark.parametrize("size", [101, 2**32 - 1])
async def test_a_message_too_long_ends_the_receiving_half_before_it_comes(
    pair: PairOfSessions, size: int
) -> None:
    async with raw(pair, max_message_size=100) as (near, far):
        await far.write(message("x" * 89))  # 100 bytes of payload
        await far.write(HEADER.pack(500, size))
        assert await near.receive_obj() == Say("x" * 89)
        with pytest.raises(SerializationError, match="max_message_size=100") as caught:
            await near.receive_obj()
        assert caught.value.details == {"size": size, "max_size": 100, "type_id": 500}
        with pytest.raises(StreamError, match="reading was stopped"):
            await near.receive_obj()
        with pytest.raises(StreamStoppedError) as stopped:
            await repeat(lambda: far.write(bytes(1000)))
        assert stopped.value.error_code == ErrorCodes.APP_INVALID_REQUEST
        await near.send_obj(Say("sending works"))
        wire = message("sending works")
        assert await far.readexactly(len(wire)) == wire


async def test_what_cannot_be_sent_sends_nothing(pair: PairOfSessions) -> None:
    async with structured(pair, max_message_size=100) as (near, far):
        with pytest.raises(SerializationError, match=r"Say message of 101 bytes.*=100") as caught:
            await near.send_obj(Say("x" * 90))
        assert caught.value.details["size"] == 101
        with pytest.raises(SerializationError, match="dict is not in the registry"):
            await near.send_obj({"text": "x"})
        with pytest.raises(SerializationError, match="as JSON"):
            await near.send_obj(Say("\ud800"))
        await near.send_obj(Say("x" * 89))
        assert await far.receive_obj() == Say("x" * 89)


async def test_sending_waits_for_a_slow_receiver(pair: PairOfSessions) -> None:
    async with structured(pair) as (near, far):
        texts = [str(number) * 3_000_000 for number in range(10)]

        async def send_all() -> None:
            for text in texts:
                await near.send_obj(Say(text))
            await near.close()

        sender = asyncio.create_task(send_all())
        stream = near.stream
        await until(lambda: stream.debug_state()["buffers"]["queued"] > 1_000_000)
        assert not sender.done()
        assert [say.text async for say in far] == texts
        await sender


async def test_errors_of_the_stream_come_through(pair: PairOfSessions) -> None:
    async with structured(pair) as (near, far):
        receiver = asyncio.create_task(far.receive_obj())
        await near.stream.abort(77)
        with pytest.raises(StreamResetError) as reset:
            await receiver
        assert reset.value.error_code == 77
        with pytest.raises(StreamStoppedError) as stopped:
            await repeat(lambda: far.send_obj(Say("x")))
        assert stopped.value.error_code == 77


async def test_the_end_of_the_session_comes_through(pair: PairOfSessions) -> None:
    async with structured(pair) as (near, far):
        receiver = asyncio.create_task(far.receive_obj())
        await near.stream.session.close(code=5)
        with pytest.raises(SessionClosedError) as closed:
            await receiver
        assert closed.value.code == 5
        assert far.is_closed
        with pytest.raises(SessionClosedError):
            async for _ in far:
                pass


async def test_leaving_the_block_ends_both_halves(pair: PairOfSessions) -> None:
    async with structured(pair) as (near, far):
        async with near as entered:
            assert entered is near
            await near.send_obj(Say("last"))
        assert [say async for say in far] == [Say("last")]
        with pytest.raises(StreamStoppedError):
            await repeat(lambda: far.send_obj(Say("nobody reads")))


async def test_an_error_in_the_block_resets_the_stream(pair: PairOfSessions) -> None:
    async with structured(pair) as (near, far):
        with pytest.raises(LookupError):
            async with near:
                raise LookupError
        with pytest.raises(StreamResetError):
            await far.receive_obj()


async def test_unidirectional_streams_carry_messages_one_way(pair: PairOfSessions) -> None:
    async with pair() as (client, server):
        async with StructuredStream(
            await client.create_unidirectional_stream(), JSON, REGISTRY
        ) as near:
            await near.send_obj(ORDER)
            with pytest.raises(StreamError, match="can only be sent to"):
                await near.receive_obj()
        far = StructuredStream(await take_unidirectional(server), JSON, REGISTRY)
        with pytest.raises(StreamError, match="can only be received from"):
            await far.send_obj(ORDER)
        assert [order async for order in far] == [ORDER]


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"registry": {-1: Item}}, "type ID -1"),
    ({"registry": {1: Item, 2: Item}}, "Item twice"),
    ({"serializer": None}, "serializer must have"),
]


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        *MISTAKES,
        ({"max_message_size": 0}, "max_message_size must be 1 to 4294967295 bytes, got 0"),
        ({"max_message_size": 2**32}, "max_message_size"),
        ({"max_message_size": "1"}, "max_message_size"),
    ],
    ids=str,
)
async def test_a_mistake_opens_no_stream(
    pair: PairOfSessions, mistake: dict[str, Any], words: str
) -> None:
    arguments: dict[str, Any] = {"serializer": JSON, "registry": REGISTRY}
    async with pair() as (client, _):
        with pytest.raises(ConfigurationError, match=words):
            await client.create_structured_stream(**(arguments | mistake))
        assert (await client.get_session_stats())["streams_created"] == 0
        stream = await client.create_bidirectional_stream()
        with pytest.raises(ConfigurationError, match=words):
            StructuredStream(stream, **(arguments | mistake))


async def test_opening_waits_as_long_as_it_is_told(pair: PairOfSessions) -> None:
    limits = {"initial_max_streams_bidi": 1}
    async with pair(server=limits) as (client, _):
        await client.create_structured_stream(serializer=JSON, registry=REGISTRY)
        with pytest.raises(TimeoutError, match=r"within 0\.01 s"):
            await client.create_structured_stream(serializer=JSON, registry=REGISTRY, timeout=0.01)


# ------------------------------------------------------------------ datagrams


@asynccontextmanager
async def datagrams(
    pair: PairOfSessions,
) -> AsyncIterator[tuple[WebTransportSession, StructuredDatagramTransport[Any]]]:
    """A session, and messages in datagrams at its other end."""
    async with pair() as (client, server):
        yield (
            client,
            await server.create_structured_datagram_transport(serializer=JSON, registry=REGISTRY),
        )


async def test_the_wire_format_of_a_datagram(pair: PairOfSessions) -> None:
    async with datagrams(pair) as (near, far):
        await near.datagrams.send(b'\x01\xf4{"text":"x"}')
        assert await far.receive_obj(timeout=30) == Say("x")
        await far.send_obj(Say("y"), priority=2, ttl=30.0)
        assert await near.datagrams.receive(timeout=30) == b'\x01\xf4{"text":"y"}'
        assert far.datagram_transport.session is not near
        assert "StructuredDatagramTransport" in repr(far)


async def test_a_message_too_large_for_a_datagram_is_refused(pair: PairOfSessions) -> None:
    async with datagrams(pair) as (near, far):
        room = near.max_datagram_size - len(b'\x01\xf4{"text":""}')
        sender = StructuredDatagramTransport(near.datagrams, JSON, REGISTRY)
        await sender.send_obj(Say("x" * room))
        assert await far.receive_obj(timeout=30) == Say("x" * room)
        with pytest.raises(DatagramTooLargeError) as caught:
            await sender.send_obj(Say("x" * (room + 1)))
        assert caught.value.max_size == near.max_datagram_size
        with pytest.raises(SerializationError, match="not in the registry"):
            await sender.send_obj("text")


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (b"", "datagram of 0 bytes is too short"),
        (b"\x01", "datagram of 1 bytes is too short"),
        (b"\x00\x07abc", "no type ID 7"),
        (b"\x01\xf4", "malformed JSON"),
        (b"\x01\xf4[]", "expected object"),
        (b"HEARTBEAT:no", "no type ID"),
    ],
)
async def test_after_a_datagram_not_understood_the_next_is_received(
    pair: PairOfSessions, bad: bytes, words: str
) -> None:
    async with datagrams(pair) as (near, far):
        await near.datagrams.send_multiple([bad, b'\x01\xf4{"text":"x"}'])
        with pytest.raises(SerializationError, match=words):
            await far.receive_obj(timeout=30)
        assert await far.receive_obj(timeout=30) == Say("x")
        assert far.datagram_transport.stats["receive_errors"] == 1


async def test_heartbeats_are_passed_over(pair: PairOfSessions) -> None:
    async with datagrams(pair) as (near, far):
        beat = create_heartbeat_datagram()
        await near.datagrams.send_multiple([beat, b'\x01\xf4{"text":"x"}', beat])
        assert await far.receive_obj() == Say("x")
        await near.datagrams.send_multiple([beat, b'\x01\xf4{"text":"x"}', beat])
        assert await far.receive_obj(timeout=30) == Say("x")
        with pytest.raises(TimeoutError):
            await far.receive_obj(timeout=0.02)


async def test_a_message_that_looks_like_a_heartbeat_is_a_message(pair: PairOfSessions) -> None:
    beat = create_heartbeat_datagram()
    async with pair() as (near, server):
        registry: dict[int, type[Any]] = {int.from_bytes(beat[:2], "big"): Say}
        far = StructuredDatagramTransport(server.datagrams, JSON, registry)
        await near.datagrams.send(beat)
        with pytest.raises(SerializationError, match="malformed JSON"):
            await far.receive_obj(timeout=30)


async def test_iteration_over_datagrams_ends_with_the_session(pair: PairOfSessions) -> None:
    async with datagrams(pair) as (near, far):
        for number in range(3):
            await near.datagrams.send(b'\x01\xf4{"text":"%d"}' % number)
        got = []
        async for say in far:
            got.append(say.text)
            if len(got) == 3:
                break
        assert got == ["0", "1", "2"]
        rest = asyncio.create_task(collect_all(far))
        await near.close()
        assert await rest == []
        assert far.is_closed
        with pytest.raises(SessionClosedError):
            await far.receive_obj()
        with pytest.raises(SessionClosedError):
            await far.send_obj(Say("x"))


async def collect_all(transport: StructuredDatagramTransport[Any]) -> list[Any]:
    return [message async for message in transport]


async def test_a_cancelled_datagram_receive_loses_nothing(pair: PairOfSessions) -> None:
    async with datagrams(pair) as (near, far):
        task = asyncio.create_task(far.receive_obj())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await near.datagrams.send(b'\x01\xf4{"text":"x"}')
        assert await far.receive_obj(timeout=30) == Say("x")


async def test_closing_ends_the_datagrams_of_the_session(pair: PairOfSessions) -> None:
    async with datagrams(pair) as (near, far):
        async with far:
            assert not far.is_closed
        assert far.is_closed
        assert far.datagram_transport.is_closed
        with pytest.raises(DatagramError, match="datagrams of this session were closed"):
            await far.send_obj(Say("x"))
        assert not near.is_closed


@pytest.mark.parametrize(("mistake", "words"), MISTAKES, ids=str)
async def test_a_mistake_makes_no_transport(
    pair: PairOfSessions, mistake: dict[str, Any], words: str
) -> None:
    arguments: dict[str, Any] = {"serializer": JSON, "registry": REGISTRY}
    async with pair() as (client, _):
        with pytest.raises(ConfigurationError, match=words):
            await client.create_structured_datagram_transport(**(arguments | mistake))


# -------------------------------------------------------------------- example


async def test_the_chat_example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    chat = load(EXAMPLES / "structured_chat.py")
    certfile, keyfile = generate_self_signed_cert(hostname="localhost")
    shown: list[str] = []
    told: asyncio.Queue[str | None] = asyncio.Queue()

    async def lines() -> AsyncIterator[str]:
        while (line := await told.get()) is not None:
            yield line

    async def until_shown(*expected: str) -> None:
        def all_shown() -> bool:
            shown.extend(capsys.readouterr().out.splitlines())
            return shown == list(expected)

        await until(all_shown)
        shown.clear()

    async with chat.make_app(certfile, keyfile) as app:
        await app.listen(host="localhost", port=0)
        url = f"https://localhost:{app.server.local_address[1]}/chat"
        hash_of_certificate = certificate_hash(certfile).hex()
        ann = asyncio.create_task(chat.join(url, hash_of_certificate, "ann", lines()))
        await until_shown("here: ann")
        config = ClientConfig.create(server_certificate_hashes=[hash_of_certificate])
        async with WebTransportClient(config=config) as client:
            session = await client.connect(url)
            bob = await session.create_structured_stream(JSONSerializer(), chat.MESSAGES)
            await bob.send_obj(chat.Join("bob"))
            assert await bob.receive_obj() == chat.Members(["ann", "bob"])
            await until_shown("here: ann, bob")
            told.put_nowait("hello")
            await until_shown("ann: hello")
            assert await bob.receive_obj() == chat.Say("hello", "ann")
            await bob.stream.write(b"\x00\x02\x00\x00\x00\x01x")  # no JSON
            await until_shown("here: ann")
            await take_into([], bob)  # the room finished the stream
            assert not session.is_closed
        told.put_nowait(None)
        await ann
        assert chat.room == {}
