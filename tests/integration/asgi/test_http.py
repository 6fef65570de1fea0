"""The ``http`` scope over HTTP/3: what an application gets, and what a client gets."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from pywebtransport.asgi import AsgiMessageError, ClientDisconnectedError
from tests.integration import raw_h3 as h3
from tests.support.asgi_http import (
    answer,
    asgi_served,
    body_of,
    by_path,
    echo,
    hello,
    start,
    until_over,
)
from tests.support.certificates import Certificates
from tests.support.endpoints import serving
from tests.support.http3 import http3
from tests.support.leaks import ExpectedLogs
from tests.support.steps import until

NO_ERROR = 0x100
INTERNAL_ERROR = 0x102
REQUEST_CANCELLED = 0x10C
MESSAGE_ERROR = 0x10E

pytestmark = pytest.mark.loops("asyncio")


def text_of(path: str) -> str:
    """The text of a file."""
    return Path(path).read_text()


SMALL_WINDOW: dict[str, Any] = {
    "flow_control_window_size": 65536,
    "flow_control_window_auto_scale": False,
}


# --------------------------------------------------------------------------- the scope


@pytest.mark.loops("asyncio", "uvloop")
async def test_scope_and_answer(certs: Certificates) -> None:
    scopes: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        assert await receive() == {"type": "http.request", "body": b"", "more_body": False}
        await answer(send, b"hello", 200, (b"Content-Type", b"text/plain"))

    async with asgi_served(certs, app) as asgi:
        response = await asgi.client.get(
            "/caf%C3%A9/%ff?q=%20a",
            [("x-one", "1"), ("cookie", "a=1"), ("x-two", "2"), ("x-one", "3"), ("cookie", "b=2")],
        )
        assert response.status == 200
        assert response.body == b"hello"
        assert response.get("content-type") == "text/plain"
        assert str(response.get("date")).endswith(" GMT")
        port = asgi.client.connection.local_address[1]  # type: ignore[index]
        (scope,) = scopes
        assert scope["client"] == ("127.0.0.1", port)
        assert scope["server"] == asgi.client.connection.remote_address
    assert (scope["type"], scope["http_version"], scope["method"]) == ("http", "3", "GET")
    assert scope["asgi"] == {"version": "3.0", "spec_version": "2.4"}
    assert scope["path"] == "/café/\ufffd"
    assert scope["raw_path"] == b"/caf%C3%A9/%ff"
    assert scope["query_string"] == b"q=%20a"
    assert (scope["root_path"], scope["scheme"]) == ("", "https")
    assert scope["headers"] == [
        (b"host", b"localhost"),
        (b"x-one", b"1"),
        (b"cookie", b"a=1; b=2"),
        (b"x-two", b"2"),
        (b"x-one", b"3"),
    ]


async def test_host_comes_first_and_once(certs: Certificates) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["headers"])
        await answer(send)

    async with asgi_served(certs, app) as asgi:
        for fields, authority in (
            ([("accept", "*/*"), ("host", "a.test")], "a.test"),
            ([("accept", "*/*"), ("host", "a.test")], None),
            ([("accept", "*/*")], "a.test"),
        ):
            await asgi.client.request("GET", "/", fields, authority=authority)
    assert seen == [[(b"host", b"a.test"), (b"accept", b"*/*")]] * 3


async def test_changes_to_a_scope_stay_in_it(certs: Certificates) -> None:
    """The header of equal requests is parsed once; each scope has its own copy."""
    counts = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        counts.append(len(scope["headers"]))
        scope["headers"].append((b"x-added", b"1"))
        scope["state"]["added"] = True
        scope["extensions"]["tls"]["added"] = True
        await answer(send)

    async with asgi_served(certs, app) as asgi:
        for _ in range(3):
            await asgi.client.get("/")
    assert counts == [1, 1, 1]


async def test_root_path_begins_the_paths(certs: Certificates) -> None:
    scopes: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await answer(send)

    async with asgi_served(certs, app, mount={"root_path": "/shop"}) as asgi:
        await asgi.client.get("/a%20b?c")
        await asgi.client.request("OPTIONS", "*")
    assert [scope["path"] for scope in scopes] == ["/shop/a b", "*"]
    assert [scope["raw_path"] for scope in scopes] == [b"/shop/a%20b", b"*"]
    assert {scope["root_path"] for scope in scopes} == {"/shop"}


async def test_tls_extension(certs: Certificates) -> None:
    found: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        found.append(scope["extensions"])
        await answer(send)

    fields: dict[str, Any] = {"ca_certs": certs.authority.certfile, "verify_mode": "CERT_OPTIONAL"}
    for client in ({}, certs.client.files):
        async with asgi_served(certs, app, client=client, **fields) as asgi:
            await asgi.client.get("/")
    anonymous, known = (extensions["tls"] for extensions in found)
    assert anonymous["server_cert"].strip() in text_of(certs.server.certfile)
    assert (anonymous["tls_version"], anonymous["cipher_suite"]) == (0x0304, None)
    assert (list(anonymous["client_cert_chain"]), anonymous["client_cert_name"]) == ([], None)
    (pem,) = known["client_cert_chain"]
    assert pem.strip() in text_of(certs.client.certfile)
    assert known["client_cert_name"].startswith("CN=")
    assert {"http.response.trailers", "http.response.early_hint"} < found[0].keys()
    assert "http.response.push" not in found[0]


async def test_certificate_of_the_server_name(certs: Certificates) -> None:
    found = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        found.append(scope["extensions"]["tls"]["server_cert"])
        await answer(send)

    pair = (certs.replacement.certfile, certs.replacement.keyfile)
    async with asgi_served(certs, app, sni_certificates={"localhost": pair}) as asgi:
        await asgi.client.get("/")
        asgi.served.host = "localhost"
        async with http3(certs, asgi.served) as named:
            await named.get("/")
    for text, files in zip(found, (certs.server, certs.replacement), strict=True):
        assert text.strip() in text_of(files.certfile)


# ------------------------------------------------------------------------- the request


@pytest.mark.loops("asyncio", "uvloop")
async def test_body_comes_in_pieces(certs: Certificates) -> None:
    data = bytes(range(256)) * 2000

    async def app(scope: Any, receive: Any, send: Any) -> None:
        event = await receive()
        got = event["body"]
        while event["more_body"]:
            event = await receive()
            assert len(event["body"]) <= 65536
            got += event["body"]
        await answer(send, got)

    async with asgi_served(certs, app) as asgi:
        response = await asgi.client.post("/", data, [("content-length", str(len(data)))])
        assert response.body == data
        assert (await asgi.client.post("/", data)).body == data


async def test_end_of_the_request_can_come_late(certs: Certificates) -> None:
    async with asgi_served(certs, echo) as asgi:
        exchange = asgi.client.open("POST", "/", fin=False)
        exchange.send(b"one ")
        await asgi.client.get("/")  # the server has the first bytes
        exchange.send(b"two")
        exchange.send(b"", True)
        assert (await exchange.finish()).body == b"one two"


async def test_credit_returns_when_the_application_reads(certs: Certificates) -> None:
    """A client cannot send more than a window ahead of the application."""
    go = asyncio.Event()
    size = 2_000_000

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["method"] == "POST":
            await go.wait()
            await answer(send, str(len(await body_of(receive))).encode())
        else:
            await answer(send)

    async with asgi_served(certs, app, **SMALL_WINDOW) as asgi:
        exchange = asgi.client.open("POST", "/", fin=False)
        exchange.send(bytes(size), True)
        left = -1
        while left != exchange.stream.queued:  # until nothing moves any more
            left = exchange.stream.queued
            for _ in range(3):
                await asgi.client.get("/")
        assert left >= size - 65536
        go.set()
        assert (await exchange.finish()).body == str(size).encode()


@pytest.mark.parametrize("announced", [4, 6])
async def test_wrong_content_length_never_looks_complete(
    certs: Certificates, announced: int
) -> None:
    events: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while not events or events[-1]["type"] != "http.disconnect":
            events.append(await receive())
        with pytest.raises(OSError, match="client"):
            await answer(send)

    async with asgi_served(certs, app) as asgi:
        exchange = asgi.client.open("POST", "/", [("content-length", str(announced))], fin=False)
        exchange.send(b"12345", True)
        assert await exchange.reset_code() == MESSAGE_ERROR
        await until(lambda: not asgi.server.http_requests.tasks)
    assert all(event.get("more_body", True) for event in events)


async def test_trailers_of_a_request_are_dropped(certs: Certificates) -> None:
    async with asgi_served(certs, echo) as asgi:
        exchange = asgi.client.open("POST", "/", fin=False)
        exchange.send(b"body")
        exchange.stream.write(h3.encode_headers([("x-sum", "1")]), True)
        assert (await exchange.finish()).body == b"body"


async def test_continue_is_sent_when_the_application_wants_the_body(certs: Certificates) -> None:
    app = by_path(echo=echo, deaf=hello)
    expect = [("expect", "100-continue")]
    async with asgi_served(certs, app) as asgi:
        exchange = asgi.client.open("POST", "/echo", expect, fin=False)
        await until(lambda: exchange.stream.buffered)
        exchange.send(b"body", True)
        response = await exchange.finish()
        assert response.informs == [(100, [])]
        assert response.body == b"body"
        # Not if the application does not ask, nor if the body is there.
        exchange = asgi.client.open("POST", "/deaf", expect, fin=False)
        response = await exchange.finish()
        assert (response.status, response.informs) == (200, [])
        response = await asgi.client.post("/echo", b"body", expect)
        assert (response.status, response.informs) == (200, [])


# ------------------------------------------------------------------------ the response


async def test_header_waits_for_the_body(certs: Certificates) -> None:
    go = asyncio.Event()
    held = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await send(start())
        held.set()
        await go.wait()
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await send({"type": "http.response.body", "body": b"two"})

    async with asgi_served(certs, by_path(slow=slow, hello=hello)) as asgi:
        exchange = asgi.client.open("GET", "/slow")
        await held.wait()
        await asgi.client.get("/hello")
        assert not exchange.stream.buffered
        go.set()
        assert (await exchange.finish()).body == b"onetwo"


async def test_header_and_body_share_a_packet(certs: Certificates) -> None:
    async with asgi_served(certs, hello) as asgi:
        for _ in range(10):  # acknowledgements of the handshake are over
            await asgi.client.get("/")
        before = asgi.client.connection.get_stats()["packets_received"]
        await asgi.client.get("/")
        after = asgi.client.connection.get_stats()["packets_received"]
        assert before is not None
        assert after is not None
        assert after - before <= 2  # one may only acknowledge


async def test_response_lines(certs: Certificates) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(
            send,
            b"",
            200,
            (b"Set-Cookie", b"a=1"),
            (b"connection", b"keep-alive"),
            (b"Keep-Alive", b"timeout=5"),
            (b"transfer-encoding", b"chunked"),
            (b"Date", b"yesterday"),
            (b"set-cookie", b"b=2"),
        )

    async with asgi_served(certs, app) as asgi:
        assert (await asgi.client.get("/")).lines == [
            ("set-cookie", "a=1"),
            ("date", "yesterday"),
            ("set-cookie", "b=2"),
        ]


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"headers": [(b"x-a", b"1\r\nx-b: 2")]}, "x-a"),
        ({"headers": [(b"x-a", b"1\x002")]}, "x-a"),
        ({"headers": [(b":status", b"204")]}, ":status"),
        ({"headers": [(b"x a", b"1")]}, "x a"),
        ({"headers": [("x-a", "1")]}, "expected bytes"),
        ({"headers": [b"x-a"]}, "expected pairs"),
        ({"status": 100}, "status"),
        ({"status": "200"}, "status"),
        ({"status": 700}, "status"),
    ],
    ids=str,
)
async def test_bad_start_is_an_error_of_the_application(
    certs: Certificates, expected_logs: ExpectedLogs, message: dict[str, Any], text: str
) -> None:
    expected_logs(r"http request for /: the application raised AsgiMessageError")
    errors = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await send({**start(), **message})
            await send({"type": "http.response.body"})
        except RuntimeError as error:
            errors.append(error)
            raise

    async with asgi_served(certs, app) as asgi:
        assert (await asgi.client.get("/")).status == 500
    assert isinstance(errors[0], AsgiMessageError)
    assert text in str(errors[0])


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([{"type": "http.response.body"}], "start comes first"),
        ([start(), start()], "has begun already"),
        ([{}], "has no 'type'"),
        ([[]], "has no 'type'"),
        ([{"type": "http.response.start"}], "has no 'status'"),
        ([{"type": "websocket.accept"}], "no message of the type"),
        ([start(), {"type": "http.response.body", "body": "text"}], "expected bytes"),
        ([start(), {"type": "http.response.trailers"}], "follow a complete body"),
        ([{"type": "http.response.pathsend", "path": "/etc/hostname"}], "it follows"),
        ([start(), {"type": "http.response.pathsend", "path": "hostname"}], "absolute"),
        ([start(), {"type": "http.response.early_hint", "links": []}], "has begun already"),
        ([{"type": "http.response.early_hint", "links": [b"a\nb"]}], "link"),
    ],
    ids=str,
)
async def test_messages_out_of_turn(
    certs: Certificates, expected_logs: ExpectedLogs, messages: list[Any], text: str
) -> None:
    expected_logs(r"AsgiMessageError: .*" + text)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    async with asgi_served(certs, app) as asgi:
        assert (await asgi.client.get("/")).status == 500


async def test_more_after_the_end_is_refused(
    certs: Certificates, expected_logs: ExpectedLogs
) -> None:
    expected_logs(r"AsgiMessageError: .*the response is complete")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, b"all")
        await send({"type": "http.response.body", "body": b"more"})

    async with asgi_served(certs, app) as asgi:
        assert (await asgi.client.get("/")).body == b"all"
        await until(lambda: not asgi.server.http_requests.tasks)


@pytest.mark.loops("asyncio", "uvloop")
@pytest.mark.parametrize("size", [0, 1, 16384, 16385, 100_000, 3_000_000])
async def test_body_of_any_size(certs: Certificates, size: int) -> None:
    data = bytes(range(251)) * (size // 251 + 1)

    async def whole(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, data[:size])

    async def pieces(scope: Any, receive: Any, send: Any) -> None:
        await send(start())
        for at in range(0, size, 50_000):
            piece = data[at : min(size, at + 50_000)]
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def views(scope: Any, receive: Any, send: Any) -> None:
        await send(start())
        body: Any = memoryview(data)[:size]
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": bytearray()})

    async with asgi_served(certs, by_path(whole=whole, pieces=pieces, views=views)) as asgi:
        for path in ("/whole", "/pieces", "/views"):
            response = await asgi.client.get(path)
            assert response.body == data[:size]


async def test_slow_reader_stops_the_application(certs: Certificates) -> None:
    """``send`` waits while more than the high-water mark is queued."""
    count = 0

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        nonlocal count
        await send(start())
        for _ in range(400):
            await send({"type": "http.response.body", "body": bytes(10_000), "more_body": True})
            count += 1
        await send({"type": "http.response.body"})

    limits: dict[str, Any] = {"max_write_buffer_size": 100_000}
    app = by_path(stream=stream, hello=hello)
    async with asgi_served(certs, app, client=SMALL_WINDOW, **limits) as asgi:
        exchange = asgi.client.open("GET", "/stream")
        last = -1
        while last != count:
            last = count
            for _ in range(3):
                await asgi.client.get("/hello")
        assert count * 10_000 <= 65536 + 100_000 + 10_000
        assert len((await exchange.finish()).body) == 4_000_000


@pytest.mark.parametrize(
    ("method", "status", "length"), [("HEAD", 200, "5"), ("GET", 204, None), ("GET", 304, "5")]
)
async def test_responses_without_body(
    certs: Certificates, method: str, status: int, length: str | None
) -> None:
    async def whole(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, b"hello", status, (b"content-length", b"5"))

    async def pieces(scope: Any, receive: Any, send: Any) -> None:
        await send(start(status, (b"content-length", b"5")))
        await send({"type": "http.response.body", "body": b"wor", "more_body": True})
        await send({"type": "http.response.body", "body": b"ld", "more_body": True})
        await send({"type": "http.response.body"})

    async with asgi_served(certs, by_path(whole=whole, pieces=pieces)) as asgi:
        for path in ("/whole", "/pieces"):
            response = await asgi.client.request(method, path)
            assert (response.status, response.body) == (status, b"")
            assert response.get("content-length") == length


async def test_endless_body_of_a_head_request_lets_others_run(certs: Certificates) -> None:
    """Nothing of it is sent, so no full buffer makes the application wait."""

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        await send(start())
        while True:
            await send({"type": "http.response.body", "body": bytes(1000), "more_body": True})

    async with asgi_served(certs, by_path(endless=endless, hello=hello)) as asgi:
        exchange = asgi.client.open("HEAD", "/endless")
        assert (await exchange.head()).status == 200
        assert (await asgi.client.get("/hello")).body == b"hello"
        exchange.cancel()
        await until(lambda: not asgi.server.http_requests.tasks)
        assert (await asgi.server.get_server_stats())["response_bytes"] == 5


@pytest.mark.parametrize(
    ("announced", "pieces"), [(4, [b"hello"]), (6, [b"hello"]), (4, [b"he", b"llo"])], ids=str
)
async def test_wrong_content_length_of_a_response(
    certs: Certificates, expected_logs: ExpectedLogs, announced: int, pieces: list[bytes]
) -> None:
    expected_logs(r"AsgiMessageError: .*content-length")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start(200, (b"content-length", str(announced).encode())))
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})

    async with asgi_served(certs, app) as asgi:
        assert await asgi.client.open("GET", "/").reset_code() == INTERNAL_ERROR
        await until(lambda: not asgi.server.http_requests.tasks)


async def test_early_answer_stops_the_request(certs: Certificates) -> None:
    async with asgi_served(certs, hello) as asgi:
        exchange = asgi.client.open("POST", "/", fin=False)
        exchange.send(b"part")
        assert (await exchange.finish()).body == b"hello"
        await until(lambda: exchange.stream.is_stopped)
        assert exchange.stream.stop_code == NO_ERROR


# ---------------------------------------------------------------------------- failures


async def test_failures_of_the_application(
    certs: Certificates, expected_logs: ExpectedLogs
) -> None:
    expected_logs(r"http request for /\w+: the application raised ValueError: oops")

    async def before(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("oops")

    async def held(scope: Any, receive: Any, send: Any) -> None:
        await send(start(200, (b"content-length", b"5")))
        raise ValueError("oops")

    async def after(scope: Any, receive: Any, send: Any) -> None:
        await send(start())
        await send({"type": "http.response.body", "body": b"part", "more_body": True})
        raise ValueError("oops")

    async def late(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, b"all")
        raise ValueError("oops")

    async with asgi_served(
        certs, by_path(before=before, held=held, after=after, late=late)
    ) as asgi:
        for path in ("/before", "/held"):
            response = await asgi.client.get(path)
            assert (response.status, response.body) == (500, b"")
            assert response.get("content-length") == "0"
        assert await asgi.client.open("GET", "/after").reset_code() == INTERNAL_ERROR
        assert (await asgi.client.get("/late")).body == b"all"
        await until(lambda: not asgi.server.http_requests.tasks)
        assert (await asgi.server.get_server_stats())["handler_errors"] == 4


async def test_incomplete_answers(certs: Certificates, expected_logs: ExpectedLogs) -> None:
    expected_logs(r"http request for /\w+: the application returned without a complete answer")

    async def nothing(scope: Any, receive: Any, send: Any) -> None:
        pass

    async def held(scope: Any, receive: Any, send: Any) -> None:
        await send(start())

    async def half(scope: Any, receive: Any, send: Any) -> None:
        await send(start())
        await send({"type": "http.response.body", "body": b"part", "more_body": True})

    async with asgi_served(certs, by_path(nothing=nothing, held=held, half=half)) as asgi:
        for path in ("/nothing", "/held"):
            assert (await asgi.client.get(path)).status == 500
        assert await asgi.client.open("GET", "/half").reset_code() == INTERNAL_ERROR


@pytest.mark.loops("asyncio", "uvloop")
@pytest.mark.parametrize("how", ["reset", "stop", "connection"])
async def test_client_that_leaves(certs: Certificates, how: str) -> None:
    """``http.disconnect`` again and again; ``send`` raises an OSError, which nobody logs."""
    began, seen = asyncio.Event(), asyncio.Event()
    events: list[str] = []
    errors: list[BaseException] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["body"] == b"part"
        began.set()
        await until_over(receive)
        for _ in range(3):
            events.append((await receive())["type"])
        try:
            await send(start())
        except OSError as error:
            errors.append(error)
            seen.set()
            raise

    async with asgi_served(certs, app) as asgi:
        exchange = asgi.client.open("POST", "/", fin=False)
        exchange.send(b"part")
        await began.wait()
        if how == "reset":
            exchange.stream.reset(REQUEST_CANCELLED)
        elif how == "stop":
            exchange.stream.stop_sending(REQUEST_CANCELLED)
        else:
            await asgi.client.connection.close()
        await seen.wait()
        await until(lambda: not asgi.server.http_requests.tasks)
        stats = await asgi.server.get_server_stats()
        assert (stats["requests_cancelled"], stats["handler_errors"]) == (1, 0)
    assert events == ["http.disconnect"] * 3
    assert isinstance(errors[0], ClientDisconnectedError)


async def test_send_that_waits_ends_with_its_client(certs: Certificates) -> None:
    full, ended = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start())
        try:
            while True:
                full.set()
                body = bytes(1_000_000)
                await send({"type": "http.response.body", "body": body, "more_body": True})
        finally:
            ended.set()

    async with asgi_served(certs, app, max_write_buffer_size=100_000) as asgi:
        exchange = asgi.client.open("GET", "/")
        await full.wait()
        await exchange.read()
        exchange.cancel()
        await ended.wait()
        await until(lambda: not asgi.server.http_requests.tasks)


async def test_disconnect_follows_a_complete_response(certs: Certificates) -> None:
    seen = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        waiting = asyncio.create_task(receive())
        await asyncio.sleep(0)
        await answer(send)
        assert await waiting == {"type": "http.disconnect"}
        assert await receive() == {"type": "http.disconnect"}
        seen.set()

    async with asgi_served(certs, app) as asgi:
        await asgi.client.get("/")
        await seen.wait()


async def test_two_tasks_may_wait_for_events(certs: Certificates) -> None:
    """Frameworks watch for ``http.disconnect`` while the application reads."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        tasks = [asyncio.create_task(receive()) for _ in range(3)]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        done = [task for task in tasks if task.done()]
        assert [task.result()["body"] for task in done] == [b"body"]
        next(task for task in tasks if not task.done()).cancel()
        await answer(send)
        for task in tasks:
            if not task.cancelling() and task not in done:
                assert await task == {"type": "http.disconnect"}

    async with asgi_served(certs, app) as asgi:
        exchange = asgi.client.open("POST", "/", fin=False)
        exchange.send(b"body")
        assert (await exchange.finish()).status == 200
        await until(lambda: not asgi.server.http_requests.tasks)


