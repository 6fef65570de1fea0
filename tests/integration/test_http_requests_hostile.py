"""Hostile HTTP clients, by number: what each of them gets, and that others are served all the same.

The client writes its frames by hand, over real QUIC. After each case, a well-behaved request gets
its answer: on the same connection if that is still open, else on a new one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from pywebtransport.connection import WebTransportConnection
from pywebtransport.h3._exchange import H3Exchange
from tests.integration import raw_h3 as h3
from tests.integration.raw_peer import RawPeer, raw_client
from tests.support.endpoints import Served, Serving

Fields = list[tuple[str, str]]

PRIORITY_UPDATE = 0xF0700
GREASE = b"\x21"
BODY = b"x" * 10_000


class Application:
    """Answers requests by their path.

    Attributes:
        open: What was requested and is not over.
        seen: Paths in the order of the requests.
        read: Bytes of bodies that were read.
        complete: How many bodies came to their end.
        ends: Errors of the exchanges that ended, or None.
    """

    def __init__(self) -> None:
        self.open: list[Conversation] = []
        self.seen: list[str] = []
        self.read = self.complete = 0
        self.ends: list[Exception | None] = []
        self.news = asyncio.Event()

    def requested(self, connection: WebTransportConnection, exchange: H3Exchange) -> None:
        """A request has arrived."""
        self.seen.append(exchange.request.path)
        Conversation(self, exchange).begin()
        self.news.set()

    async def until(self, ready: Callable[[], object]) -> None:
        """Wait until ``ready()`` is true."""
        async with asyncio.timeout(10):
            while not ready():
                self.news.clear()
                await self.news.wait()


class Conversation:
    """One exchange, and what the application does with it."""

    def __init__(self, application: Application, exchange: H3Exchange) -> None:
        self.application = application
        self.exchange = exchange
        self.left = 0
        application.open.append(self)
        exchange.events = self

    def begin(self) -> None:
        exchange = self.exchange
        match exchange.request.path.partition("?")[0]:
            case "/wait":  # neither reads nor answers
                pass
            case "/begin":  # begins an answer that never ends
                exchange.respond(200, [], b"begun")
            case "/early":  # answers without reading
                exchange.respond(413, [], b"too much", fin=True)
            case "/large":
                exchange.respond(200, [])
                self.left = 64 << 20
                self.writable()
            case "/continue":
                if exchange.awaits_body:
                    exchange.inform(100)
                self.readable()
            case _:  # reads all of it, and answers
                self.readable()

    def readable(self) -> None:
        exchange = self.exchange
        while data := exchange.read():
            self.application.read += len(data)
        self.application.news.set()
        if exchange.is_complete and not exchange.is_over:
            self.application.complete += 1
            exchange.respond(200, [(b"content-length", b"2")], b"ok", fin=True)

    def writable(self) -> None:
        while self.left and not self.exchange.is_full:
            self.left -= 65536
            self.exchange.send(bytes(65536), not self.left)
        self.application.news.set()

    def exchange_over(self, error: Exception | None) -> None:
        self.application.open.remove(self)
        self.application.ends.append(error)
        self.application.news.set()


class Bed:
    """A server, its application, and a client."""

    def __init__(self, served: Served, application: Application, peer: RawPeer) -> None:
        self.served = served
        self.application = application
        self.peer = peer

    def request(self, fields: Fields | None = None, rest: bytes = b"", *, fin: bool = False) -> int:
        """Send a request; returns its ID."""
        return self.peer.open(header(fields or get()) + rest, fin=fin)

    async def answered(self, number: int) -> bytes:
        """Wait for the end of a response; returns its body."""
        data = await self.peer.finished(number)
        return b"".join(found.payload for found in h3.read_frames(data) if found.type == h3.DATA)

    async def well_behaved(self) -> None:
        """Show that the server serves others."""
        if self.peer.terminated is None:
            number = self.request(fin=True)
            assert await self.answered(number) == b"ok"
            return
        async with raw_client(self.served.port) as other:
            number = other.open(header(get()), fin=True)
            assert h3.decode_headers(
                next(h3.read_frames(await other.finished(number))).payload
            ) == {":status": "200", "content-length": "2"}


def get(path: str | None = "/", lines: Sequence[tuple[str, str]] = (), **pseudo: Any) -> Fields:
    """The fields of a request; a pseudo-field that is None is left out."""
    values = {"method": "GET", "scheme": "https", "authority": "localhost", "path": path}
    values |= pseudo
    return [*((f":{key}", text) for key, text in values.items() if text is not None), *lines]


def post(path: str = "/", lines: Sequence[tuple[str, str]] = (), **pseudo: Any) -> Fields:
    """As ``get``."""
    return get(path, lines, **({"method": "POST"} | pseudo))


def length(size: int | str) -> Fields:
    """A line of ``content-length``."""
    return [("content-length", str(size))]


def header(fields: Fields) -> bytes:
    """A HEADERS frame that says exactly this."""
    return h3.literal_headers(fields)


def update(number: int, value: bytes = b"u=1") -> bytes:
    """A PRIORITY_UPDATE frame."""
    return h3.frame(PRIORITY_UPDATE, h3.varint(number) + value)


@dataclass
class Case:
    """One hostile client."""

    number: int
    name: str
    run: Callable[[Bed], Awaitable[None]]
    config: dict[str, Any] = field(default_factory=dict)
    client: dict[str, Any] = field(default_factory=dict)


CASES: list[Case] = []


def case(name: str, *, client: dict[str, Any] | None = None, **config: Any) -> Callable[..., Any]:
    """Register a case that is a function; it gets the next number."""

    def register(run: Callable[[Bed], Awaitable[None]]) -> Callable[[Bed], Awaitable[None]]:
        CASES.append(Case(len(CASES) + 1, name, run, config, client or {}))
        return run

    return register


def malformed(name: str, fields: Fields) -> None:
    """A header that the application does not see: the stream is reset with H3_MESSAGE_ERROR."""

    async def run(bed: Bed) -> None:
        number = bed.request(fields, h3.data(b"abc"))
        assert await bed.peer.aborted(number) == 0x10E
        assert bed.application.seen == []

    case(name)(run)


def broken_connection(name: str, code: int, data: bytes, *, fin: bool = False) -> None:
    """Frames after a header, while the application reads: the connection is closed."""

    async def run(bed: Bed) -> None:
        bed.request(post(), h3.data(b"abc") + data, fin=fin)
        assert await bed.peer.closed() == code
        assert bed.application.complete == 0
        await bed.application.until(lambda: bed.application.ends)
        assert bed.application.ends[0] is not None

    case(name)(run)


def broken_body(name: str, code: int, lines: Fields, data: bytes, *, fin: bool = True) -> None:
    """A body that the application begins to read: the stream is reset."""

    async def run(bed: Bed) -> None:
        number = bed.request(post(lines=lines), data, fin=fin)
        assert await bed.peer.was_reset(number) == code
        assert bed.application.complete == 0
        assert all(error is not None for error in bed.application.ends)
        assert bed.peer.terminated is None

    case(name)(run)


# Headers.

malformed("no :method", get(method=None))
malformed("no :scheme", get(scheme=None))
malformed("no :path", get(None))
malformed("no :authority and no host", get(authority=None))
malformed("an empty :path", get(""))
malformed("an empty :authority beside a host", get(lines=[("host", "a")], authority=""))
malformed("a :path without a slash", get("index.html"))
malformed("a :path that is a URL", get("https://localhost/"))
malformed("a :path with a space", get("/a HTTP/1.1"))
malformed("a :path with CR LF", get("/ HTTP/1.1\r\nx: y"))
malformed("a :path that is not ASCII", get("/caf\xe9"))
malformed("an asterisk as :path of GET", get("*"))
malformed("a :method with a space", get(method="GET /admin"))
malformed("a :scheme that is a URL", get(scheme="https://localhost/?"))
malformed("user information in :authority", get(authority="me@localhost"))
malformed("a path in :authority", get(authority="localhost/admin"))
malformed("host differs from :authority", get(lines=[("host", "other")]))
malformed("host twice", get(lines=[("host", "localhost")] * 2))
malformed(":path twice", [*get(), (":path", "/admin")])
malformed(":authority twice", [*get(), (":authority", "localhost")])
malformed("a pseudo-field after a field", [("x", "1"), *get()])
malformed("an unknown pseudo-field", [*get(), (":magic", "1")])
malformed(":status in a request", [*get(), (":status", "200")])
malformed(":protocol without CONNECT", get(protocol="websocket"))
malformed("a name in upper case", get(lines=[("Cookie", "1")]))
malformed("a name with a colon", get(lines=[("a:", "1")]))
malformed("a name with CR LF", get(lines=[("a\r\nb", "1")]))
malformed("a value with CR LF", get(lines=[("a", "1\r\nhost: other")]))
malformed("a value with NUL", get(lines=[("a", "1\0")]))
malformed("connection", get(lines=[("connection", "content-length")]))
malformed("keep-alive", get(lines=[("keep-alive", "timeout=5")]))
malformed("proxy-connection", get(lines=[("proxy-connection", "close")]))
malformed("transfer-encoding", post(lines=[("transfer-encoding", "chunked")]))
malformed("upgrade", get(lines=[("upgrade", "websocket")]))
malformed("te: gzip", get(lines=[("te", "gzip")]))
malformed("two lengths", post(lines=[*length(3), *length(30)]))
malformed("a list of lengths", post(lines=length("3, 3")))
malformed("a negative length", post(lines=length(-3)))
malformed("a length with a sign", post(lines=length("+3")))
malformed("a length in hexadecimal", post(lines=length("0x3")))
malformed("a length of 400 digits", post(lines=length("9" * 400)))
malformed("a WebSocket with a length", get(lines=length(0), method="CONNECT", protocol="websocket"))


@case("a length without a body")
async def _(bed: Bed) -> None:
    number = bed.request(post(lines=length(3)), fin=True)
    assert await bed.peer.was_reset(number) == 0x10E
    assert bed.application.seen == []


@case("plain CONNECT")
async def _(bed: Bed) -> None:
    number = bed.request([(":method", "CONNECT"), (":authority", "localhost:22")])
    assert (await bed.peer.headers(number))[":status"] == "501"
    assert bed.application.seen == []


@case("CONNECT of an unknown protocol, with the path of the application")
async def _(bed: Bed) -> None:
    number = bed.request(get(method="CONNECT", protocol="magic"))
    assert (await bed.peer.headers(number))[":status"] == "501"
    assert bed.application.seen == []


@case("a field section that QPACK cannot read")
async def _(bed: Bed) -> None:
    bed.peer.open(h3.frame(h3.HEADERS, b"\0\0\xff\xff\xff"), fin=True)
    assert await bed.peer.closed() == 0x200


@case("a field section that needs a dynamic table, which was not offered")
async def _(bed: Bed) -> None:
    bed.peer.open(h3.frame(h3.HEADERS, b"\x02\0\x80"), fin=True)
    assert await bed.peer.closed() == 0x200


@case("an empty name, which QPACK refuses")
async def _(bed: Bed) -> None:
    bed.request(get(lines=[("", "1")]), fin=True)
    assert await bed.peer.closed() == 0x200


@case("a stream that ends before its header is complete")
async def _(bed: Bed) -> None:
    number = bed.peer.open(GREASE + b"\0", fin=True)
    assert await bed.peer.was_reset(number) == 0x10D


@case("a header cut short by the end of the stream")
async def _(bed: Bed) -> None:
    bed.peer.open(header(get())[:-3], fin=True)
    assert await bed.peer.closed() == 0x106


# Frames.


@case("DATA before HEADERS")
async def _(bed: Bed) -> None:
    bed.peer.open(h3.data(b"abc") + header(get()))
    assert await bed.peer.closed() == 0x105


TRAILERS = h3.literal_headers([("sum", "1")])

broken_connection("HEADERS after trailers", 0x105, TRAILERS * 2)
broken_connection("DATA after trailers", 0x105, TRAILERS + h3.data(b"x"))
broken_connection("SETTINGS on a request stream", 0x105, h3.frame(h3.SETTINGS))
broken_connection("GOAWAY on a request stream", 0x105, h3.frame(h3.GOAWAY, b"\0"))
broken_connection("PUSH_PROMISE of a client", 0x105, h3.frame(0x05, b"\0"))
broken_connection("CANCEL_PUSH on a request stream", 0x105, h3.frame(0x03, b"\0"))
broken_connection("MAX_PUSH_ID on a request stream", 0x105, h3.frame(0x0D, b"\0"))
broken_connection("PRIORITY_UPDATE on a request stream", 0x105, update(0))
broken_connection("PING of HTTP/2", 0x105, h3.frame(0x06, bytes(8)))
broken_connection("0x41 in a body", 0x106, b"\x40\x41\0")
broken_connection("FIN in DATA", 0x106, b"\0\x0aabc", fin=True)
broken_connection("FIN in the header of a frame", 0x106, b"\0\x80", fin=True)
broken_connection("FIN in trailers", 0x106, TRAILERS[:-2], fin=True)
broken_connection("FIN in a frame of an unknown type", 0x106, GREASE + b"\x05ab", fin=True)
broken_connection("trailers that QPACK cannot read", 0x200, h3.frame(h3.HEADERS, b"\0\0\xff"))

# Bodies.

broken_body("a body longer than its length", 0x10E, length(3), h3.data(b"four"))
broken_body("a second frame beyond the length", 0x10E, length(3), h3.data(b"abc") + h3.data(b"d"))
broken_body("a request smuggled behind a length of 0", 0x10E, length(0), h3.data(header(get())))
broken_body(
    "a frame that claims more than the length", 0x10E, length(3), b"\0\xa0\0\0\0abc", fin=False
)
broken_body("a body shorter than its length", 0x10E, length(30), h3.data(b"abc"))
broken_body("no body, but an unknown frame", 0x10E, length(3), GREASE + b"\0")
broken_body("a short body before trailers", 0x10E, length(9), h3.data(b"abc") + TRAILERS)
broken_body("a pseudo-field in trailers", 0x10E, [], h3.data(b"x") + header([(":path", "/admin")]))
broken_body("upper case in trailers", 0x10E, [], header([("Host", "other")]))
broken_body("transfer-encoding in trailers", 0x10E, [], header([("transfer-encoding", "chunked")]))
broken_body("a line break in trailers", 0x10E, [], header([("a", "1\r\nb: 2")]))
broken_body("trailers of 70,000 bytes", 0x107, [], header([("a", "x" * 70_000)]))
broken_body("trailers of 1,000 lines", 0x107, [], header([("a", "x")] * 1000))


@case("a body that looks like requests")
async def _(bed: Bed) -> None:
    inner = header(get("/smuggled")) + b"GET /smuggled HTTP/1.1\r\nhost: localhost\r\n\r\n"
    number = bed.request(post(lines=length(len(inner))), h3.data(inner), fin=True)
    assert await bed.answered(number) == b"ok"
    assert bed.application.seen == ["/"]
    assert bed.application.read == len(inner)


@case("equal lengths on two lines are one")
async def _(bed: Bed) -> None:
    number = bed.request(post(lines=[*length(3), *length(3)]), h3.data(b"abc"), fin=True)
    assert await bed.answered(number) == b"ok"


@case("a body whose frames come byte by byte")
async def _(bed: Bed) -> None:
    data = h3.data(b"abc") + GREASE + b"\x02xx" + h3.data(b"def") + TRAILERS
    number = bed.request(post(lines=length(6)))
    for value in data:
        bed.peer.send(number, bytes([value]))
    bed.peer.send(number, b"", fin=True)
    assert await bed.answered(number) == b"ok"
    assert bed.application.read == 6


# Resets.


@case("rapid reset: requests that are taken back at once")
async def _(bed: Bed) -> None:
    for _ in range(3000):
        if bed.peer.terminated is not None:
            break
        number = bed.request(get("/wait"))
        bed.peer.reset(number, 0x10C)
        bed.peer.stop(number, 0x10C)
        await asyncio.sleep(0)
    assert await bed.peer.closed() == 0x107
    await bed.application.until(lambda: not bed.application.open)


@case("rapid stop: responses that are stopped at once")
async def _(bed: Bed) -> None:
    for _ in range(3000):
        if bed.peer.terminated is not None:
            break
        number = bed.request(get("/wait"), fin=True)
        bed.peer.stop(number, 0x10C)
        await asyncio.sleep(0)
    assert await bed.peer.closed() == 0x107
    await bed.application.until(lambda: not bed.application.open)


@case("a storm of requests that are cancelled while their answers come")
async def _(bed: Bed) -> None:
    numbers = []
    for _ in range(150):
        number = bed.request(post("/begin"))
        await bed.peer.headers(number)
        bed.peer.reset(number, 0x10C)
        bed.peer.stop(number, 0x10C)
        numbers.append(number)
    await bed.application.until(lambda: len(bed.application.ends) == len(numbers))
    assert not bed.application.open
    assert None not in bed.application.ends
    assert bed.peer.terminated is None


@case("a reset in the middle of a body")
async def _(bed: Bed) -> None:
    number = bed.request(post(lines=length(30)), h3.data(b"abc"))
    await bed.application.until(lambda: bed.application.read == 3)
    bed.peer.reset(number, 0x10C)
    await bed.application.until(lambda: bed.application.ends)
    assert bed.application.complete == 0
    assert bed.application.ends[0] is not None


@case("a reset before the header is complete")
async def _(bed: Bed) -> None:
    number = bed.peer.open(header(get())[:9])
    await bed.peer.delivered()
    bed.peer.reset(number, 0x10C)
    assert await bed.peer.was_reset(number) == 0x10C
    assert bed.application.seen == []


@case("a connection that is closed in the middle of everything")
async def _(bed: Bed) -> None:
    for path in ("/wait", "/begin", "/large", "/"):
        bed.request(post(path), h3.data(b"abc"))
    await bed.application.until(lambda: len(bed.application.seen) == 4)
    bed.peer.close(0x100)
    await bed.application.until(lambda: not bed.application.open)
    assert len(bed.application.ends) == 4
    assert None not in bed.application.ends


# Slowness.


@case("a header that never ends", handshake_timeout=0.5)
async def _(bed: Bed) -> None:
    number = bed.peer.open(header(get())[:9])
    assert await bed.peer.aborted(number) == 0x10D
    assert bed.application.seen == []


@case("100 headers that never end", handshake_timeout=0.5)
async def _(bed: Bed) -> None:
    numbers = [bed.peer.open(header(get())[: 2 + n % 20]) for n in range(100)]
    for number in numbers:
        assert await bed.peer.aborted(number) == 0x10D


@case("a frame of an unknown type that never ends, before the header", handshake_timeout=0.5)
async def _(bed: Bed) -> None:
    number = bed.peer.open(GREASE + h3.varint(1 << 40) + BODY)
    assert await bed.peer.aborted(number) == 0x10D


@case("a slow body keeps nobody waiting")
async def _(bed: Bed) -> None:
    slow = [bed.request(post(lines=length(1000)), b"\0\x43\xe8") for _ in range(50)]
    for count in range(1, 4):
        for number in slow:
            bed.peer.send(number, b"x")
        assert await bed.answered(bed.request(fin=True)) == b"ok"
        expected = 50 * count
        await bed.application.until(lambda expected=expected: bed.application.read == expected)
    assert len(bed.application.open) == 50
    for number in slow:
        bed.peer.send(number, bytes(997), fin=True)
        assert await bed.answered(number) == b"ok"


@case("an open request without a body is no hindrance to the end of the connection")
async def _(bed: Bed) -> None:
    numbers = [bed.request(post("/wait")) for _ in range(20)]
    await bed.application.until(lambda: len(bed.application.open) == 20)
    for talk in list(bed.application.open):
        talk.exchange.respond(503, [], fin=True)
    for number in numbers:
        assert (await bed.peer.headers(number))[":status"] == "503"
        assert await bed.peer.was_stopped(number) == 0x100


# Floods.


@case("a header of 300 lines")
async def _(bed: Bed) -> None:
    number = bed.request(get(lines=[("a", "b")] * 300), fin=True)
    assert (await bed.peer.headers(number))[":status"] == "431"
    assert bed.application.seen == []


@case("a header of 100,000 bytes")
async def _(bed: Bed) -> None:
    number = bed.request(get(lines=[("a", "b" * 1000)] * 100), fin=True)
    assert (await bed.peer.headers(number))[":status"] == "431"
    assert bed.application.seen == []


@case("a flood of headers that are too large")
async def _(bed: Bed) -> None:
    for _ in range(200):
        if bed.peer.terminated is not None:
            break
        bed.request(get(lines=[("a", "b")] * 300), fin=True)
        await asyncio.sleep(0)
    assert await bed.peer.closed() == 0x107


@case("empty DATA frames")
async def _(bed: Bed) -> None:
    bed.request(post(), h3.data(b"") * 4000)
    assert await bed.peer.closed() == 0x107


@case("empty frames of an unknown type in a body")
async def _(bed: Bed) -> None:
    bed.request(post(), (GREASE + b"\0") * 4000)
    assert await bed.peer.closed() == 0x107


@case("empty frames of an unknown type before the header")
async def _(bed: Bed) -> None:
    bed.peer.open((GREASE + b"\0") * 4000)
    assert await bed.peer.closed() == 0x107


@case("a body of 20,000 DATA frames of one byte")
async def _(bed: Bed) -> None:
    number = bed.request(post(lines=length(20_000)), h3.data(b"x") * 20_000, fin=True)
    assert await bed.answered(number) == b"ok"
    assert bed.application.read == 20_000


@case("a frame of an unknown type of 1 MiB in a body")
async def _(bed: Bed) -> None:
    unknown = GREASE + h3.varint(1 << 20) + bytes(1 << 20)
    number = bed.request(post(), unknown + h3.data(b"abc"), fin=True)
    assert await bed.answered(number) == b"ok"
    assert bed.application.read == 3


@case("a flood of PRIORITY_UPDATE frames for one request")
async def _(bed: Bed) -> None:
    bed.request(get("/wait"))
    bed.peer.control(update(0) * 4000)
    assert await bed.peer.closed() == 0x107


@case("PRIORITY_UPDATE frames for all requests that may come")
async def _(bed: Bed) -> None:
    bed.peer.control(b"".join(update(4 * n, b"u=%d" % (n % 8)) for n in range(100)))
    numbers = [bed.request(get(lines=[("priority", "u=9")]), fin=True) for _ in range(100)]
    for number in numbers:
        assert await bed.answered(number) == b"ok"


@case("PRIORITY_UPDATE for a request beyond the stream limit")
async def _(bed: Bed) -> None:
    bed.peer.control(update(1 << 30))
    assert await bed.peer.closed() == 0x108


@case("PRIORITY_UPDATE for a stream that is no request")
async def _(bed: Bed) -> None:
    bed.peer.control(update(2))
    assert await bed.peer.closed() == 0x108


@case("PRIORITY_UPDATE for a push")
async def _(bed: Bed) -> None:
    bed.peer.control(h3.frame(PRIORITY_UPDATE + 1, b"\0u=1"))
    assert await bed.peer.closed() == 0x108


@case("PRIORITY_UPDATE without an ID")
async def _(bed: Bed) -> None:
    bed.peer.control(h3.frame(PRIORITY_UPDATE))
    assert await bed.peer.closed() == 0x106


@case("priorities that make no sense")
async def _(bed: Bed) -> None:
    for value in ("u=9", "u=-1", "u", "i=", '"u=1', "u=" + "1" * 3000, "\xff", ",,,"):
        number = bed.request(get(lines=[("priority", value)]), fin=True)
        bed.peer.control(update(number, value.encode("latin-1")))
        assert await bed.answered(number) == b"ok"


# Windows.


@case("a body that nobody reads fills its window and no more")
async def _(bed: Bed) -> None:
    endless = b"\0" + h3.varint(1 << 40) + bytes(4 << 20)
    number = bed.request(post("/wait"), endless)
    await bed.application.until(lambda: bed.application.open)
    exchange = bed.application.open[0].exchange
    stream = bed.peer._quic._streams[number]
    # The client sends as far as it may.
    async with asyncio.timeout(10):
        while stream.sender.highest_offset < stream.max_stream_data_remote:
            await bed.peer.ping()
    limit = bed.served.server.config.read_buffer_limit
    assert stream.max_stream_data_remote <= limit
    assert not exchange.is_complete
    assert exchange.read(1000) == bytes(1000)
    bed.peer.reset(number, 0x10C)
    await bed.application.until(lambda: not bed.application.open)


@case("a client that reads nothing makes the writer wait", client={"max_stream_data": 65536})
async def _(bed: Bed) -> None:
    bed.peer.keep_credit()
    bed.request(get("/large"), fin=True)
    await bed.application.until(lambda: bed.application.open)
    talk = bed.application.open[0]
    await bed.application.until(lambda: talk.exchange.is_full)
    limit = bed.served.server.config.write_buffer_limit
    assert (64 << 20) - talk.left <= limit + 2 * 65536
    bed.peer.close(0x100)
    await bed.application.until(lambda: not bed.application.open)


@case("an upload that goes on after its answer")
async def _(bed: Bed) -> None:
    number = bed.request(post("/early", length(1 << 40)), b"\0" + h3.varint(1 << 40))
    # As much as several windows, before the client hears that it is not wanted.
    bed.peer.send(number, bytes(4 << 20))
    assert await bed.answered(number) == b"too much"
    assert await bed.peer.was_stopped(number) == 0x100
    assert bed.application.ends == [None]
    await bed.peer.ping()


@case("as many open requests as the limit of streams allows")
async def _(bed: Bed) -> None:
    limit = bed.peer._quic._remote_max_streams_bidi
    numbers = [bed.request(get("/wait"), fin=True) for _ in range(limit)]
    await bed.application.until(lambda: len(bed.application.open) == limit)
    waiting = bed.request(fin=True)  # there is no credit for it
    for talk in list(bed.application.open):
        talk.exchange.respond(200, [], b"late", fin=True)
    for number in numbers:
        assert await bed.answered(number) == b"late"
    assert await bed.answered(waiting) == b"ok"


@case("requests do not use up the sessions", max_sessions=1)
async def _(bed: Bed) -> None:
    for _ in range(50):
        bed.request(get("/wait"), fin=True)
    await bed.application.until(lambda: len(bed.application.open) == 50)
    await bed.peer.session()
    second = bed.peer.open(h3.connect("/"))
    assert await bed.peer.was_reset(second) == 0x10B


# Others.


@case("Expect: 100-continue, and no body for a while")
async def _(bed: Bed) -> None:
    number = bed.request(post("/continue", [("expect", "100-continue"), *length(3)]))
    assert (await bed.peer.headers(number))[":status"] == "100"
    bed.peer.send(number, h3.data(b"abc"), fin=True)
    assert await bed.answered(number) == b"ok"


@case("requests after GOAWAY, and one that was there before")
async def _(bed: Bed) -> None:
    early = bed.request(post("/wait"))
    await bed.application.until(lambda: bed.application.open)
    talk = bed.application.open[0]
    (connection,) = bed.served.server.connections
    assert connection.h3 is not None
    connection.h3.finish_goaway()
    late = bed.request(fin=True)
    assert await bed.peer.was_reset(late) == 0x10B
    talk.exchange.respond(200, [], b"served", fin=True)
    assert await bed.answered(early) == b"served"
    assert bed.application.seen == ["/wait"]
    # No more requests go on this connection.
    bed.peer.close(0x100)
    await bed.peer.until(lambda: bed.peer.terminated)


@case("requests before the SETTINGS of the client")
async def _(bed: Bed) -> None:
    async with raw_client(bed.served.port, settings=None) as silent:
        number = silent.open(header(get()), fin=True)
        assert b"ok" in await silent.finished(number)
        silent.open(b"\x00" + h3.frame(h3.GOAWAY, b"\0"), unidirectional=True)
        assert await silent.closed() == 0x10A


@case("a push stream of a client")
async def _(bed: Bed) -> None:
    bed.peer.open(b"\x01\0", unidirectional=True)
    assert await bed.peer.closed() == 0x103


@case("WebTransport streams that name a request as their session")
async def _(bed: Bed) -> None:
    number = bed.request(get("/wait"))
    await bed.application.until(lambda: bed.application.open)
    stray = bed.peer.open_in_session(number, b"hello")
    assert await bed.peer.aborted(stray) == h3.SESSION_GONE
    bed.peer.send_datagram(h3.varint(number // 4) + b"hello")
    await bed.peer.ping()
    assert len(bed.application.open) == 1


def test_cases_have_names_of_their_own() -> None:
    assert len(CASES) >= 60
    assert len({case.name for case in CASES}) == len(CASES)


@asynccontextmanager
async def hostile(serving: Serving, case: Case) -> AsyncIterator[Bed]:
    application = Application()
    async with serving(None, **({"close_timeout": 0.2} | case.config)) as served:
        served.server.serve_requests_with(application.requested)
        async with raw_client(served.port, **case.client) as peer:
            yield Bed(served, application, peer)


@pytest.mark.loops("asyncio")
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.number:03}-{case.name}")
async def test_hostile_client(serving: Serving, case: Case) -> None:
    async with hostile(serving, case) as bed:
        await case.run(bed)
        await bed.well_behaved()
