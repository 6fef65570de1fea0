"""Streams and datagrams of the scope ``webtransport``, over real QUIC."""

from __future__ import annotations

import asyncio
import random

import pytest

from pywebtransport import WebTransportStream
from pywebtransport.asgi import AsgiMessageError
from pywebtransport.exceptions import (
    ConfigurationError,
    StreamResetError,
    StreamStoppedError,
)
from tests.support.asgi import events_until, opened
from tests.support.steps import take, take_unidirectional, until

from .conftest import Opening

RECEIVE = "webtransport.stream.receive"


# ----------------------------------------------------------------------- streams


async def test_a_bidirectional_stream_of_the_peer(opening: Opening) -> None:
    async with opening() as (client, call):
        stream = await client.create_bidirectional_stream()
        await stream.write(b"one")
        assert await call.receive() == {
            "type": RECEIVE,
            "stream": stream.stream_id,
            "data": b"one",
            "end_stream": False,
            "more_data": True,
            "bidirectional": True,
        }
        await stream.write_all(b"two")
        event = await call.receive()
        assert (event["data"], event["end_stream"], event["more_data"]) == (b"two", True, False)
        await call.send("stream.send", stream=stream.stream_id, data=b"answer ")
        await call.send(
            "stream.send", stream=stream.stream_id, data=bytearray(b"end"), end_stream=True
        )
        assert await stream.read_all() == b"answer end"


async def test_a_unidirectional_stream_of_the_peer(opening: Opening) -> None:
    async with opening() as (client, call):
        stream = await client.create_unidirectional_stream()
        await stream.write(b"x")
        event = await call.receive()
        assert (event["stream"], event["bidirectional"]) == (stream.stream_id, False)
        await stream.close()
        event = await call.receive()
        assert (event["data"], event["end_stream"], event["bidirectional"]) == (b"", True, False)


async def test_the_application_opens_streams(opening: Opening) -> None:
    async with opening() as (client, call):
        await asyncio.gather(
            *(call.send("stream.open", tag=f"b{number}") for number in range(3)),
            *(call.send("stream.open", bidirectional=False, tag=number) for number in range(3)),
        )
        events = [await call.receive() for _ in range(6)]
        assert {event["type"] for event in events} == {"webtransport.stream.opened"}
        two_way = [event for event in events if event["bidirectional"]]
        one_way = [event for event in events if not event["bidirectional"]]
        assert [event["tag"] for event in two_way] == ["b0", "b1", "b2"]
        assert [event["tag"] for event in one_way] == [0, 1, 2]
        assert {event["stream"] % 4 for event in two_way} == {1}
        assert {event["stream"] % 4 for event in one_way} == {3}
        for event in events:
            number = event["stream"]
            await call.send("stream.send", stream=number, data=b"%d" % number, end_stream=True)
        for event in two_way:
            stream = await take(client)
            assert await stream.read_all() == b"%d" % stream.stream_id
            await stream.write_all(b"back")
            event = (await events_until(call, "stream.receive"))[-1]
            assert (event["stream"], event["data"]) == (stream.stream_id, b"back")
        for _ in one_way:
            receiving = await take_unidirectional(client)
            assert await receiving.read_all() == b"%d" % receiving.stream_id


async def test_opening_waits_for_credit(opening: Opening) -> None:
    async with opening(client={"max_incoming_streams": 1}) as (client, call):
        first = await opened(call)
        opening_second = asyncio.create_task(call.send("stream.open", tag="second"))
        await client.datagrams.send(b"x")
        assert (await call.receive())["data"] == b"x"
        assert not opening_second.done()
        await call.send("stream.send", stream=first, data=b"", end_stream=True)
        async with await take(client) as stream:
            assert await stream.read_all() == b""
        await opening_second
        assert (await events_until(call, "stream.opened"))[-1]["tag"] == "second"