# -------------------------------------------------------------------------- extensions


async def test_trailers_of_a_response(certs: Certificates) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start(trailers=True))
        await send({"type": "http.response.body", "body": b"body"})
        first = {"headers": [(b"X-Sum", b"1")], "more_trailers": True}
        await send({"type": "http.response.trailers", **first})
        await send({"type": "http.response.trailers", "headers": [(b"x-end", b"2")]})

    async with asgi_served(certs, app) as asgi:
        response = await asgi.client.get("/", [("te", "trailers")])
        assert (response.body, response.trailers) == (b"body", [("x-sum", "1"), ("x-end", "2")])
        response = await asgi.client.get("/")
        assert (response.body, response.trailers) == (b"body", None)


async def test_early_hints(certs: Certificates) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.early_hint", "links": [b"</a.css>", b"</b.js>"]})
        await answer(send, b"body")

    async with asgi_served(certs, app) as asgi:
        response = await asgi.client.get("/")
        assert response.informs == [(103, [("link", "</a.css>"), ("link", "</b.js>")])]
        assert response.body == b"body"


async def test_file_as_response(
    certs: Certificates, tmp_path: Any, expected_logs: ExpectedLogs
) -> None:
    expected_logs(r"the application raised FileNotFoundError")
    data = bytes(range(256)) * 3000
    (tmp_path / "file").write_bytes(data)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start(200, (b"content-length", str(len(data)).encode())))
        path = f"{tmp_path}{scope['path']}"
        await send({"type": "http.response.pathsend", "path": path})

    async with asgi_served(certs, app) as asgi:
        assert (await asgi.client.get("/file")).body == data
        response = await asgi.client.request("HEAD", "/file")
        assert (response.get("content-length"), response.body) == (str(len(data)), b"")
        assert (await asgi.client.get("/missing")).status == 500


