"""The scope ``webtransport`` over real QUIC: its events, messages and rules."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from pywebtransport import WebTransportClient, WebTransportSession
from pywebtransport.asgi import AsgiMessageError, ClientDisconnectedError
from pywebtransport.exceptions import (
    ConfigurationError,
    SessionRejectedError,
)
from tests.support.asgi import Stage, events_until, opened
from tests.support.endpoints import ClientFactory
from tests.support.leaks import ExpectedLogs
from tests.support.steps import take, take_unidirectional

from .conftest import Mounting, Opening

RECEIVE = "webtransport.stream.receive"


# ------------------------------------------------------------------- the request


async def test_the_scope_has_every_field(mounting: Mounting, client_config: ClientFactory) -> None:
    stage = Stage()
    config = client_config(application_protocols=["chat-2", "chat-1"])
    async with mounting(stage) as served, WebTransportClient(config=config) as client:
        connecting = asyncio.ensure_future(
            client.connect(
                served.url("/caf%C3%A9/1?a=%20b"),
                headers={"Origin": "https://a.example", "X-Two": ["1", "2"]},
            )
        )
        call = await stage.next()
        scope = dict(call.scope)
        await call.accept(subprotocol="chat-1", headers=[(b"X-Answer", b"yes"), (b"b", b"2")])
        session = await connecting
        assert session.application_protocol == "chat-1"
        assert session.headers["x-answer"] == "yes"
        assert session.connection is not None
        assert session.connection.local_address is not None
        port = session.connection.local_address[1]
        extensions = scope.pop("extensions")
        headers = scope.pop("headers")
        assert scope == {
            "type": "webtransport",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "3",
            "method": "CONNECT",
            "scheme": "https",
            "path": "/café/1",
            "raw_path": b"/caf%C3%A9/1",
            "query_string": b"a=%20b",
            "root_path": "",
            "client": ("127.0.0.1", port),
            "server": (served.host, served.port),
            "subprotocols": ["chat-2", "chat-1"],
            "state": {},
        }
        assert headers[0] == (b"host", f"{served.host}:{served.port}".encode())
        assert (b"origin", b"https://a.example") in headers
        assert [value for name, value in headers if name == b"x-two"] == [b"1", b"2"]
        native = extensions["webtransport"].pop("session")
        assert isinstance(native, WebTransportSession)
        assert extensions["webtransport"] == {
            "version": 1,
            "draft": session.dialect,
            "max_datagram_size": native.max_datagram_size,
        }
        assert extensions["webtransport"]["max_datagram_size"] > 1000
        assert "tls" in extensions
        call.end()
        await session.wait_closed()


@pytest.mark.loops("asyncio")
@pytest.mark.parametrize(
    ("message", "status"),
    [
        ({}, 403),
        ({"status": 418}, 418),
        ({"code": 404}, 404),
        ({"code": 404, "status": 429}, 429),
        ({"code": 7}, 403),
        ({"code": 600}, 403),
        ({"status": 401, "headers": [(b"WWW-Authenticate", b"Bearer")]}, 401),
    ],
    ids=str,
)
async def test_a_request_is_refused(
    mounting: Mounting, client_config: ClientFactory, message: dict[str, Any], status: int
) -> None:
    stage = Stage()
    async with mounting(stage) as served, WebTransportClient(config=client_config()) as client:
        connecting = asyncio.ensure_future(client.connect(served.url()))
        call = await stage.next()
        await call.send("close", **message)
        with pytest.raises(SessionRejectedError) as refused:
            await connecting
        assert refused.value.status_code == status
        for name, value in message.get("headers", ()):
            assert refused.value.headers[name.decode().lower()] == value.decode()
        with pytest.raises(OSError, match="nothing more can be sent"):
            await call.send("accept")
        call.end()


async def test_nothing_but_an_answer_is_allowed_before_accept(
    mounting: Mounting, client_config: ClientFactory
) -> None:
    stage = Stage()
    async with mounting(stage) as served, WebTransportClient(config=client_config()) as client:
        connecting = asyncio.ensure_future(client.connect(served.url()))
        call = await stage.next()
        assert await call.receive() == {"type": "webtransport.connect"}
        for kind, fields in [
            ("stream.send", {"stream": 0, "data": b""}),
            ("stream.open", {}),
            ("datagram.send", {"data": b""}),
        ]:
            with pytest.raises(RuntimeError, match=r"before webtransport\.accept"):
                await call.send(kind, **fields)
        waiting = asyncio.create_task(call.receive())
        await call.send("accept")
        session = await connecting
        await session.datagrams.send(b"first")
        assert (await waiting)["data"] == b"first"
        with pytest.raises(AsgiMessageError, match="accept was sent already"):
            await call.send("accept")
        call.end()
        await session.wait_closed()


async def test_a_client_that_leaves_before_the_answer_disconnects(
    mounting: Mounting, client_config: ClientFactory
) -> None:
    stage = Stage()
    async with mounting(stage) as served, WebTransportClient(config=client_config()) as client:
        connecting = asyncio.ensure_future(client.connect(served.url()))
        call = await stage.next()
        await call.receive()
        connecting.cancel()
        event = await call.receive()
        assert event == {"type": "webtransport.disconnect", "code": None, "reason": event["reason"]}
        with pytest.raises(ClientDisconnectedError):
            await call.send("accept")
        call.end()


# ----------------------------------------------------------------------- the end


async def test_the_application_closes_with_code_and_reason(opening: Opening) -> None:
    async with opening() as (client, call):
        await call.send("close", code=2**32 - 1, reason="bye ☃")
        info = await client.wait_closed()
        assert (info.code, info.reason, info.remote) == (2**32 - 1, "bye ☃", True)
        for _ in range(2):
            assert await call.receive() == {
                "type": "webtransport.disconnect",
                "code": 2**32 - 1,
                "reason": "bye ☃",
            }
        with pytest.raises(OSError, match="nothing more can be sent") as caught:
            await call.send("datagram.send", data=b"")
        assert isinstance(caught.value, ClientDisconnectedError)


async def test_the_peer_closes_with_code_and_reason(opening: Opening) -> None:
    async with opening() as (client, call):
        await client.close(code=77, reason="enough")
        for _ in range(3):
            assert await call.receive() == {
                "type": "webtransport.disconnect",
                "code": 77,
                "reason": "enough",
            }
        for kind, fields in [
            ("stream.send", {"stream": 0, "data": b""}),
            ("stream.open", {}),
            ("close", {}),
        ]:
            with pytest.raises(ClientDisconnectedError, match="with code 77"):
                await call.send(kind, **fields)


async def test_an_abrupt_end_has_no_code(opening: Opening) -> None:
    async with opening() as (client, call):
        await client.abort()
        event = await call.receive()
        assert (event["type"], event["code"]) == ("webtransport.disconnect", None)


@pytest.mark.loops("asyncio", "virtual")
async def test_the_end_of_the_connection_disconnects(opening: Opening) -> None:
    async with opening() as (client, call):
        stream = await client.create_bidirectional_stream()
        await stream.write(b"x")
        await call.receive()
        waiting = asyncio.create_task(call.receive())
        opening_stream = asyncio.create_task(call.send("stream.open"))
        await opening_stream
        assert (await waiting)["type"] == "webtransport.stream.opened"
        assert client.connection is not None
        await client.connection.close()
        event = await call.receive()
        assert (event["type"], event["code"]) == ("webtransport.disconnect", 0)
        with pytest.raises(ClientDisconnectedError):
            await call.send("stream.send", stream=stream.stream_id, data=b"y")


async def test_what_came_before_the_end_is_delivered_before_it(opening: Opening) -> None:
    async with opening() as (client, call):
        stream = await client.create_unidirectional_stream()
        await stream.write_all(b"last words")
        await client.datagrams.send(b"datagram")
        await client.close(code=5)
        events = await events_until(call, "disconnect")
        assert [event.get("data") for event in events if "data" in event] in (
            [b"last words", b"datagram"],
            [b"datagram", b"last words"],
        )
        assert events[-1]["code"] == 5


async def test_an_application_that_returns_closes_with_0(opening: Opening) -> None:
    async with opening() as (client, call):
        stream = await opened(call)
        await call.send("stream.send", stream=stream, data=b"all of it", end_stream=True)
        call.end()
        assert await (await take(client)).read_all() == b"all of it"
        info = await client.wait_closed()
        assert (info.code, info.reason) == (0, "")


async def test_an_application_that_raises_closes_with_1(
    opening: Opening, expected_logs: ExpectedLogs
) -> None:
    expected_logs("the application raised ValueError: a bug")
    async with opening() as (client, call):
        call.end(ValueError("a bug"))
        info = await client.wait_closed()
        assert (info.code, info.reason) == (1, "internal error")


@pytest.mark.parametrize(("fails", "status"), [(False, 403), (True, 500)])
async def test_an_application_that_ends_without_an_answer(
    mounting: Mounting,
    client_config: ClientFactory,
    expected_logs: ExpectedLogs,
    fails: bool,
    status: int,
) -> None:
    if fails:
        expected_logs("the application raised ValueError: a bug")
    stage = Stage()
    async with mounting(stage) as served, WebTransportClient(config=client_config()) as client:
        connecting = asyncio.ensure_future(client.connect(served.url()))
        call = await stage.next()
        await call.receive()
        call.end(ValueError("a bug") if fails else None)
        with pytest.raises(SessionRejectedError) as refused:
            await connecting
        assert refused.value.status_code == status


async def test_the_error_for_a_client_that_is_gone_is_not_logged(opening: Opening) -> None:
    """It would be an ERROR record, which fails the test."""
    async with opening() as (client, call):
        await client.close()
        await events_until(call, "disconnect")
        with pytest.raises(ClientDisconnectedError) as caught:
            await call.send("datagram.send", data=b"")
        call.end(caught.value)
        await call.ended.wait()


async def test_a_server_that_stops_asks_to_finish_first(
    mounting: Mounting, client_config: ClientFactory
) -> None:
    stage = Stage()
    async with mounting(stage) as served, WebTransportClient(config=client_config()) as client:
        connecting = asyncio.ensure_future(client.connect(served.url()))
        call = await stage.next()
        await call.accept()
        session = await connecting
        closing = asyncio.create_task(served.server.close(drain_timeout=20))
        assert await call.receive() == {"type": "webtransport.drain"}
        stream = await opened(call)
        await call.send("stream.send", stream=stream, data=b"the rest", end_stream=True)
        assert await (await take(session)).read_all() == b"the rest"
        call.end()
        await closing
        assert (await session.wait_closed()).code == 0


async def test_a_server_that_stops_at_once_closes_with_0(
    mounting: Mounting, client_config: ClientFactory
) -> None:
    stage = Stage()
    async with mounting(stage) as served, WebTransportClient(config=client_config()) as client:
        connecting = asyncio.ensure_future(client.connect(served.url()))
        call = await stage.next()
        await call.accept()
        session = await connecting
        await served.server.close(drain_timeout=0)
        assert (await session.wait_closed()).code == 0
        events = await events_until(call, "disconnect")
        assert {event["type"] for event in events[:-1]} <= {"webtransport.drain"}
        assert call.ended.is_set()


async def test_the_peer_asks_to_finish(opening: Opening) -> None:
    async with opening() as (client, call):
        await client.drain()
        assert await call.receive() == {"type": "webtransport.drain"}
        await client.drain()
        await client.datagrams.send(b"x")
        assert (await call.receive())["type"] == "webtransport.datagram.receive"


# ------------------------------------------------------------------------ errors

Wrong = tuple[dict[str, Any], type[Exception], str]

WRONG: list[Wrong] = [
    ({}, AsgiMessageError, "the key 'type'"),
    ({"type": 7}, AsgiMessageError, "the key 'type'"),
    ({"type": "webtransport.unknown"}, AsgiMessageError, "no message of the type"),
    ({"type": "stream.send"}, AsgiMessageError, "no message of the type"),
    ({"type": "websocket.send"}, AsgiMessageError, r"answered a scope .* with websocket\.send"),
    ({"type": "webtransport.stream.send"}, ConfigurationError, "stream = None"),
    ({"type": "webtransport.stream.send", "stream": True}, ConfigurationError, "stream = True"),
    (
        {"type": "webtransport.stream.send", "stream": "0", "data": b""},
        ConfigurationError,
        "stream = '0'",
    ),
    (
        {"type": "webtransport.stream.send", "stream": 4000, "data": b""},
        AsgiMessageError,
        "there is no stream 4000",
    ),
    (
        {"type": "webtransport.stream.send", "stream": 4000, "data": "text"},
        ConfigurationError,
        "data = 'text'",
    ),
    (
        {"type": "webtransport.stream.send", "stream": 4000, "data": b"", "end_stream": 1},
        ConfigurationError,
        "end_stream",
    ),
    ({"type": "webtransport.stream.reset", "stream": 4000}, AsgiMessageError, "no stream 4000"),
    ({"type": "webtransport.stream.pause", "stream": 4000}, AsgiMessageError, "no stream 4000"),
    ({"type": "webtransport.stream.open", "bidirectional": 1}, ConfigurationError, "bidirectional"),
    ({"type": "webtransport.stream.open", "send_order": "1"}, ConfigurationError, "send_order"),
    ({"type": "webtransport.datagram.send", "data": "x"}, ConfigurationError, "data = 'x'"),
    (
        {"type": "webtransport.datagram.send", "data": b"", "priority": 3},
        ConfigurationError,
        "priority",
    ),
    ({"type": "webtransport.datagram.send", "data": b"", "ttl": -1}, ConfigurationError, "ttl"),
    ({"type": "webtransport.datagram.send", "data": bytes(70_000)}, ValueError, "larger than"),
    ({"type": "webtransport.close", "code": -1}, ConfigurationError, "code"),
    ({"type": "webtransport.close", "code": 2**32}, ConfigurationError, "code"),
    ({"type": "webtransport.close", "reason": b"x"}, ConfigurationError, "reason"),
    ({"type": "webtransport.close", "reason": "é" * 513}, ConfigurationError, "1024 bytes"),
]


@pytest.mark.loops("asyncio")
@pytest.mark.parametrize(("message", "kind", "text"), WRONG, ids=range(len(WRONG)))
async def test_wrong_messages_change_nothing(
    opening: Opening, message: dict[str, Any], kind: type[Exception], text: str
) -> None:
    async with opening() as (client, call):
        with pytest.raises(kind, match=text) as caught:
            await call.send_raw(message)
        assert isinstance(caught.value, RuntimeError | ValueError)
        assert not isinstance(caught.value, OSError)
        await call.send("datagram.send", data=b"unharmed")
        assert await client.datagrams.receive() == b"unharmed"


@pytest.mark.loops("asyncio")
@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"subprotocol": "other"}, "other"),
        ({"subprotocol": 7}, "application_protocol"),
        ({"headers": [("a", "b")]}, "pairs of bytes"),
        ({"headers": [b"ab"]}, "pairs of bytes"),
        ({"headers": 7}, "pairs of bytes"),
        ({"headers": [(b"a", b"b\r\nc: d")]}, "line break"),
        ({"headers": [(b"connection", b"close")]}, "cannot be set"),
    ],
    ids=str,
)
async def test_a_wrong_answer_leaves_the_request_open(
    mounting: Mounting, client_config: ClientFactory, message: dict[str, Any], text: str
) -> None:
    stage = Stage()
    async with mounting(stage) as served, WebTransportClient(config=client_config()) as client:
        connecting = asyncio.ensure_future(client.connect(served.url()))
        call = await stage.next()
        with pytest.raises(ValueError, match=text):
            await call.send("accept", **message)
        for status in (200, 99, "403"):
            with pytest.raises(ValueError, match="status_code"):
                await call.send("close", status=status)
        await call.send("accept")
        session = await connecting
        call.end()
        await session.wait_closed()


async def test_directions_are_checked(opening: Opening) -> None:
    async with opening() as (client, call):
        stream = await client.create_unidirectional_stream()
        await stream.write(b"x")
        theirs = (await call.receive())["stream"]
        ours = await opened(call, bidirectional=False)
        for kind, number, what in [
            ("stream.send", theirs, "only receives"),
            ("stream.reset", theirs, "only receives"),
            ("stream.priority", theirs, "only receives"),
            ("stream.stop_sending", ours, "only sends"),
            ("stream.pause", ours, "only sends"),
            ("stream.resume", ours, "only sends"),
        ]:
            with pytest.raises(AsgiMessageError, match=what):
                await call.send(kind, stream=number)
        for code in (-1, 2**32, "1"):
            with pytest.raises(ConfigurationError, match="code"):
                await call.send("stream.reset", stream=ours, code=code)
        await call.send("stream.send", stream=ours, data=b"fine", end_stream=True)
        assert await (await take_unidirectional(client)).read_all() == b"fine"
        with pytest.raises(AsgiMessageError, match="was finished"):
            await call.send("stream.send", stream=ours, data=b"x")
        await call.send("stream.send", stream=ours, data=b"", end_stream=True)


async def test_only_one_task_receives(opening: Opening) -> None:
    async with opening() as (client, call):
        waiting = asyncio.create_task(call.receive())
        await asyncio.sleep(0)
        with pytest.raises(AsgiMessageError, match="one task only"):
            await call.receive()
        await client.datagrams.send(b"for the first")
        assert (await waiting)["data"] == b"for the first"


async def test_a_cancelled_receive_loses_nothing(opening: Opening) -> None:
    async with opening() as (client, call):
        texts = [b"%d" % number for number in range(200)]

        async def send_all() -> None:
            for text in texts:
                stream = await client.create_unidirectional_stream()
                await stream.write_all(text)

        sending = asyncio.create_task(send_all())
        got: list[bytes] = []
        while len(got) < len(texts):
            receiving = asyncio.create_task(call.receive())
            await asyncio.sleep(0)
            receiving.cancel()
            try:
                got.append((await receiving)["data"])
            except asyncio.CancelledError:
                got.append((await call.receive())["data"])
        await sending
        assert sorted(got) == sorted(texts)


# ------------------------------------------------------ applications of other servers


async def test_an_application_like_the_demo_of_aioquic(
    mounting: Mounting, client_config: ClientFactory
) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        assert message["type"] == "webtransport.connect"
        await send({"type": "webtransport.accept"})
        while True:
            message = await receive()
            if message["type"] == "webtransport.datagram.receive":
                await send({"type": "webtransport.datagram.send", "data": message["data"]})
            elif message["type"] == "webtransport.stream.receive":
                await send(
                    {
                        "type": "webtransport.stream.send",
                        "data": message["data"],
                        "stream": message["stream"],
                    }
                )
            elif message["type"] == "webtransport.disconnect":
                return

    async with mounting(application) as served:
        await echoes(served.url(), client_config, ends=False)


async def test_an_application_like_those_of_peregrine(
    mounting: Mounting, client_config: ClientFactory
) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "webtransport.accept", "headers": []})
        waiting: list[bytes] = [b"welcome"]
        await send({"type": "webtransport.stream.open", "bidirectional": False})
        while True:
            event = await receive()
            match event["type"]:
                case "webtransport.stream.opened":
                    await send(
                        {
                            "type": "webtransport.stream.send",
                            "stream": event["stream"],
                            "data": waiting.pop(),
                            "end_stream": True,
                        }
                    )
                case "webtransport.stream.receive":
                    await send(
                        {
                            "type": "webtransport.stream.send",
                            "stream": event["stream"],
                            "data": event["data"],
                            "end_stream": not event["more_data"],
                        }
                    )
                case "webtransport.datagram.receive":
                    await send({"type": "webtransport.datagram.send", "data": event["data"]})
                case "webtransport.disconnect":
                    return

    async with mounting(application) as served:
        await echoes(served.url(), client_config, ends=True, welcome=b"welcome")


async def echoes(
    url: str, client_config: Callable[..., Any], *, ends: bool, welcome: bytes | None = None
) -> None:
    """Check that an application sends back what comes."""
    async with (
        WebTransportClient(config=client_config()) as client,
        await client.connect(url) as session,
    ):
        stream = await session.create_bidirectional_stream()
        await stream.write(b"a stream")
        assert await stream.readexactly(8) == b"a stream"
        await stream.close()
        if ends:
            assert await stream.read_all() == b""
        await session.datagrams.send(b"a datagram")
        assert await session.datagrams.receive() == b"a datagram"
        if welcome is not None:
            assert await (await take_unidirectional(session)).read_all() == welcome


@pytest.mark.parametrize("dialect", [2, 7, 14, 16])
async def test_every_dialect(opening: Opening, dialect: int) -> None:
    async with opening(client={"dialects": [dialect]}) as (client, call):
        assert call.scope["extensions"]["webtransport"]["draft"] == client.dialect == dialect
        stream = await client.create_bidirectional_stream()
        await stream.write(b"x")
        event = await call.receive()
        await call.send("stream.send", stream=event["stream"], data=event["data"])
        assert await stream.read() == b"x"
        stream.reset(70_000)
        event = await call.receive()
        assert (event["type"], event["code"]) == ("webtransport.stream.reset", 70_000)
        await client.datagrams.send(b"d")
        assert (await call.receive())["data"] == b"d"
        await call.send("close", code=9, reason="done")
        info = await client.wait_closed()
        assert (info.code, info.reason) == (9, "done")
