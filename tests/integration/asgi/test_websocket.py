"""The scope ``websocket`` over HTTP/3 (RFC 9220), over real QUIC."""

from __future__ import annotations

import asyncio
import os
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any

import pytest
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage
from wsproto.extensions import PerMessageDeflate

from pywebtransport.asgi import AsgiMessageError, ClientDisconnectedError
from pywebtransport.asgi._deflate import Deflate
from pywebtransport.constants import (
    DEFAULT_MAX_WEBSOCKET_MESSAGE as MAX_MESSAGE,
)
from pywebtransport.constants import (
    DEFAULT_WEBSOCKET_PING_INTERVAL as PING_INTERVAL,
)
from pywebtransport.exceptions import ConfigurationError, StreamStoppedError
from tests.support.asgi import Call, Stage
from tests.support.asgi_http import AsgiServed, asgi_served
from tests.support.certificates import Certificates
from tests.support.leaks import ExpectedLogs
from tests.support.steps import until
from tests.support.websocket import WebSocketClient

Playing = Callable[..., AbstractAsyncContextManager[tuple[WebSocketClient, Call, AsgiServed]]]


@pytest.fixture
def playing(certs: Certificates) -> Playing:
    """``async with playing() as (client, call, served)``: an accepted WebSocket.

    Its far end is played by the test. ``accept`` has the fields of that message; None: the test
    answers itself. Other arguments are those of the request.
    """

    @asynccontextmanager
    async def play(
        *args: Any,
        accept: dict[str, Any] | None = {},  # noqa: B006
        server: dict[str, Any] | None = None,
        **request: Any,
    ) -> AsyncIterator[tuple[WebSocketClient, Call, AsgiServed]]:
        stage = Stage()
        async with asgi_served(certs, stage, **(server or {})) as served:
            client = WebSocketClient(served.client, *args, **request)
            call = await stage.next()
            if accept is not None:
                await call.accept(**accept)
                response = await client.answer()
                assert response.status == 200
            try:
                yield client, call, served
            finally:
                if not client.exchange.stream.fin_written:
                    client.exchange.cancel()
                if not call.outcome.done():
                    call.end()
                await call.ended.wait()
                await until(lambda: not served.server.http_requests.tasks)

    return play


# ------------------------------------------------------------------- the request


async def test_the_scope_has_every_field(playing: Playing) -> None:
    async with playing(
        "/caf%C3%A9?a=1", [("x-one", "1"), ("origin", "https://a.example")], subprotocols=["a", "b"]
    ) as (client, call, served):
        scope = dict(call.scope)
        headers = scope.pop("headers")
        extensions = scope.pop("extensions")
        port = served.client.connection.local_address
        assert port is not None
        assert scope == {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "3",
            "scheme": "wss",
            "path": "/café",
            "raw_path": b"/caf%C3%A9",
            "query_string": b"a=1",
            "root_path": "",
            "client": ("127.0.0.1", port[1]),
            "server": (served.served.host, served.served.port),
            "subprotocols": ["a", "b"],
            "state": {},
        }
        assert headers[0] == (b"host", b"localhost")
        assert (b"x-one", b"1") in headers
        assert (b"sec-websocket-version", b"13") in headers
        assert extensions["websocket.http.response"] == {}
        assert "tls" in extensions
        client.send_text("x")


async def test_the_answer_has_what_the_application_says(playing: Playing) -> None:
    accept = {"subprotocol": "b", "headers": [(b"X-Answer", b"yes"), (b"x-answer", b"no")]}
    async with playing(subprotocols=["a", "b"], accept=accept) as (client, _, _):
        response = client.exchange.response
        assert response.get("sec-websocket-protocol") == "b"
        assert [value for name, value in response.lines if name == "x-answer"] == ["yes", "no"]
        assert response.get("sec-websocket-extensions") is None
        assert response.get("date") is not None


