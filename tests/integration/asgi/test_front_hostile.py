"""What hostile clients can make the TCP side do: memory, turns, and the log have limits."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
import zlib
from typing import Any

import pytest

from pywebtransport.asgi import ClientDisconnectedError
from tests.support.asgi import Stage
from tests.support.asgi_http import answer, body_of
from tests.support.asgi_tcp import RawTcp, TcpServed, tcp_served
from tests.support.certificates import Certificates
from tests.support.leaks import ExpectedLogs
from tests.support.steps import until

from .clients import WebSocket

Log = pytest.LogCaptureFixture

_UPGRADE = (
    b"GET / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n"
)


def frame(opcode: int, data: bytes) -> bytes:
    """A frame of a client; its mask changes nothing."""
    size = len(data)
    if size < 126:
        return bytes([opcode, 0x80 | size]) + bytes(4) + data
    return bytes([opcode, 0xFE]) + struct.pack(">H", size) + bytes(4) + data


def protocols(tcp: TcpServed) -> list[Any]:
    """The connections at the server."""
    front: Any = tcp.server.tcp.front
    return list(front._server.server_state.connections)


async def upgraded(raw: RawTcp, lines: bytes = b"") -> bytes:
    """Become a WebSocket; the head of the answer."""
    await raw.send(_UPGRADE + lines + b"\r\n")
    return await raw.head()


async def test_requests_of_one_packet_are_parsed_when_there_is_room(certs: Certificates) -> None:
    """Thousands of them wait as bytes, and all are answered in order."""
    go = asyncio.Event()
    seen: list[str] = []
    most = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal most
        await go.wait()
        seen.append(scope["query_string"].decode())
        most = max(most, *(len(each.pipeline) for each in protocols(tcp)))
        await answer(send, b"", 200, (b"content-length", b"0"))

    count = 3000
    async with tcp_served(certs, app) as tcp, await tcp.raw() as raw:
        requests = (b"GET /?%d HTTP/1.1\r\nhost: a\r\n\r\n" % number for number in range(count))
        await raw.send(b"".join(requests))
        go.set()
        for _ in range(count):
            await raw.head()
    assert seen == [str(number) for number in range(count)]
    assert most < 200


async def test_each_pipelined_request_hears_that_the_client_left(certs: Certificates) -> None:
    """The first one is still being served when the second one is parsed."""
    asked, told = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        asked.set()
        assert (await receive())["type"] == "http.disconnect"
        told.set()

    async with tcp_served(certs, app) as tcp:
        async with await tcp.raw() as raw:
            await raw.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n" * 3)
            await asked.wait()
        await told.wait()
        await until(lambda: tcp.server.http_requests.open_count == 0)


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@pytest.mark.parametrize("http2", [False, True], ids=["uvicorn", "hypercorn"])
async def test_an_endless_response_ends_with_its_client(
    certs: Certificates, http2: bool, method: bytes
) -> None:
    """Even if the application waits for nothing else than ``send``."""
    told = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        try:
            while True:
                await send({"type": "http.response.body", "body": bytes(10_000), "more_body": True})
        except OSError:
            told.set()
            raise

    async with tcp_served(certs, app, mount={"http2": http2}) as tcp:
        async with await tcp.raw() as raw:
            await raw.send(method + b" / HTTP/1.1\r\nhost: a\r\n\r\n")
            await raw.head()
        await told.wait()


@pytest.mark.parametrize("rest", [b"x: y\r\n", b"y"], ids=["many lines", "one line"])
async def test_trailers_have_a_limit(certs: Certificates, rest: bytes) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] == "http.request":
            pass

    async with (
        tcp_served(certs, app, max_field_section_size=4096) as tcp,
        await tcp.raw() as raw,
    ):
        head = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx: "
        await raw.send(head + rest * 10_000)
        await raw.rest()


@pytest.mark.parametrize("rest", [b"\r\n", b"1\r\nx\r\n"], ids=["line", "body"])
async def test_a_connection_without_a_request_is_closed(certs: Certificates, rest: bytes) -> None:
    """Whatever the client sends meanwhile that is no request, or that nobody wants any more."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, b"", 200, (b"content-length", b"0"))

    chunked = b"transfer-encoding: chunked\r\n" if b"x" in rest else b""
    async with tcp_served(certs, app, handshake_timeout=0.5) as tcp, await tcp.raw() as raw:
        await raw.send(b"POST / HTTP/1.1\r\nhost: a\r\n" + chunked + b"\r\n")
        await raw.head()
        await raw.send(rest)
        await raw.rest()


