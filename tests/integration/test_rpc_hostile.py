"""Peers that break the rules of remote calls: each gets an answer, and nothing else suffers."""

from __future__ import annotations

import asyncio
import json
import struct
from typing import Any

import pytest

from pywebtransport.exceptions import (
    SerializationError,
    StreamError,
    StreamResetError,
    StreamStoppedError,
)
from pywebtransport.rpc import RpcCancelledError, RpcError, RpcErrorCode, RpcManager, StreamCode
from pywebtransport.session import WebTransportSession
from pywebtransport.stream import WebTransportStream
from tests.support.endpoints import PairOfSessions
from tests.support.steps import take, until

pytestmark = pytest.mark.loops("virtual")

REQUEST, RESULT, FAILURE, NOTIFICATION = 1, 2, 3, 4


def frame(type_id: int, value: Any) -> bytes:
    """A message; bytes are used as the payload."""
    payload = value if isinstance(value, bytes) else json.dumps(value).encode()
    return struct.pack("!HI", type_id, len(payload)) + payload


async def answer_to(session: WebTransportSession, data: bytes) -> tuple[int, Any]:
    """What a peer answers to these bytes and the end of the stream."""
    stream = await session.create_bidirectional_stream()
    await stream.write_all(data)
    return parse(await stream.read_all(max_size=100_000))


def parse(data: bytes) -> tuple[int, Any]:
    """Type ID and payload of the only message in ``data``."""
    type_id, size = struct.unpack_from("!HI", data)
    assert len(data) == 6 + size
    return type_id, json.loads(data[6:])


async def write_forever(stream: WebTransportStream) -> None:
    """Until the peer wants no more."""
    while True:
        await stream.write(b"x" * 50_000)


async def alive(client: WebTransportSession) -> None:
    """The manager at the server still serves."""
    assert await answer_to(client, frame(REQUEST, {"method": "echo", "params": [1]})) == (
        RESULT,
        {"value": 1},
    )


async def gone(session: WebTransportSession) -> None:
    """No stream is left."""
    await until(lambda: not session._streams)


BAD_REQUESTS = {
    "unknown type": (frame(99, {}), "no type ID 99"),
    "an answer": (frame(RESULT, {"value": 1}), "expected a request, got Result"),
    "no JSON": (frame(REQUEST, b"{"), "malformed JSON"),
    "no UTF-8": (frame(REQUEST, b'{"method":"\xff"}'), "malformed JSON"),
    "no method": (frame(REQUEST, {}), "missing field method"),
    "empty method": (frame(REQUEST, {"method": ""}), "method must be"),
    "wrong method": (frame(REQUEST, {"method": 5}), "expected str, got int"),
    "wrong params": (frame(REQUEST, {"method": "echo", "params": {}}), "params"),
    "wrong metadata": (frame(REQUEST, {"method": "echo", "metadata": {"a": 1}}), "metadata"),
    "wrong timeout": (frame(REQUEST, {"method": "echo", "timeout": -1}), "timeout must be"),
    "endless timeout": (frame(REQUEST, b'{"method":"echo","timeout":1e999}'), "malformed JSON"),
    "unknown field": (frame(REQUEST, {"method": "echo", "x": 1}), "unknown field 'x'"),
    "too deep": (frame(REQUEST, b"[" * 5000 + b"]" * 5000), "deep"),
    "too large": (struct.pack("!HI", REQUEST, 2**32 - 1), "4294967295 bytes"),
}


@pytest.mark.parametrize("kind", BAD_REQUESTS)
async def test_bad_requests_are_answered_with_what_is_wrong(
    pair: PairOfSessions, kind: str
) -> None:
    data, message = BAD_REQUESTS[kind]
    async with pair() as (client, server), RpcManager(server) as rpc:
        rpc.register(lambda value: value, name="echo")
        type_id, failure = await answer_to(client, data)
        assert type_id == FAILURE
        assert failure["code"] == RpcErrorCode.INVALID_REQUEST
        assert message in failure["message"]
        assert len(failure["message"]) < 500
        await alive(client)
        await gone(server)


@pytest.mark.parametrize("data", [b"", b"\x00", frame(REQUEST, {"method": "echo"})[:-1]])
async def test_requests_that_end_early(pair: PairOfSessions, data: bytes) -> None:
    async with pair() as (client, server), RpcManager(server) as rpc:
        rpc.register(lambda value: value, name="echo")
        stream = await client.create_bidirectional_stream()
        await stream.write_all(data)
        with pytest.raises(StreamResetError) as caught:
            await stream.read_all()
        assert caught.value.error_code == StreamCode.CANCELLED
        await alive(client)
        await gone(server)