@pytest.mark.loops("asyncio")
@pytest.mark.parametrize("version", ["12", "13, 8", "", None])
async def test_another_version_is_answered_with_400(
    certs: Certificates, version: str | None
) -> None:
    async def never(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("the application was called")

    async with asgi_served(certs, never) as served:
        client = WebSocketClient(served.client, version=version)
        response = await client.exchange.finish()
        assert response.status == 400
        assert response.get("sec-websocket-version") == "13"
        await until(lambda: not served.server.http_requests.tasks)


async def test_close_before_accept_is_403(playing: Playing) -> None:
    async with playing(accept=None) as (client, call, _):
        assert await call.receive() == {"type": "websocket.connect"}
        await call.send("close", code=4000)
        response = await client.exchange.finish()
        assert (response.status, response.body) == (403, b"")
        with pytest.raises(OSError, match="nothing more can be sent"):
            await call.send("accept")
        assert await call.receive() == {
            "type": "websocket.disconnect",
            "code": 1006,
            "reason": "",
        }


async def test_a_refusal_with_a_body(playing: Playing) -> None:
    async with playing(accept=None) as (client, call, _):
        await call.send(
            "http.response.start", status=429, headers=[(b"retry-after", b"5"), (b"a", b"b")]
        )
        with pytest.raises(AsgiMessageError, match="not allowed now"):
            await call.send("accept")
        await call.send("http.response.body", body=b"try ", more_body=True)
        await call.send("http.response.body", body=b"later")
        response = await client.exchange.finish()
        assert (response.status, response.body) == (429, b"try later")
        assert response.get("retry-after") == "5"


@pytest.mark.parametrize(("fails", "text"), [(False, "without a complete answer"), (True, "a bug")])
async def test_an_application_that_ends_without_an_answer_gives_500(
    playing: Playing, expected_logs: ExpectedLogs, fails: bool, text: str
) -> None:
    expected_logs(text)
    async with playing(accept=None) as (client, call, _):
        await call.receive()
        call.end(ValueError("a bug") if fails else None)
        response = await client.exchange.finish()
        assert response.status == 500


async def test_a_client_that_leaves_before_the_answer(playing: Playing) -> None:
    async with playing(accept=None) as (client, call, _):
        await call.receive()
        client.exchange.cancel()
        event = await call.receive()
        assert (event["type"], event["code"]) == ("websocket.disconnect", 1006)
        with pytest.raises(ClientDisconnectedError):
            await call.send("accept")


@pytest.mark.loops("asyncio")
@pytest.mark.parametrize(
    ("message", "kind", "text"),
    [
        ({"subprotocol": "other"}, ConfigurationError, "did not offer"),
        ({"headers": [(b"Sec-WebSocket-Protocol", b"a")]}, AsgiMessageError, "set by the server"),
        ({"headers": [("a", "b")]}, AsgiMessageError, "expected bytes"),
        ({"headers": [(b"a", b"b\r\nc: d")]}, ConfigurationError, "a"),
    ],
    ids=str,
)
async def test_a_wrong_answer_leaves_the_request_open(
    playing: Playing, message: dict[str, Any], kind: type[Exception], text: str
) -> None:
    async with playing(subprotocols=["a"], accept=None) as (client, call, _):
        with pytest.raises(kind, match=text):
            await call.send("accept", **message)
        for status in (200, 99, "403", None):
            with pytest.raises(ConfigurationError, match="status"):
                await call.send("http.response.start", status=status)
        for early in ("send", "http.response.body"):
            with pytest.raises(AsgiMessageError, match="waits for the answer"):
                await call.send(early, text="x")
        await call.send("accept", subprotocol="a")
        assert (await client.answer()).status == 200


# ---------------------------------------------------------------------- messages


async def test_messages_go_both_ways(playing: Playing) -> None:
    async with playing() as (client, call, _):
        client.send_text("text ☃")
        assert await call.receive() == {"type": "websocket.receive", "text": "text ☃"}
        client.send_bytes(b"\x00\xff")
        assert await call.receive() == {"type": "websocket.receive", "bytes": b"\x00\xff"}
        client.send_text("")
        assert await call.receive() == {"type": "websocket.receive", "text": ""}
        client.send_bytes(b"")
        assert await call.receive() == {"type": "websocket.receive", "bytes": b""}
        await call.send("send", text="back ☃")
        assert await client.message() == "back ☃"
        await call.send("send", bytes=b"\xff\x00", text=None)
        assert await client.message() == b"\xff\x00"
        await call.send("send", bytes=bytearray(b"buffer"))
        assert await client.message() == b"buffer"
        await call.send("send", text="")
        assert await client.message() == ""


async def test_a_message_in_many_frames_with_pings_between(playing: Playing) -> None:
    async with playing() as (client, call, _):
        snow = "☃".encode()
        client.send(TextMessage(data="a", message_finished=False))
        client.send(Ping(b"1"))
        assert await client.next() == Pong(b"1")
        frame = bytearray(client.frame(TextMessage(data="bcd", message_finished=True)))
        for byte in frame:
            client.exchange.send(bytes([byte]))
        assert (await call.receive())["text"] == "abcd"
        # A character that two frames share.
        client.send(BytesMessage(data=b"", message_finished=True))
        assert (await call.receive())["bytes"] == b""
        for opcode, part in ((0x01, snow[:1]), (0x80, snow[1:])):
            client.exchange.send(bytes([opcode, 0x80 | len(part), 0, 0, 0, 0]) + part)
        assert (await call.receive())["text"] == "☃"


@pytest.mark.parametrize("size", [125, 126, 65535, 65536, 3_000_000])
async def test_messages_of_all_sizes(playing: Playing, size: int) -> None:
    data = os.urandom(1000) * (size // 1000 + 1)
    async with playing() as (client, call, _):
        sending = asyncio.create_task(client.send_slowly(client.frame(BytesMessage(data[:size]))))
        event = await call.receive()
        assert event["bytes"] == data[:size]
        await sending
        answering = asyncio.create_task(call.send("send", bytes=data[:size]))
        assert await client.message() == data[:size]
        await answering


async def test_a_message_in_thousands_of_frames_leaves_turns_to_others(playing: Playing) -> None:
    async with playing() as (client, call, _):
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        # Small messages, one after the other.
        client.exchange.send(client.frame(TextMessage(data="small")) * 4000)
        await until(lambda: not client.exchange.stream.queued)
        counting = asyncio.create_task(count())
        for _ in range(4000):
            assert (await call.receive())["text"] == "small"
        counting.cancel()
        assert turns > 5
        turns = 0
        frames = [b"\x01\x81\0\0\0\0x", *[b"\x00\x81\0\0\0\0x"] * 20_000, b"\x80\x80\0\0\0\0"]
        data = b"".join(frames)
        client.exchange.send(data)
        await until(lambda: not client.exchange.stream.queued)
        counting = asyncio.create_task(count())
        assert (await call.receive())["text"] == "x" * 20_001
        counting.cancel()
        assert turns > 20
        client.send_text("next")
        assert (await call.receive())["text"] == "next"


async def test_pings_are_answered_while_the_application_is_busy(playing: Playing) -> None:
    async with playing() as (client, _, _):
        for number in range(3):
            client.send(Ping(b"%d" % number))
            assert await client.next() == Pong(b"%d" % number)


@pytest.mark.loops("asyncio")
@pytest.mark.parametrize(
    ("message", "kind", "text"),
    [
        ({"type": "websocket.send"}, AsgiMessageError, "one of 'bytes' and 'text'"),
        (
            {"type": "websocket.send", "text": "a", "bytes": b"a"},
            AsgiMessageError,
            "one of 'bytes' and 'text'",
        ),
        ({"type": "websocket.send", "text": b"a"}, ConfigurationError, "text"),
        ({"type": "websocket.send", "text": "\ud800"}, ConfigurationError, "cannot encode"),
        ({"type": "websocket.send", "bytes": "a"}, ConfigurationError, "bytes"),
        ({"type": "websocket.send", "bytes": 7}, ConfigurationError, "bytes"),
        ({"type": "websocket.accept"}, AsgiMessageError, "not allowed now"),
        ({"type": "websocket.unknown"}, AsgiMessageError, "not allowed now"),
        ({"type": "http.response.start"}, AsgiMessageError, "not allowed now"),
        ({"type": "websocket.http.response.start"}, AsgiMessageError, "not allowed now"),
        ({"type": "websocket.close", "code": 1005}, ConfigurationError, "code"),
        ({"type": "websocket.close", "code": 1006}, ConfigurationError, "code"),
        ({"type": "websocket.close", "code": 999}, ConfigurationError, "code"),
        ({"type": "websocket.close", "code": 5000}, ConfigurationError, "code"),
        ({"type": "websocket.close", "code": "1000"}, ConfigurationError, "code"),
        ({"type": "websocket.close", "reason": b"x"}, ConfigurationError, "reason"),
        ({"type": "websocket.close", "reason": "é" * 62}, ConfigurationError, "123 bytes"),
        ({"type": "websocket.close", "reason": "\ud800"}, ConfigurationError, "reason"),
    ],
    ids=range(18),
)
async def test_wrong_messages_change_nothing(
    playing: Playing, message: dict[str, Any], kind: type[Exception], text: str
) -> None:
    async with playing() as (client, call, _):
        with pytest.raises(kind, match=text):
            await call.send_raw(message)
        await call.send("send", text="unharmed")
        assert await client.message() == "unharmed"


# ----------------------------------------------------------------------- the end


async def test_the_client_closes(playing: Playing) -> None:
    async with playing() as (client, call, _):
        client.send_text("last")
        client.send(CloseConnection(code=4001, reason="enough"))
        assert (await call.receive())["text"] == "last"
        assert await client.closed() == (4001, "enough")
        for _ in range(2):
            assert await call.receive() == {
                "type": "websocket.disconnect",
                "code": 4001,
                "reason": "enough",
            }
        with pytest.raises(OSError, match="closed with code 4001") as caught:
            await call.send("send", text="x")
        assert isinstance(caught.value, ClientDisconnectedError)
        call.end(caught.value)  # not logged


async def test_a_close_without_a_code_is_1005(playing: Playing) -> None:
    async with playing() as (client, call, _):
        client.exchange.send(b"\x88\x80\x00\x00\x00\x00")
        assert (await call.receive())["code"] == 1005
        assert (await client.closed())[0] == 1005


async def test_the_application_closes(playing: Playing) -> None:
    async with playing() as (client, call, _):
        await call.send("send", text="last")
        await call.send("close", code=3000, reason="bye ☃")
        with pytest.raises(AsgiMessageError, match="closed by this end"):
            await call.send("send", text="x")
        assert await client.message() == "last"
        event = await client.next()
        assert event == CloseConnection(code=3000, reason="bye ☃")
        # What comes before the answer of the client is of no interest.
        client.exchange.send(b"\x81\x81\x00\x00\x00\x00x")
        client.send(event.response())
        assert await client.next() is None
        assert await call.receive() == {
            "type": "websocket.disconnect",
            "code": 3000,
            "reason": "bye ☃",
        }


@pytest.mark.parametrize(("fails", "code"), [(False, 1000), (True, 1011)])
async def test_an_application_that_ends_closes(
    playing: Playing, expected_logs: ExpectedLogs, fails: bool, code: int
) -> None:
    if fails:
        expected_logs("the application raised ValueError: a bug")
    async with playing() as (client, call, _):
        call.end(ValueError("a bug") if fails else None)
        event = await client.next()
        assert isinstance(event, CloseConnection)
        assert event.code == code
        client.send(event.response())
        assert await client.next() is None


@pytest.mark.loops("virtual")
async def test_a_client_that_does_not_answer_a_close_is_not_waited_for(playing: Playing) -> None:
    async with playing(server={"close_timeout": 3.0}) as (client, call, _):
        call.end()
        assert isinstance(await client.next(), CloseConnection)
        before = asyncio.get_running_loop().time()
        assert await client.next() is None
        assert 2.9 < asyncio.get_running_loop().time() - before < 4


@pytest.mark.parametrize("how", ["reset", "stop", "fin", "connection"])
async def test_an_abrupt_end_is_1006(playing: Playing, how: str) -> None:
    async with playing() as (client, call, served):
        client.send_text("before")
        assert (await call.receive())["text"] == "before"
        if how == "reset":
            client.exchange.stream.reset(0x10C)
        elif how == "stop":
            client.exchange.stream.stop_sending(0x10C)
        elif how == "fin":
            client.exchange.stream.write(b"", True)
        else:
            await served.client.connection.close()
        event = await call.receive()
        assert (event["type"], event["code"]) == ("websocket.disconnect", 1006)
        with pytest.raises(ClientDisconnectedError):
            await call.send("send", text="x")


@pytest.mark.loops("asyncio")
@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\x81\x82\0\0\0\0\xff\xff", 1007),  # not UTF-8
        (b"\x81\x81\0\0\0\0\xe2", 1007),  # a piece of a character
        (b"\x81\x01x", 1002),  # not masked
        (b"\x83\x81\0\0\0\0x", 1002),  # an unknown kind of frame
        (b"\x80\x81\0\0\0\0x", 1002),  # the continuation of nothing
        (b"\xc1\x81\0\0\0\0x", 1002),  # a reserved bit
        (b"\x09\x81\0\0\0\0x", 1002),  # a ping in pieces
        (b"\x88\x81\0\0\0\0x", 1002),  # a Close frame of one byte
        (b"\x88\x82\0\0\0\0\x03\xed", 1002),  # with the code 1005
    ],
    ids=lambda value: value.hex() if isinstance(value, bytes) else str(value),
)
async def test_frames_that_break_the_rules(playing: Playing, frame: bytes, code: int) -> None:
    async with playing() as (client, call, _):
        client.exchange.send(frame)
        assert (await client.closed())[0] == code
        event = await call.receive()
        assert (event["type"], event["code"]) == ("websocket.disconnect", code)