@pytest.mark.parametrize("http2", [False, True], ids=["uvicorn", "hypercorn"])
@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n",
        b"GET * HTTP/1.1\r\nhost: a\r\n",
        b"GET other HTTP/1.1\r\nhost: a\r\n",
        b"GET https://a/ HTTP/1.1\r\n",
        b"GET https://a/ HTTP/1.1\r\nhost: a\r\nhost: a\r\n",
        b"GET https:///x HTTP/1.1\r\nhost: a\r\n",
        b"GET https://me@a/x HTTP/1.1\r\nhost: a\r\n",
        b"GET ftp://a/x HTTP/1.1\r\nhost: a\r\n",
        _UPGRADE.replace(b"GET /", b"GET https://me@a/x"),
    ],
    ids=[
        "no host",
        "two hosts",
        "asterisk",
        "no slash",
        "absolute without host",
        "absolute with two hosts",
        "absolute with an empty host",
        "absolute with a user",
        "absolute with another scheme",
        "absolute WebSocket with a user",
    ],
)
async def test_the_application_gets_a_host_and_a_path(
    certs: Certificates, http2: bool, head: bytes
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError(scope)

    async with tcp_served(certs, app, mount={"http2": http2}) as tcp, await tcp.raw() as raw:
        await raw.send(head + b"connection: close\r\n\r\n")
        assert (await raw.rest()).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("http2", [False, True], ids=["uvicorn", "hypercorn"])
@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"GET https://shop.test/a%20b?q=1 HTTP/1.1\r\nhost: a\r\n", (b"/shop/a%20b", b"q=1")),
        (b"GET http://shop.test HTTP/1.1\r\nhost: a\r\n", (b"/shop/", b"")),
        (b"GET HTTPS://shop.test?q=1 HTTP/1.1\r\nhost: a\r\n", (b"/shop/", b"q=1")),
        (b"GET https://shop.test/ HTTP/1.0\r\n", (b"/shop/", b"")),
        (_UPGRADE.replace(b"GET /", b"GET https://shop.test/chat?q=1"), (b"/shop/chat", b"q=1")),
    ],
    ids=["path and query", "empty path", "query alone", "HTTP/1.0", "WebSocket"],
)
async def test_targets_in_absolute_form(
    certs: Certificates, http2: bool, head: bytes, expected: tuple[bytes, bytes]
) -> None:
    """Their host is the one that counts (RFC 9112 section 3.2.2)."""
    scopes: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close"})
        else:
            await answer(send)

    mount = {"http2": http2, "root_path": "/shop"}
    async with tcp_served(certs, app, mount=mount) as tcp, await tcp.raw() as raw:
        await raw.send(head + b"\r\n")
        await raw.head()
    (scope,) = scopes
    assert (scope["raw_path"], scope["query_string"]) == expected
    assert scope["path"] == expected[0].decode().replace("%20", " ")
    assert [value for name, value in scope["headers"] if name == b"host"] == [b"shop.test"]


async def test_options_of_the_whole_server(certs: Certificates) -> None:
    """It is below no root path."""
    paths: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        paths.append(scope["path"])
        await answer(send)

    async with (
        tcp_served(certs, app, mount={"root_path": "/shop"}) as tcp,
        await tcp.raw() as raw,
    ):
        await raw.send(b"OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n")
        assert b" 200 " in await raw.head()
    assert paths == ["*"]


async def test_trailers_do_not_become_headers(certs: Certificates) -> None:
    names: list[bytes] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = await body_of(receive)
        names.extend(name for name, _ in scope["headers"])
        await answer(send, body)

    async with tcp_served(certs, app) as tcp, await tcp.raw() as raw:
        await raw.send(
            b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
            b"2\r\nab\r\n0\r\nauthorization: me\r\n\r\n"
        )
        assert b" 200 " in await raw.head()
    assert names == [b"host", b"transfer-encoding"]


@pytest.mark.parametrize(
    "line",
    [
        b"sec-websocket-protocol: \xff\r\n",
        b"sec-websocket-extensions: \xff\r\n",
        b"host: b\xff\r\n",
    ],
)
async def test_a_handshake_that_is_not_ascii(certs: Certificates, line: bytes, caplog: Log) -> None:
    """It is refused, without an error of the event loop in the log."""
    caplog.set_level(logging.INFO)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError(scope)

    async with tcp_served(certs, app) as tcp, await tcp.raw() as raw:
        await raw.send(_UPGRADE + line + b"\r\n")
        assert (await raw.rest()).startswith(b"HTTP/1.1 400 ")
    assert all(record.levelno < logging.WARNING for record in caplog.records)