async def test_only_regular_files_are_sent(
    certs: Certificates, tmp_path: Path, expected_logs: ExpectedLogs
) -> None:
    """A pipe that nobody writes to would keep a thread, and with it the end of the program."""
    expected_logs("expected a regular file")
    os.mkfifo(tmp_path / "pipe")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start())
        await send({"type": "http.response.pathsend", "path": f"{tmp_path}{scope['path']}"})

    async with asgi_served(certs, app) as asgi:
        for path in ("/pipe", "/"):
            assert (await asgi.client.get(path)).status == 500


# ----------------------------------------------------------------- what is no request


async def test_connect_is_not_for_applications(certs: Certificates) -> None:
    called = False

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal called
        called = True
        await answer(send)

    async with asgi_served(certs, app) as asgi:
        lines = [(":method", "CONNECT"), (":authority", "a.test:443")]
        exchange = asgi.client.open_raw(h3.encode_headers(lines))
        assert (await exchange.finish()).status == 501
        lines = h3.request_lines("/", protocol="unknown")
        exchange = asgi.client.open_raw(h3.encode_headers(lines))
        assert (await exchange.finish()).status == 501
    assert not called


async def test_without_a_mounted_application_all_stays(certs: Certificates) -> None:
    async with serving(certs) as served, http3(certs, served) as client:
        assert (await client.get("/")).status == 404
        response = await client.post("/", b"body")
        assert (response.status, response.get("allow")) == (405, "GET, HEAD")