@pytest.mark.loops("asyncio")
@pytest.mark.parametrize("is_text", [False, True])
async def test_a_message_that_is_too_long_is_1009(playing: Playing, is_text: bool) -> None:
    piece = ("é" * 500_000) if is_text else bytes(1_000_000)
    kind: Any = TextMessage if is_text else BytesMessage
    async with playing() as (client, call, _):
        longest = "x" * MAX_MESSAGE if is_text else bytes(MAX_MESSAGE)
        sending = asyncio.create_task(client.send_slowly(client.frame(kind(longest))))
        event = await call.receive()
        assert len(event["text" if is_text else "bytes"]) == MAX_MESSAGE
        await sending
        with suppress(StreamStoppedError):
            for _ in range(17):
                await client.send_slowly(client.frame(kind(data=piece, message_finished=False)))
        assert (await client.closed())[0] == 1009
        assert (await call.receive())["code"] == 1009


@pytest.mark.loops("asyncio")
async def test_the_server_stops(playing: Playing) -> None:
    async with playing() as (client, call, served):
        closing = asyncio.create_task(served.server.close(drain_timeout=0))
        assert await client.closed() == (1012, "")
        await call.ended.wait()
        await closing


async def test_a_drain_begins_with_a_close_frame(playing: Playing) -> None:
    """Whoever waits for the client hears of it, and the server does not wait for the rest."""
    async with playing() as (client, call, served):
        closing = asyncio.create_task(served.server.close(drain_timeout=1000))
        event = await call.receive()
        assert (event["type"], event["code"]) == ("websocket.disconnect", 1012)
        with pytest.raises(ClientDisconnectedError):
            await call.send("send", text="late")
        close = await client.next()
        assert isinstance(close, CloseConnection)
        assert close.code == 1012
        client.send(close.response())
        assert await client.next() is None
        assert not closing.done()  # the application has the time
        call.end()
        await closing