async def test_frames_before_the_answer_are_refused(certs: Certificates) -> None:
    """They would be kept as long as the application thinks, and then lost."""
    asked, left = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        asked.set()
        assert (await receive())["type"] == "websocket.disconnect"
        left.set()

    async with tcp_served(certs, app) as tcp, await tcp.raw() as raw:
        await raw.send(_UPGRADE + b"\r\n")
        await asked.wait()
        await raw.send(frame(0x82, b"early"))
        assert (await raw.rest()).startswith(b"HTTP/1.1 400 ")
        await left.wait()


@pytest.mark.parametrize("value", [b"client_max_window_bits=a", b"server_max_window_bits=99"])
async def test_a_strange_offer_of_compression_is_ignored(certs: Certificates, value: bytes) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()

    async with tcp_served(certs, app) as tcp, await tcp.raw() as raw:
        head = await upgraded(raw, b"sec-websocket-extensions: permessage-deflate; %b\r\n" % value)
        assert b" 101 " in head
        assert b"extensions" not in head.lower()


@pytest.mark.parametrize("compressed", [True, False])
async def test_a_message_over_hypercorn_has_a_limit(certs: Certificates, compressed: bool) -> None:
    """Neither the message nor what it expands to is kept."""
    events: list[Any] = []
    done = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        for _ in range(2):
            events.append(await receive())
        done.set()

    packer = zlib.compressobj(wbits=-12)
    small = packer.compress(b"small" * 20) + packer.flush(zlib.Z_SYNC_FLUSH)
    bomb = packer.compress(bytes(30_000_000)) + packer.flush(zlib.Z_SYNC_FLUSH)
    async with tcp_served(certs, app, mount={"http2": True}) as tcp, await tcp.raw() as raw:
        head = await upgraded(raw, b"sec-websocket-extensions: permessage-deflate\r\n")
        assert b"permessage-deflate" in head
        await raw.send(frame(0xC2, small[:-4]))
        if compressed:
            await raw.send(frame(0xC2, bomb))
        else:
            await raw.send(frame(0x02, b""))
            with contextlib.suppress(ConnectionError):
                while not done.is_set():
                    await raw.send(frame(0x00, bytes(60_000)) * 10)
        await done.wait()
        await raw.rest()
    assert events[0]["bytes"] == b"small" * 20
    assert events[1]["type"] == "websocket.disconnect"


@pytest.mark.parametrize("version", ["1.1", "1.1 by hypercorn", "2", "3"])
@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x81\x82\0\0\0\0\xff\xff", 1007),  # not UTF-8
        (b"\x81\x01x", 1002),  # not masked
        (frame(0x82, bytes(2000)), 1009),
        (frame(0x02, bytes(900)) + frame(0x80, bytes(900)), 1009),
    ],
    ids=["text that is none", "no mask", "too large", "too large in pieces"],
)
async def test_what_breaks_the_rules_ends_with_a_close_frame(
    certs: Certificates, version: str, data: bytes, code: int
) -> None:
    """Client and application get the same code, whatever carries the WebSocket."""
    stage = Stage()
    mount = {"http2": version in ("1.1 by hypercorn", "2")}
    cafile = certs.authority.certfile
    async with (
        tcp_served(certs, stage, mount=mount, max_websocket_message=1000) as tcp,
        asyncio.TaskGroup() as group,
    ):
        socket = WebSocket.opened(version.split()[0], tcp.server.port, cafile, "/")
        opening = group.create_task(socket.__aenter__())
        call = await stage.next()
        await call.accept()
        client = await opening
        await client.send_raw(data)
        assert await client.message() is None
        assert client.closed is not None
        assert client.closed[0] == code
        event = await call.receive()
        assert (event["type"], event["code"]) == ("websocket.disconnect", code)
        with pytest.raises(ClientDisconnectedError):
            await call.send("send", text="late")
        call.end()
        await socket.__aexit__(None, None, None)