async def test_the_deadline_of_a_request_is_kept_by_the_callee(pair: PairOfSessions) -> None:
    ended = asyncio.Event()

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with pair() as (client, server), RpcManager(server) as rpc:
        rpc.register(wait)
        request = frame(REQUEST, {"method": "wait", "timeout": 0.05})
        type_id, failure = await answer_to(client, request)
        assert (type_id, failure["code"]) == (FAILURE, RpcErrorCode.TIMEOUT)
        assert failure["message"] == "not finished within 0.05 seconds"
        assert ended.is_set()


async def test_extreme_deadlines(pair: PairOfSessions) -> None:
    async with pair() as (client, server), RpcManager(server) as rpc:
        rpc.register(lambda: 1, name="now")
        rpc.register(asyncio.Event().wait, name="never")
        never = {"method": "never", "timeout": 1e-9}
        assert (await answer_to(client, frame(REQUEST, never)))[0] == FAILURE
        now = {"method": "now", "timeout": 1e300}
        assert (await answer_to(client, frame(REQUEST, now)))[0] == RESULT


async def test_a_request_that_never_comes_frees_its_slot(pair: PairOfSessions) -> None:
    async with (
        pair() as (client, server),
        RpcManager(server, concurrency_limit=1, request_timeout=0.05) as rpc,
    ):
        rpc.register(lambda value: value, name="echo")
        silent = await client.create_bidirectional_stream()
        await silent.write(b"\x00")
        type_id, failure = parse(await silent.read_all())
        assert (type_id, failure["code"]) == (FAILURE, RpcErrorCode.INVALID_REQUEST)
        assert failure["message"] == "no request within 0.05 seconds"
        await alive(client)
        await gone(server)


async def test_what_follows_a_request_is_not_read(pair: PairOfSessions) -> None:
    async with pair() as (client, server), RpcManager(server) as rpc:
        rpc.register(lambda value: value, name="echo")
        stream = await client.create_bidirectional_stream()
        await stream.write(frame(REQUEST, {"method": "echo", "params": [1]}))
        await stream.write(b"x" * 50_000)
        assert parse(await stream.read_all()) == (RESULT, {"value": 1})
        with pytest.raises(StreamStoppedError):
            await write_forever(stream)
        await gone(server)
        await alive(client)


async def test_the_end_of_a_request_may_come_after_its_answer(pair: PairOfSessions) -> None:
    """Firefox drops an answer when STOP_SENDING overtakes the FIN, which it sends by itself."""
    async with pair() as (client, server), RpcManager(server, request_timeout=5) as rpc:
        rpc.register(lambda value: value, name="echo")
        request = frame(REQUEST, {"method": "echo", "params": [1]})
        polite = await client.create_bidirectional_stream()
        await polite.write(request)
        assert parse(await polite.read_all()) == (RESULT, {"value": 1})
        await asyncio.sleep(2)  # virtual time
        assert not polite.is_stopped
        await polite.close()
        await gone(server)
        # It does not wait longer than for a request.
        endless = await client.create_bidirectional_stream()
        await endless.write(request)
        assert parse(await endless.read_all()) == (RESULT, {"value": 1})
        assert await endless.wait_stopped() == StreamCode.DONE
        assert rpc.active_calls["incoming"] == 0


async def test_a_caller_that_does_not_read_its_answer_holds_up_only_itself(
    pair: PairOfSessions,
) -> None:
    size = 12_000_000
    async with pair() as (client, server), RpcManager(server, max_message_size=2 * size) as rpc:
        rpc.register(lambda value: value, name="echo")
        rpc.register(lambda: "x" * size, name="large")
        stream = await client.create_bidirectional_stream()
        await stream.write_all(frame(REQUEST, {"method": "large"}))
        await until(lambda: stream._quic.buffered > 0)
        for _ in range(10):
            await alive(client)
        assert rpc.active_calls["incoming"] == 1
        stream.stop_sending(7)
        await until(lambda: rpc.active_calls["incoming"] == 0)
        await gone(server)


async def test_a_caller_that_resets_its_request(pair: PairOfSessions) -> None:
    async with pair() as (client, server), RpcManager(server) as rpc:
        rpc.register(lambda value: value, name="echo")
        stream = await client.create_bidirectional_stream()
        await stream.write(frame(REQUEST, {"method": "echo"})[:-1])
        await until(lambda: rpc.active_calls["incoming"] == 1)
        stream.reset(9)
        stream.stop_sending(9)
        await until(lambda: rpc.active_calls["incoming"] == 0)
        await alive(client)
        await gone(server)