async def test_a_websocket_that_is_accepted_during_a_drain(playing: Playing) -> None:
    async with playing(accept=None) as (client, call, served):
        assert (await call.receive())["type"] == "websocket.connect"
        closing = asyncio.create_task(served.server.close(drain_timeout=1000))
        await until(lambda: not served.server.is_serving)
        await asyncio.sleep(0)
        await call.send("accept")
        assert (await client.answer()).status == 200
        close = await client.next()
        assert isinstance(close, CloseConnection)
        assert close.code == 1012
        client.send(close.response())
        assert (await call.receive())["code"] == 1012
        call.end()
        await closing


# ----------------------------------------------------------------------------- origins


@pytest.mark.parametrize("origin", ["https://A.test", None, "https://b.test", "null"])
async def test_allowed_origins(certs: Certificates, origin: str | None) -> None:
    """Browsers send cookies with WebSockets of any page."""
    stage = Stage()
    async with asgi_served(certs, stage, allowed_origins=["https://a.test"]) as served:
        fields = [] if origin is None else [("origin", origin)]
        client = WebSocketClient(served.client, "/", fields)
        if origin in ("https://b.test", "null"):
            assert (await client.answer()).status == 403
            assert served.server.refresh_stats().origins_rejected == 1
            return
        call = await stage.next()
        await call.accept()
        assert (await client.answer()).status == 200
        call.end()
        await client.closed()
        assert served.server.refresh_stats().origins_rejected == 0