async def test_a_message_of_a_websocket_expands_to_a_limit(certs: Certificates) -> None:
    """A bomb is refused with 1009 before it is expanded."""
    events: list[Any] = []
    done = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        for _ in range(2):
            events.append(await receive())
        done.set()

    packer = zlib.compressobj(wbits=-12)
    small = packer.compress(b"small" * 20) + packer.flush(zlib.Z_SYNC_FLUSH)
    bomb = packer.compress(bytes(30_000_000)) + packer.flush(zlib.Z_SYNC_FLUSH)
    async with tcp_served(certs, app) as tcp, await tcp.raw() as raw:
        head = await upgraded(raw, b"sec-websocket-extensions: permessage-deflate\r\n")
        assert b"permessage-deflate" in head
        await raw.send(frame(0xC2, small[:-4]) + frame(0xC2, bomb))
        await done.wait()
        assert await raw.rest() == b"\x88\x02" + struct.pack(">H", 1009)
    assert events[0] == {"type": "websocket.receive", "bytes": b"small" * 20}
    assert (events[1]["type"], events[1]["code"]) == ("websocket.disconnect", 1009)


async def test_messages_wait_unparsed_for_the_application(certs: Certificates) -> None:
    """Of thousands of small messages in one packet, one at a time waits in a queue."""
    received = 0
    most = 0
    turns = 0
    done = asyncio.Event()

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal received, most
        await receive()
        (protocol,) = protocols(tcp)
        await send({"type": "websocket.accept"})
        counter = asyncio.create_task(count_turns())
        try:
            while (await receive())["type"] == "websocket.receive":
                received += 1
                most = max(most, protocol.queue.qsize())
        finally:
            counter.cancel()
        done.set()

    count = 5000
    async with tcp_served(certs, app) as tcp, await tcp.raw() as raw:
        await upgraded(raw)
        await raw.send(frame(0x82, b"") * count + frame(0x88, struct.pack(">H", 1000)))
        await done.wait()
    assert received == count
    assert most <= 1
    assert turns > 5


async def test_pings_are_answered_when_there_is_room(certs: Certificates) -> None:
    """While the client does not read, only the last one is kept."""
    accepted = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        accepted.set()
        await receive()

    async with tcp_served(certs, app) as tcp, await tcp.raw() as raw:
        await upgraded(raw)
        await accepted.wait()
        (protocol,) = protocols(tcp)
        written: list[bytes] = []
        protocol.transport, transport = _Recorder(protocol.transport, written), protocol.transport
        protocol.pause_writing()
        for number in range(100):
            protocol.data_received(frame(0x89, b"%d" % number))
        assert written == []
        protocol.resume_writing()
        protocol.transport = transport
        assert written == [b"\x8a\x0299"]


class _Recorder:
    """Notes what is written."""

    def __init__(self, transport: Any, written: list[bytes]) -> None:
        self._transport = transport
        self.write = written.append

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


async def test_a_stop_survives_transports_that_were_closed_twice(certs: Certificates) -> None:
    """The TLS transport of asyncio has lost its parts then."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send)

    async with tcp_served(certs, app, drain_timeout=0.2) as tcp, await tcp.raw() as raw:
        await raw.send(b"GET /hello HTTP/1.1\r\nhost: a\r\n\r\n")
        await raw.head()
        raw.pause()  # it does not answer the end of the TLS connection
        (protocol,) = protocols(tcp)
        protocol.transport.close()
        protocol.transport.close()
        await tcp.app.shutdown()


@pytest.mark.parametrize("http2", [False, True], ids=["uvicorn", "hypercorn"])
@pytest.mark.parametrize(
    "message",
    [
        {"status": 200, "headers": [(b"a b", b"c")]},
        {"status": 200, "headers": [(b"a", b"\x01")]},
        {"status": 200, "headers": [(b"a\r\nb", b"c")]},
        {"status": 200, "headers": [("a", "b")]},
        {"status": 600},
        {"status": "200"},
        {},
    ],
    ids=str,
)
async def test_a_response_that_cannot_be_sent_becomes_a_500(
    certs: Certificates, http2: bool, message: dict[str, Any], expected_logs: ExpectedLogs
) -> None:
    """The embedded servers notice it when they cannot answer any more."""
    expected_logs("the application raised AsgiMessageError")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", **message})

    async with tcp_served(certs, app, mount={"http2": http2}) as tcp, tcp.http() as client:
        assert (await client.get("/")).status_code == 500


@pytest.mark.parametrize("http2", [False, True], ids=["uvicorn", "hypercorn"])
async def test_a_subprotocol_that_was_not_offered_becomes_a_500(
    certs: Certificates, http2: bool, expected_logs: ExpectedLogs
) -> None:
    expected_logs("the application raised ConfigurationError: subprotocol = ")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept", "subprotocol": "a\r\nb"})

    async with tcp_served(certs, app, mount={"http2": http2}) as tcp, await tcp.raw() as raw:
        assert b" 500 " in await upgraded(raw)