async def test_resets_and_stops_come_with_their_codes(opening: Opening) -> None:
    async with opening() as (client, call):
        stream = await client.create_bidirectional_stream()
        await stream.write(b"x")
        await call.receive()
        stream.reset(9)
        stream.stop_sending(2**32 - 1)
        events = [await call.receive(), await call.receive()]
        expected = [
            {"type": "webtransport.stream.reset", "stream": stream.stream_id, "code": 9},
            {
                "type": "webtransport.stream.stop_sending",
                "stream": stream.stream_id,
                "code": 2**32 - 1,
            },
        ]
        assert sorted(events, key=str) == sorted(expected, key=str)


async def test_a_code_that_stands_for_none_is_none(opening: Opening) -> None:
    async with opening() as (client, call):
        for _ in range(2):
            stream = await client.create_unidirectional_stream()
            await stream.write(b"x")
            await call.receive()
            stream._reset_wire(0x10C)
            event = await call.receive()
            assert event == {
                "type": "webtransport.stream.reset",
                "stream": stream.stream_id,
                "code": None,
            }


@pytest.mark.parametrize("stop", ["stream.stop_sending", "stream.stop_receiving"])
async def test_the_application_resets_and_stops(opening: Opening, stop: str) -> None:
    async with opening() as (client, call):
        stream = await client.create_bidirectional_stream()
        await stream.write(b"x")
        await call.receive()
        await call.send("stream.reset", stream=stream.stream_id, code=12)
        with pytest.raises(StreamResetError) as reset:
            await stream.read()
        assert reset.value.error_code == 12
        await call.send(stop, stream=stream.stream_id)
        assert await stream.wait_stopped() == 0
        with pytest.raises(StreamStoppedError):
            await stream.write(b"x")
        # Both halves are over: what comes late is ignored.
        await call.send("stream.send", stream=stream.stream_id, data=b"dropped")
        await call.send("stream.reset", stream=stream.stream_id)
        await call.send(stop, stream=stream.stream_id)


async def test_writes_to_a_stream_that_the_peer_stopped_are_dropped(opening: Opening) -> None:
    async with opening() as (client, call):
        stream = await client.create_bidirectional_stream()
        await stream.write(b"x")
        await call.receive()
        stream.stop_sending(1)
        assert (await call.receive())["type"] == "webtransport.stream.stop_sending"
        for _ in range(2):
            await call.send("stream.send", stream=stream.stream_id, data=b"y", end_stream=True)
        await stream.close()
        assert (await call.receive())["end_stream"]
        await call.send("stream.send", stream=stream.stream_id, data=b"z")


async def test_a_write_that_waits_ends_when_the_peer_stops(opening: Opening) -> None:
    async with opening() as (client, call):
        stream = await client.create_bidirectional_stream()
        await stream.write(b"x")
        await call.receive()
        flood = asyncio.create_task(
            call.send("stream.send", stream=stream.stream_id, data=bytes(50_000_000))
        )
        await stream.readexactly(1000)
        assert not flood.done()
        stream.stop_sending(1)
        await flood
        assert (await call.receive())["type"] == "webtransport.stream.stop_sending"


async def test_news_come_before_data(opening: Opening) -> None:
    async with opening() as (client, call):
        streams = [await client.create_bidirectional_stream() for _ in range(3)]
        for stream in streams:
            await stream.write(b"first")
        assert {(await call.receive())["stream"] for _ in streams} == {
            stream.stream_id for stream in streams
        }
        await streams[0].write_all(
            bytes(200_000),
        )
        streams[2].stop_sending(3)
        event = await call.receive()
        while event["type"] == RECEIVE and not event["end_stream"]:
            event = await call.receive()
        assert event["type"] == "webtransport.stream.stop_sending"
        assert (await events_until(call, "stream.receive"))[-1]["stream"] == streams[0].stream_id