# ------------------------------------------------------------------- permessage-deflate


async def test_messages_are_compressed(playing: Playing) -> None:
    extensions = [PerMessageDeflate()]
    async with playing(extensions=extensions) as (client, call, _):
        accepted = client.exchange.response.get("sec-websocket-extensions")
        assert accepted == (
            "permessage-deflate; server_max_window_bits=12; client_max_window_bits=12"
        )
        text = "hello " * 10_000
        for _ in range(3):
            before = client.exchange.stream.bytes_received
            await call.send("send", text=text)
            assert await client.message() == text
            assert client.exchange.stream.bytes_received - before < 1000
            frame = client.frame(TextMessage(data=text))
            assert len(frame) < 1000
            client.exchange.send(frame)
            assert (await call.receive())["text"] == text
        for short in ("", "short", "x" * 63, "y" * 64):
            client.send_text(short)
            assert (await call.receive())["text"] == short
            await call.send("send", text=short)
            assert await client.message() == short
        # In several frames, with a ping between.
        client.send(BytesMessage(data=b"one " * 100, message_finished=False))
        client.send(Ping(b"x"))
        client.send(BytesMessage(data=b"two " * 100, message_finished=True))
        assert (await call.receive())["bytes"] == b"one " * 100 + b"two " * 100
        assert await client.next() == Pong(b"x")