async def test_many_streams_at_once_run_no_more_handlers_than_allowed(
    pair: PairOfSessions,
) -> None:
    most = running = 0
    go_on = asyncio.Event()

    async def wait() -> None:
        nonlocal most, running
        running += 1
        most = max(most, running)
        await go_on.wait()
        running -= 1

    async with pair() as (client, server), RpcManager(server, concurrency_limit=5) as rpc:
        rpc.register(wait)
        request = frame(REQUEST, {"method": "wait"})
        calls = [asyncio.create_task(answer_to(client, request)) for _ in range(200)]
        await until(lambda: running == 5 and len(server._incoming_bidi or ()) > 150)
        go_on.set()
        assert await asyncio.gather(*calls) == [(RESULT, {"value": None})] * 200
        assert most == 5


# -------------------------------------------------------------------- hostile callees


async def call_answered_with(
    pair: PairOfSessions, data: bytes | None, *, finish: bool = True
) -> Any:
    """The result of a call whose callee sends these bytes."""
    async with pair() as (client, server), RpcManager(client) as rpc:
        call = asyncio.create_task(rpc.call("f"))
        stream: WebTransportStream = await take(server)
        await stream.read_all(max_size=1000)
        if data is None:
            stream.reset(77)
        elif finish:
            await stream.write_all(data)
        else:
            await stream.write(data)
        try:
            return await call
        finally:
            await gone(client)


async def test_a_proper_answer(pair: PairOfSessions) -> None:
    assert await call_answered_with(pair, frame(RESULT, {"value": 5})) == 5
    assert await call_answered_with(pair, frame(RESULT, {})) is None


async def test_only_the_first_answer_counts(pair: PairOfSessions) -> None:
    two = frame(RESULT, {"value": 1}) + frame(RESULT, {"value": 2})
    assert await call_answered_with(pair, two) == 1
    assert await call_answered_with(pair, two + b"x" * 100, finish=False) == 1


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (frame(REQUEST, {"method": "f"}), "answered 'f' with a Request"),
        (frame(99, {}), "no type ID 99"),
        (frame(RESULT, b"["), "malformed JSON"),
        (frame(FAILURE, {"message": "x"}), "missing field code"),
        (frame(FAILURE, {"code": "x"}), "expected int"),
        (struct.pack("!HI", RESULT, 2**31), "announced a message of 2147483648 bytes"),
    ],
)
async def test_answers_that_cannot_be_understood(
    pair: PairOfSessions, data: bytes, message: str
) -> None:
    with pytest.raises(SerializationError, match=message):
        await call_answered_with(pair, data)


@pytest.mark.parametrize("data", [None, b"", frame(RESULT, {"value": 1})[:-1]])
async def test_answers_that_do_not_come(pair: PairOfSessions, data: bytes | None) -> None:
    with pytest.raises(RpcCancelledError) as caught:
        await call_answered_with(pair, data)
    assert caught.value.remote is True


async def test_failures_of_any_code_are_errors(pair: PairOfSessions) -> None:
    for code in (0, -32000, 10**30):
        with pytest.raises(RpcError, match="m") as caught:
            await call_answered_with(pair, frame(FAILURE, {"code": code, "message": "m"}))
        assert caught.value.error_code == code


async def test_a_callee_that_stops_the_request_may_still_answer(pair: PairOfSessions) -> None:
    async with pair() as (client, server), RpcManager(client) as rpc:
        call = asyncio.create_task(rpc.call("f", "x" * 900_000))
        stream = await take(server)
        await stream.read(10)
        stream.stop_sending(StreamCode.BAD_MESSAGE)
        await stream.write_all(frame(FAILURE, {"code": 413, "message": "too much"}))
        with pytest.raises(RpcError, match="too much") as caught:
            await call
        assert caught.value.error_code == 413
        await gone(client)


async def test_a_callee_that_stops_the_request_without_a_word(pair: PairOfSessions) -> None:
    async with pair() as (client, server), RpcManager(client) as rpc:
        call = asyncio.create_task(rpc.call("f", "x" * 900_000))
        stream = await take(server)
        await stream.abort(StreamCode.CANCELLED)
        with pytest.raises(RpcCancelledError):
            await call
        await gone(client)
        with pytest.raises(StreamError):
            await stream.read()