async def test_a_naive_echo_survives_the_cancel_of_a_browser(opening: Opening) -> None:
    """``abort`` of a writer and ``cancel`` of a reader, while the application still answers."""
    async with opening() as (client, call):

        async def echo() -> None:
            while (event := await call.receive())["type"] != "webtransport.disconnect":
                if event["type"] == RECEIVE:
                    await call.send(
                        "stream.send",
                        stream=event["stream"],
                        data=event["data"],
                        end_stream=event["end_stream"],
                    )

        echoing = asyncio.create_task(echo())
        for number in range(20):
            stream = await client.create_bidirectional_stream()
            await stream.write(bytes(100_000))
            if number % 2:
                await stream.readexactly(1000)
            await stream.abort(number)
        stream = await client.create_bidirectional_stream()
        await stream.write_all(b"still there")
        assert await stream.read_all() == b"still there"
        await client.close()
        await echoing


async def test_ended_streams_leave_nothing_behind(opening: Opening) -> None:
    async with opening(client={"max_incoming_streams": 10}) as (client, call):
        for number in range(300):
            stream = await client.create_bidirectional_stream()
            await stream.write_all(b"x")
            assert (await call.receive())["end_stream"]
            if number % 3:
                await call.send("stream.send", stream=stream.stream_id, data=b"y", end_stream=True)
                assert await stream.read_all() == b"y"
            else:
                await call.send("stream.reset", stream=stream.stream_id, code=1)
                with pytest.raises(StreamResetError):
                    await stream.read()
        native = call.scope["extensions"]["webtransport"]["session"]
        await until(lambda: not native.open_streams())
        # The latest are known; much older ones are taken for streams that were cut.
        with pytest.raises(AsgiMessageError, match="was finished"):
            await call.send("stream.send", stream=stream.stream_id, data=b"x")
        await call.send("stream.send", stream=8, data=b"x")


async def test_to_finish_a_stream_twice_is_no_mistake(opening: Opening) -> None:
    """An echo that answers the end of a stream that it has finished itself."""
    async with opening() as (client, call):
        ours = await opened(call)
        await call.send("stream.send", stream=ours, data=b"x", end_stream=True)
        await call.send("stream.send", stream=ours, data=b"", end_stream=True)
        stream = await take(client)
        assert await stream.read_all() == b"x"
        await stream.close()
        assert (await call.receive())["end_stream"]
        await call.send("stream.send", stream=ours, data=b"", end_stream=True)
        with pytest.raises(AsgiMessageError, match="was finished"):
            await call.send("stream.send", stream=ours, data=b"y", end_stream=True)


# --------------------------------------------------------------------- datagrams


async def test_datagrams_go_both_ways(opening: Opening) -> None:
    async with opening() as (client, call):
        await client.datagrams.send(b"there")
        assert await call.receive() == {
            "type": "webtransport.datagram.receive",
            "data": b"there",
        }
        await call.send("datagram.send", data=b"back", ttl=5.0, priority=2)
        assert await client.datagrams.receive() == b"back"
        limit = call.scope["extensions"]["webtransport"]["session"].max_datagram_size
        with pytest.raises(ValueError, match="larger than"):
            await call.send("datagram.send", data=bytes(limit + 1))
        await call.send("datagram.send", data=bytes(limit))
        assert len(await client.datagrams.receive()) == limit


async def test_the_oldest_datagrams_are_dropped_and_counted(opening: Opening) -> None:
    async with opening(server={"datagram_queue_size": 5}) as (client, call):
        native = call.scope["extensions"]["webtransport"]["session"]
        for number in range(20):
            await client.datagrams.send(b"%d" % number)
        await until(lambda: native.datagrams.datagrams_received == 20)
        got = [(await call.receive())["data"] for _ in range(5)]
        assert got == [b"%d" % number for number in range(15, 20)]
        assert native.datagrams.stats["receive_drops"] == 15


# ------------------------------------------------------- backpressure and fairness