async def test_each_message_compressed_alone(playing: Playing) -> None:
    extensions = [
        PerMessageDeflate(client_no_context_takeover=True, server_no_context_takeover=True)
    ]
    async with playing(extensions=extensions) as (client, call, _):
        accepted = client.exchange.response.get("sec-websocket-extensions")
        assert accepted is not None
        assert "server_no_context_takeover" in accepted
        for number in range(3):
            text = f"hello {number} " * 100
            client.send_text(text)
            assert (await call.receive())["text"] == text
            await call.send("send", text=text)
            assert await client.message() == text


@pytest.mark.loops("asyncio")
async def test_a_message_that_expands_too_far_is_1009(playing: Playing) -> None:
    """Sixteen kilobytes that stand for sixteen megabytes and one."""
    async with playing(extensions=[PerMessageDeflate()]) as (client, call, _):
        packer = zlib.compressobj(wbits=-12)
        bomb = packer.compress(bytes(MAX_MESSAGE + 1)) + packer.flush(zlib.Z_SYNC_FLUSH)
        bomb = bomb.removesuffix(b"\x00\x00\xff\xff")
        assert len(bomb) < 65536
        head = bytes([0xC2, 0xFE]) + len(bomb).to_bytes(2, "big") + bytes(4)
        client.exchange.send(head + bomb)
        assert (await client.closed())[0] == 1009
        assert (await call.receive())["code"] == 1009


async def test_bytes_that_cannot_be_expanded_are_1007(playing: Playing) -> None:
    async with playing(extensions=[PerMessageDeflate()]) as (client, call, _):
        client.exchange.send(b"\xc2\x84\0\0\0\0\xff\xff\xff\xff")
        assert (await client.closed())[0] == 1007
        assert (await call.receive())["code"] == 1007


@pytest.mark.parametrize(
    ("offer", "answer"),
    [
        (b"permessage-deflate", b"permessage-deflate; server_max_window_bits=12"),
        (
            b"x-other, permessage-deflate; client_max_window_bits",
            b"permessage-deflate; server_max_window_bits=12; client_max_window_bits=12",
        ),
        (
            b'PerMessage-Deflate; server_max_window_bits="9" ; client_max_window_bits=10',
            b"permessage-deflate; server_max_window_bits=9; client_max_window_bits=10",
        ),
        (
            b"permessage-deflate; server_max_window_bits=8, permessage-deflate; "
            b"client_no_context_takeover",
            b"permessage-deflate; server_max_window_bits=12; client_no_context_takeover",
        ),
        (b"permessage-deflate; server_max_window_bits", None),
        (b"permessage-deflate; server_max_window_bits=16", None),
        (b"permessage-deflate; server_max_window_bits=09", None),
        (b"permessage-deflate; client_max_window_bits=x", None),
        (b"permessage-deflate; client_max_window_bits=\xb2", None),
        (b"permessage-deflate; server_no_context_takeover=1", None),
        (b"permessage-deflate; unknown", None),
        (
            b"permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            None,
        ),
        (b"", None),
        (b";;,,", None),
    ],
    ids=range(14),
)
def test_offers_of_compression(offer: bytes, answer: bytes | None) -> None:
    accepted = Deflate.negotiate([offer], 1000)
    assert (None if accepted is None else accepted[1]) == answer