async def test_a_paused_stream_keeps_its_data_until_it_is_resumed(opening: Opening) -> None:
    async with opening() as (client, call):
        paused, other = [await client.create_bidirectional_stream() for _ in range(2)]
        await paused.write(b"1")
        await call.receive()
        await call.send("stream.pause", stream=paused.stream_id)
        await paused.write(b"2")
        await other.write(b"3")
        event = await call.receive()
        assert (event["stream"], event["data"]) == (other.stream_id, b"3")
        waiting = asyncio.create_task(call.receive())
        flood = asyncio.create_task(paused.write(bytes(30_000_000)))
        await until(lambda: paused.write_buffer_size and paused.bytes_sent > 30_000_000)
        assert not flood.done()
        assert not waiting.done()
        await call.send("stream.resume", stream=paused.stream_id)
        event = await waiting
        assert (event["stream"], event["data"][:1]) == (paused.stream_id, b"2")
        size = len(event["data"])
        while size < 30_000_001:
            event = await call.receive()
            assert len(event["data"]) <= 65536
            size += len(event["data"])
        await flood


async def test_an_application_that_does_not_receive_bounds_the_sender(opening: Opening) -> None:
    window = 1 << 20
    fields = {"flow_control_window_size": window, "initial_max_data": 2 * window}
    async with opening(server=fields) as (client, call):
        streams = [await client.create_unidirectional_stream() for _ in range(4)]
        floods = [asyncio.create_task(stream.write(bytes(20 * window))) for stream in streams]
        await until(lambda: sum(stream.write_buffer_size for stream in streams) < 79 * window)
        await call.send("datagram.send", data=b"x")
        await client.datagrams.receive()
        native = call.scope["extensions"]["webtransport"]["session"]
        # Nothing was taken: everything that came is in the windows.
        sent = sum(stream.bytes_sent - stream.write_buffer_size for stream in streams)
        assert sent <= 3 * window
        assert not any(flood.done() for flood in floods)
        got = 0
        while got < 80 * window:
            got += len((await call.receive())["data"])
            held = sum(stream._quic.buffered for stream in native.open_streams())
            assert held <= 3 * window
        await asyncio.gather(*floods)


async def test_streams_and_datagrams_take_turns(opening: Opening) -> None:
    async with opening() as (client, call):
        streams = [await client.create_unidirectional_stream() for _ in range(4)]
        for stream in streams:
            await stream.write(bytes(400_000))
        for number in range(10):
            await client.datagrams.send(b"%d" % number)
        native = call.scope["extensions"]["webtransport"]["session"]
        await until(lambda: native.datagrams.datagrams_received == 10)
        await until(
            lambda: sum(stream._quic.bytes_received for stream in native.open_streams()) > 1_600_000
        )
        events = [await call.receive() for _ in range(20)]
        kinds = ["data" if event["type"] == RECEIVE else "datagram" for event in events]
        assert kinds in (["data", "datagram"] * 10, ["datagram", "data"] * 10)
        order = [event["stream"] for event in events if event["type"] == RECEIVE]
        assert order[:4] == order[4:8]
        assert len(set(order[:4])) == 4


async def test_the_priority_of_a_stream(opening: Opening) -> None:
    async with opening() as (_, call):
        later = await opened(call, bidirectional=False, send_order=-1)
        sooner = await opened(call, bidirectional=False)
        await call.send("stream.priority", stream=sooner, send_order=7)
        native = call.scope["extensions"]["webtransport"]["session"]
        orders = {stream.stream_id: stream.send_order for stream in native.open_streams()}
        assert orders == {later: -1, sooner: 7}
        with pytest.raises(ConfigurationError, match="send_order"):
            await call.send("stream.priority", stream=sooner, send_order="high")
        for stream in (later, sooner):
            await call.send("stream.send", stream=stream, data=b"x", end_stream=True)


async def test_what_comes_before_accept_is_kept(opening: Opening) -> None:
    async with opening() as (first, first_call):
        assert first.connection is not None
        session = await first.connection.create_session("/second")
        stage = first_call.stage
        call = await stage.next()
        stream = await session.create_bidirectional_stream()
        await session.datagrams.send(b"early, too")
        await stream.write_all(b"early")
        await stream.wait_acknowledged()
        assert (await call.receive())["type"] == "webtransport.connect"
        await call.send("accept")
        events = [await call.receive(), await call.receive()]
        assert {event["data"] for event in events} == {b"early", b"early, too"}
        call.end()
        await session.wait_closed()


# ------------------------------------------------------------------------ storms


@pytest.mark.parametrize("seed", range(3))
async def test_a_storm_of_streams(opening: Opening, seed: int) -> None:
    """Streams of both ends, datagrams, resets, stops and pauses at the same time: nothing mixes."""
    rng = random.Random(seed)
    async with opening() as (client, call):
        received: dict[int, bytes] = {}
        ends: dict[int, str] = {}
        paused: set[int] = set()

        async def application() -> None:
            while True:
                event = await call.receive()
                kind = event["type"].removeprefix("webtransport.")
                if kind == "disconnect":
                    return
                if kind == "stream.opened":
                    data = b"%d " % event["stream"] * 500
                    await call.send(
                        "stream.send", stream=event["stream"], data=data, end_stream=True
                    )
                elif kind == "stream.receive":
                    number, data = event["stream"], event["data"]
                    assert number not in ends
                    assert number not in paused
                    received[number] = received.get(number, b"") + data
                    if event["end_stream"]:
                        ends[number] = "end"
                    if event["bidirectional"] and number % 4 == 0:
                        await call.send(
                            "stream.send",
                            stream=number,
                            data=data,
                            end_stream=event["end_stream"],
                        )
                    if not event["end_stream"] and number % 3 == 0:
                        await call.send("stream.pause", stream=number)
                        paused.add(number)
                elif kind == "stream.reset":
                    assert event["stream"] not in ends
                    ends[event["stream"]] = f"reset {event['code']}"
                if paused and (len(received) % 2 or not rng.randrange(3)):
                    number = paused.pop()
                    await call.send("stream.resume", stream=number)

        async def resume() -> None:
            """Nothing else happens for a paused stream."""
            while not everything.is_set():
                if paused:
                    await call.send("stream.resume", stream=paused.pop())
                await asyncio.sleep(0.001)

        async def one(number: int) -> None:
            await asyncio.sleep(rng.random() / 100)
            text = b"%d," % number * rng.randrange(1, 20_000)
            way = rng.randrange(4)
            if way == 0:
                sending = await client.create_unidirectional_stream()
                await sending.write_all(text)
                await until(lambda: ends.get(sending.stream_id) == "end")
                assert received[sending.stream_id] == text
                return
            stream = await client.create_bidirectional_stream()
            if way == 1:
                writing = asyncio.create_task(stream.write_all(text))
                assert await stream.read_all() == text
                await writing
            elif way == 2:
                await stream.write(text)
                if rng.randrange(2):
                    await stream.read()
                await stream.abort(number)
                await until(lambda: ends.get(stream.stream_id) == f"reset {number}")
                assert text.startswith(received.get(stream.stream_id, b""))
            else:
                await call.send("stream.open", bidirectional=bool(rng.randrange(2)))
                await client.datagrams.send(b"%d" % number)
                stream.stop_sending(1)
                await stream.write_all(text)
                await until(lambda: ends.get(stream.stream_id) == "end")
                assert received[stream.stream_id] == text

        async def incoming() -> None:
            async for stream in client.incoming_streams():
                assert await stream.read_all() == b"%d " % stream.stream_id * 500
                if isinstance(stream, WebTransportStream):
                    await stream.close()

        everything = asyncio.Event()
        background = [asyncio.create_task(work()) for work in (application, resume, incoming)]
        async with asyncio.timeout(40):
            await asyncio.gather(*map(one, range(150)))
        native = call.scope["extensions"]["webtransport"]["session"]
        everything.set()
        await until(lambda: not client.open_streams())
        await until(lambda: not native.open_streams())
        await client.close()
        await asyncio.gather(*background)