# ----------------------------------------------------------------- keep-alive, pull


@pytest.mark.limit(600)
@pytest.mark.loops("virtual")
async def test_pings_keep_a_quiet_websocket_alive(playing: Playing) -> None:
    async with playing() as (client, call, _):
        waiting = asyncio.create_task(call.receive())
        loop = asyncio.get_running_loop()
        begun = loop.time()
        for _ in range(4):
            await asyncio.sleep(PING_INTERVAL - 1)
            event = await client.next()
            assert isinstance(event, Ping)
            client.send(event.response())
        assert 3.9 * PING_INTERVAL < loop.time() - begun < 4.1 * PING_INTERVAL
        client.send_text("still here")
        assert (await waiting)["text"] == "still here"


@pytest.mark.limit(600)
@pytest.mark.loops("virtual")
async def test_a_client_that_does_not_answer_a_ping_is_1011(playing: Playing) -> None:
    async with playing() as (client, call, _):
        begun = asyncio.get_running_loop().time()
        event = await call.receive()
        assert (event["type"], event["code"]) == ("websocket.disconnect", 1011)
        took = asyncio.get_running_loop().time() - begun
        assert 1.9 * PING_INTERVAL < took < 2.1 * PING_INTERVAL
        assert await client.closed() == (1011, "keepalive ping timeout")


@pytest.mark.limit(600)
@pytest.mark.loops("virtual")
async def test_a_slow_application_is_not_taken_for_a_dead_client(playing: Playing) -> None:
    async with playing() as (client, call, _):
        client.send_text("one")
        client.send_text("two")
        await asyncio.sleep(5 * PING_INTERVAL)
        assert (await call.receive())["text"] == "one"
        assert (await call.receive())["text"] == "two"
        await call.send("send", text="back")
        assert await client.message() == "back"


async def test_an_application_that_does_not_receive_bounds_the_client(playing: Playing) -> None:
    window = 1 << 20
    fields = {
        "flow_control_window_size": window,
        "max_read_buffer_size": window,
        "initial_max_data": window,
    }
    async with playing(server=fields) as (client, call, _):
        frame = client.frame(BytesMessage(bytes(100_000)))
        total = 0
        while client.exchange.stream.queued < 30 * window:
            client.exchange.send(frame)
            total += 1
        stream = client.exchange.stream
        await call.send("send", text="x")
        assert await client.message() == "x"
        taken = stream.bytes_written - stream.queued
        assert taken < 4 * window
        assert stream.queued > 20 * window
        for _ in range(total):
            assert len((await call.receive())["bytes"]) == 100_000
        assert stream.queued == 0


async def test_sending_waits_for_a_client_that_does_not_read(playing: Playing) -> None:
    async with playing() as (client, call, _):
        sent = 0

        async def flood() -> None:
            nonlocal sent
            while sent < 400:
                await call.send("send", bytes=bytes(100_000))
                sent += 1

        flooding = asyncio.create_task(flood())
        client.send(Ping(b"x"))
        client.send_text("hello")
        assert (await call.receive())["text"] == "hello"
        await asyncio.sleep(0)
        assert not flooding.done()
        assert sent < 300
        size = 0
        while size < 400 * 100_000:
            event = await client.next()
            if isinstance(event, BytesMessage):
                size += len(event.data)
            else:
                assert event == Pong(b"x")
        await flooding


async def test_a_client_that_leaves_ends_a_send_that_waits(playing: Playing) -> None:
    async with playing() as (client, call, _):

        async def flood() -> None:
            while True:
                await call.send("send", bytes=bytes(100_000))

        flooding = asyncio.create_task(flood())
        await client.next()
        client.exchange.cancel()
        with pytest.raises(ClientDisconnectedError):
            await flooding
