"""``examples/js/pywebtransport.js`` and this library understand each other, in real browsers."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import struct
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgpack
import pytest

from pywebtransport import Serializer, StructuredStream, WebTransportSession
from pywebtransport.datagram.utils import create_heartbeat_datagram
from pywebtransport.pubsub import Broker
from pywebtransport.rpc import (
    MethodNotFoundError,
    Proceed,
    RpcCall,
    RpcError,
    RpcManager,
    RpcTimeoutError,
)
from pywebtransport.serializer import JSONSerializer, MsgPackSerializer
from tests.support.leaks import ExpectedLogs
from tests.support.ports import free_port
from tests.support.steps import take, take_unidirectional, until

from .conftest import Visit
from .driver import Browser, Page
from .kinds import KINDS, Kind

VisitFactory = Callable[..., AbstractAsyncContextManager[Visit]]

pytestmark = [
    pytest.mark.loops("asyncio"),
    pytest.mark.parametrize(
        "kind",
        [kind for kind in KINDS if kind.name in ("chromium", "firefox")],
        ids=lambda kind: kind.name,
        indirect=True,
    ),
]
FORMATS: dict[str, Callable[[], Serializer]] = {
    "json": JSONSerializer,
    "msgpack": MsgPackSerializer,
}
formats = pytest.mark.parametrize("format", FORMATS)

HEADER = struct.Struct("!HI")


@pytest.fixture(scope="module")
def page(browser: Browser, site: str) -> Iterator[Page]:
    """A tab with the page that imports the helper; one serves all tests here."""
    tab = browser.open_page(f"{site}/helper.html")
    try:
        yield tab
    finally:
        tab.close()


# ------------------------------------------------------------------------------------ sessions


async def test_every_form_of_a_certificate_hash(visit: VisitFactory) -> None:
    async with visit() as it:
        forms = ["hex", "colons", "base64", "base64url", "bytes", "buffer", "numbers", "list"]
        assert await it.run("js.hashes") == forms


async def test_wrong_arguments_are_named_and_nothing_is_opened(visit: VisitFactory) -> None:
    async with visit() as it:
        errors = await it.run("js.wrongArguments")
        assert {error["name"] for error in errors.values()} == {"ConfigurationError"}
        assert all(error["ours"] for error in errors.values())
        assert errors["hash"]["message"] == (
            'certificateHash must be a SHA-256: hexadecimal, base64 or 32 bytes, got "5f1c"'
        )
        fields = {name: error.get("field") for name, error in errors.items()}
        assert fields == {
            "hash": "certificateHash",
            "shortHash": "certificateHash",
            "url": None,
            "fragment": None,
            "number": "url",
            "time": "timeoutMs",
            "stream": "stream",
            "types": "types",
            "size": "maxMessageSize",
            "serializer": "serializer",
            "delay": "minDelayMs",
        }
        assert it.sessions.empty()


async def test_session_that_is_refused_is_a_connection_error(visit: VisitFactory) -> None:
    async with visit() as it:
        it.url = it.served.url("/elsewhere")
        error = await it.run("js.notOpened")
        assert error["name"] == "ConnectionError"
        assert it.url in error["message"]


async def test_session_that_takes_too_long_is_given_up(visit: VisitFactory) -> None:
    answered = asyncio.Event()

    async def hesitate(session: WebTransportSession) -> bool:
        await answered.wait()
        return True

    async with visit() as it:
        it.served.app.add_middleware(hesitate)
        error = await it.run("js.notOpened", {"timeoutMs": 50})
        assert error["name"] == "ConnectionError"
        assert error["message"] == f"no session with {it.url} within 50 ms"
        error = await it.run("js.givenUp")
        assert (error["name"], error["message"]) == ("Error", "the user left")
        answered.set()


# ------------------------------------------------------------------------------------ messages


@dataclass
class Everything:
    """A value of every type that both ends have."""

    text: str
    whole: list[int]
    large: list[int]
    real: list[float]
    flags: list[bool]
    nothing: None
    data: bytes
    when: datetime
    tags: set[str]
    names: dict[str, Any]
    numbers: dict[int, str]


@dataclass
class Other:
    """A message of another type."""

    value: int


TYPES: dict[int, type[Any]] = {1: Everything, 2: Other}
WHOLE = [0, 1, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**53 - 1]
WHOLE += [-1, -32, -33, -128, -129, -32768, -32769, -(2**31), -(2**31) - 1, -(2**53) + 1]
LARGE = [2**53, 2**63 - 1, 2**63, 2**64 - 1, -(2**53), -(2**63)]
TEXT = 'é €, 😀, \u0000, \ufeff, "quoted" and \\ \u2028'
EVERYTHING = Everything(
    text=TEXT,
    whole=WHOLE,
    large=LARGE,
    real=[0.5, -1.25, 1e300, 5e-324, 1e22, 0.1],
    flags=[True, False],
    nothing=None,
    data=bytes(range(256)) * 2,
    when=datetime(2026, 11, 30, 12, 30, 0, 250_000, UTC),
    tags={"one"},
    names={"__proto__": 1, "nested": {"list": [[], {}, [None, [1.5]]]}, "": "empty"},
    numbers={1: "one", -2: "minus two"},
)
IN_JAVASCRIPT = f"""{{
  text: {json.dumps(TEXT)},
  whole: {WHOLE},
  large: [{", ".join(f"{number}n" for number in LARGE)}],
  real: [0.5, -1.25, 1e300, 5e-324, 1e22, 0.1],
  flags: [true, false],
  nothing: null,
  data: Uint8Array.from({{ length: 512 }}, (_, index) => index % 256),
  when: new Date(Date.UTC(2026, 10, 30, 12, 30, 0, 250)),
  tags: new Set(["one"]),
  names: Object.fromEntries([
    ["__proto__", 1], ["nested", {{ list: [[], {{}}, [null, [1.5]]], left_out: undefined }}],
    ["", "empty"]]),
  numbers: new Map([[1, "one"], [-2, "minus two"]]),
}}"""


def seen(format: str) -> dict[str, Any]:
    """What the page says of EVERYTHING when it comes back."""
    text = format == "json"
    data = EVERYTHING.data

    members = {
        "text": TEXT,
        "whole": WHOLE,
        "large": [{"bigint": str(number)} for number in LARGE],
        "real": EVERYTHING.real,
        "flags": [True, False],
        "nothing": None,
        "data": base64.b64encode(data).decode() if text else {"bytes": data.hex()},
        "when": "2026-11-30T12:30:00.250000+00:00",
        "tags": ["one"],
        "names": {
            "object": {
                "__proto__": 1,
                "nested": {"object": {"list": [[], {"object": {}}, [None, [1.5]]]}},
                "": "empty",
            }
        },
        "numbers": (
            {"object": {"1": "one", "-2": "minus two"}}
            if text
            else {"map": [[1, "one"], [-2, "minus two"]]}
        ),
    }
    return {"object": members}


@formats
async def test_values_of_every_type_pass_both_ways(format: str, visit: VisitFactory) -> None:
    received: list[Any] = []

    async def echo(session: WebTransportSession) -> None:
        stream = StructuredStream(await take(session), FORMATS[format](), TYPES)
        async with stream:
            async for message in stream:
                received.append(message)
                await stream.send_obj(message)
            await stream.send_obj(Other(2**53))

    async with visit(echo) as it:
        messages = await it.run("js.echoed", format, IN_JAVASCRIPT)
    assert received == [EVERYTHING]
    assert messages == [
        {"type": "Everything", "value": seen(format)},
        {"type": "Other", "value": {"object": {"value": {"bigint": str(2**53)}}}},
    ]


async def test_messages_in_pieces_and_at_the_same_time_stay_whole(visit: VisitFactory) -> None:
    async def echo(session: WebTransportSession) -> None:
        stream = await take(session)
        while data := await stream.read(1777):
            await stream.write(data)

    async with visit(echo) as it:
        assert await it.run("js.manyAtOnce", 60) is True


def message(payload: bytes, type_id: int = 1) -> bytes:
    """A framed message."""
    return HEADER.pack(type_id, len(payload)) + payload


async def test_messages_that_cannot_be_read_are_consumed(visit: VisitFactory) -> None:
    async def send(session: WebTransportSession) -> None:
        stream = await session.create_unidirectional_stream()
        for payload in (b"1", b"{", b'"\xff"', b"2", b"NaN"):
            await stream.write(message(payload))
        await stream.write(message(b"3", 9))
        await stream.write_all(message(b"4"))

    async with visit(send) as it:
        got = await it.run("js.received", {"types": {"Number": 1}})
    assert [one["value"] for one in (got[0], got[3], got[6])] == [1, 2, 4]
    failures = [*got[1:3], *got[4:6]]
    assert {error["name"] for error in failures} == {"SerializationError"}
    assert got[5]["message"] == "message type 9 is not known"
    assert got[7:] == [None]


async def test_a_message_too_long_ends_the_receiving_half(visit: VisitFactory, kind: Kind) -> None:
    stopped = asyncio.Event()

    async def send(session: WebTransportSession) -> None:
        stream = await session.create_unidirectional_stream()
        stream.add_stop_callback(stopped.set)
        await stream.write(message(b"1") + HEADER.pack(1, 1001))
        await session.wait_closed()

    async with visit(send) as it:
        got = await it.run("js.received", {"maxMessageSize": 1000})
        if kind.tells_cancel:
            await stopped.wait()
    assert got[0] == {"type": 1, "value": 1}
    expected = "a message of 1001 bytes is larger than maxMessageSize=1000"
    assert [error["message"] for error in got[1:]] == [expected] * 3
    assert (got[1]["size"], got[1]["maxSize"]) == (1001, 1000)


async def test_end_within_a_message_and_reset(visit: VisitFactory, kind: Kind) -> None:
    async def cut_off(session: WebTransportSession) -> None:
        stream = await session.create_unidirectional_stream()
        await stream.write_all(message(b"1") + HEADER.pack(1, 3) + b"22")

    async def reset(session: WebTransportSession) -> None:
        stream = await session.create_unidirectional_stream()
        await stream.write(message(b"1"))
        await until(lambda: (stream.bytes_acknowledged or 0) >= 7)
        stream.reset(5)

    async with visit(cut_off) as it:
        got = await it.run("js.received")
        assert got[0]["value"] == 1
        assert got[1]["name"] == "StreamError"
        assert got[1]["message"] == "the peer finished the stream within a message"
    async with visit(reset) as it:
        got = await it.run("js.received")
        # The browser may drop what it has not read yet.
        assert got[-1]["name"] == "StreamError"
        assert got[-1]["code"] == 5 or not kind.tells_reset_to_reader


async def test_end_of_the_session_while_a_message_is_awaited(visit: VisitFactory) -> None:
    async def leave(session: WebTransportSession) -> None:
        stream = await session.create_unidirectional_stream()
        await stream.write(message(b"1")[:5])
        await session.datagrams.receive()  # the page reads
        await session.close(code=7, reason="enough")

    async with visit(leave) as it:
        got = await it.run("js.received")
    assert got[-1]["name"] == "SessionClosedError"
    # Now and then a browser does not say how the session has ended.
    assert (got[-1]["code"], got[-1]["reason"]) in ((7, "enough"), (None, None))


async def test_messages_that_cannot_be_sent_are_refused(visit: VisitFactory) -> None:
    async def echo(session: WebTransportSession) -> None:
        stream = await take(session)
        await stream.write_all(await stream.read_all())

    async with visit(echo) as it:
        got = await it.run("js.notSent")
    assert [error["name"] for error in got["errors"]] == ["SerializationError"] * 3
    assert [error["message"] for error in got["errors"]] == [
        "a message of 101 bytes is larger than maxMessageSize=100",
        "there is no message type Other",
        "NaN has no form in JSON",
    ]
    assert got["value"] == "still works"


async def test_writer_learns_that_the_peer_stopped_the_stream(visit: VisitFactory) -> None:
    async def stop(session: WebTransportSession) -> None:
        (await take_unidirectional(session)).stop_sending(9)
        await session.wait_closed()

    async with visit(stop) as it:
        error = await it.run("js.stoppedWriter")
    # Browsers tell the code over another channel than that the stream was stopped.
    assert (error["name"], error["code"] in (9, None)) == ("StreamError", True)


@dataclass
class Position:
    """For datagrams."""

    x: float
    y: int
    tag: str
    last: bool = False


@formats
async def test_datagrams_pass_both_ways(format: str, visit: VisitFactory) -> None:
    last = FORMATS[format]().serialize(obj=Position(2.5, 3, "ü", last=True))

    async def handler(session: WebTransportSession) -> None:
        messages = await session.create_structured_datagram_transport(
            FORMATS[format](), {1: Position}
        )
        position = await messages.receive_obj()
        assert position == Position(1.5, -2, "é")
        session.datagrams.try_send(create_heartbeat_datagram())
        while not session.is_closed:
            session.datagrams.try_send(b"\0\1" + last)
            await asyncio.sleep(0.02)

    async with visit(handler) as it:
        got = await it.run("js.datagrams", format)
    value = {"x": 2.5, "y": 3, "tag": "ü", "last": True}
    assert got["seen"] == [{"type": "Position", "value": value}]
    assert got["tooLarge"]["name"] == "DatagramTooLargeError"
    assert got["tooLarge"]["size"] > got["tooLarge"]["maxSize"] > 1000


async def test_datagrams_end_with_the_session(visit: VisitFactory) -> None:
    async def handler(session: WebTransportSession) -> None:
        await session.datagrams.receive()
        await session.close()

    async with visit(handler) as it:
        error = await it.run("js.datagramsUntilTheEnd")
    assert error["name"] == "SessionClosedError"


# --------------------------------------------------------------------------------- serializers


def shown(value: Any) -> Any:
    """What the page says of a value that Python has written as MessagePack."""
    if isinstance(value, bool | str) or value is None:
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**53 else {"bigint": str(value)}
    if isinstance(value, float):
        if math.isfinite(value) and not (value == 0 and math.copysign(1, value) < 0):
            return int(value) if value.is_integer() and abs(value) < 1e21 else value
        names = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity", "-0.0": "-0"}
        return {"number": names[str(value)]}
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, list):
        return [shown(item) for item in value]
    if all(isinstance(key, str) for key in value):
        return {"object": {key: shown(item) for key, item in value.items()}}
    return {"map": [[shown(key), shown(item)] for key, item in value.items()]}


VALUES: list[Any] = [
    *(WHOLE + LARGE),
    *(0.0, -0.0, 1.5, 1e300, math.inf, -math.inf, math.nan),
    *("", "x" * 31, "x" * 32, "é" * 200, "x" * 70_000),
    *(b"", bytes(255), bytes(256), bytes(70_000)),
    *([], [1] * 15, [1] * 16, [None] * 70_000),
    *({}, {str(n): n for n in range(15)}, {str(n): n for n in range(16)}),
    {1: "one", "two": [2], 2.5: {}},
]


async def test_messagepack_of_every_length(visit: VisitFactory) -> None:
    async with visit() as it:
        payloads = [msgpack.packb(value).hex() for value in VALUES]
        payloads.append(msgpack.packb(1.5, use_single_float=True).hex())
        moments = [0.25, 2**32, 2.0**35, -1.0]
        payloads += [msgpack.packb(msgpack.Timestamp.from_unix(one)).hex() for one in moments]
        *values, single, first, second, third, fourth = await it.run(
            "js.decoded", "msgpack", payloads
        )
        assert values == [shown(value) for value in VALUES]
        assert single == 1.5
        dates = [datetime.fromtimestamp(one, UTC) for one in moments]
        texts = [one.isoformat(timespec="milliseconds").replace("+00:00", "Z") for one in dates]
        assert [first, second, third, fourth] == [{"date": text} for text in texts]

        texts = ["-0", "1.5", "NaN", "-Infinity", "'x'.repeat(31)", "'x'.repeat(70000)"]
        texts += ["new Uint8Array(300)", "new Array(70000).fill(null)", "2n ** 64n - 1n"]
        texts += ["Object.fromEntries(Array.from({ length: 70000 }, (_, n) => [n, n]))"]
        written = await it.run("js.encoded", "msgpack", texts)
        read = [msgpack.unpackb(bytes.fromhex(text)) for text in written]
        assert str(read[0]) == "-0.0"
        assert math.isnan(read[2])
        assert [read[1], *read[3:6]] == [1.5, -math.inf, "x" * 31, "x" * 70_000]
        assert read[6:9] == [bytes(300), [None] * 70_000, 2**64 - 1]
        assert read[9] == {str(n): n for n in range(70_000)}
        # Byte for byte what Python writes.
        whole = await it.run("js.encoded", "msgpack", [str(one) for one in WHOLE])
        assert whole == [msgpack.packb(one).hex() for one in WHOLE]
        same = await it.run("js.roundTrips", "msgpack", ["new Map([[[1], 2]])", "[1n, 2.5]"])
        assert same == ["[1n, 2.5]"]  # a small BigInt comes back as a number


async def test_malformed_messages_throw_and_nothing_else(visit: VisitFactory) -> None:
    whole = MsgPackSerializer().serialize(EVERYTHING)
    cut = [whole[:size].hex() for size in range(0, len(whole), 7)]
    lengths = ["dd7fffffff", "df7fffffff", "c67fffffff", "dbffffffff", "c1", "d40100", "c0c0"]
    lengths += ["91" * 65 + "c0", "a2c328", "c70501aabbccddee"]
    async with visit() as it:
        for payloads in (cut, lengths):
            outcomes = await it.run("js.decoded", "msgpack", payloads)
            assert outcomes == ["SerializationError"] * len(payloads)
        assert await it.run("js.decoded", "msgpack", ["91" * 64 + "c0"]) != ["SerializationError"]
        texts = [b"", b"{", b"nul", b"\xff", b"1 2", b"\xef\xbb\xbf1"]
        outcomes = await it.run("js.decoded", "json", [text.hex() for text in texts])
        assert outcomes == ["SerializationError"] * len(texts)


async def test_values_without_a_form_are_refused(visit: VisitFactory) -> None:
    no_form = ["undefined", "[undefined]", "() => 1", "Symbol()", "'\\ud800'", "({ '\\ud800': 1 })"]
    no_form += ["(() => { const loop = []; loop.push(loop); return loop; })()", "'x'.repeat(5e6)"]
    only_json = ["NaN", "Infinity", "new Map([[{}, 1]])"]
    only_msgpack = ["2n ** 64n", "-(2n ** 63n) - 1n"]
    async with visit() as it:
        for format, values in (
            ("json", no_form + only_json),
            ("msgpack", no_form + only_msgpack),
        ):
            outcomes = await it.run("js.encoded", format, values)
            assert outcomes == ["SerializationError"] * len(values), format
        outcomes = await it.run("js.encoded", "json", ["2n ** 200n"])
        assert bytes.fromhex(outcomes[0]) == str(2**200).encode()
        numbers = [b"9007199254740993", b"[1e400, 12345678901234567.5, 1E20]"]
        outcomes = await it.run("js.decoded", "json", [text.hex() for text in numbers])
        assert outcomes[0] == {"bigint": "9007199254740993"}
        assert outcomes[1][1:] == [12345678901234568, 100000000000000000000]


# -------------------------------------------------------------------------------- remote calls


@dataclass
class Item:
    """A parameter and a result."""

    name: str
    price: int


class Shop:
    """The server's half: a handler, and what happened in it."""

    def __init__(self, format: str = "json", **options: Any) -> None:
        self.format = format
        self.options = options
        self.told: asyncio.Queue[str] = asyncio.Queue()
        self.cancelled: asyncio.Queue[str] = asyncio.Queue()
        self.rpc: asyncio.Queue[RpcManager] = asyncio.Queue()

    async def __call__(self, session: WebTransportSession) -> None:
        rpc = RpcManager(session, serializer=FORMATS[self.format](), **self.options)
        for method in (self.add, self.item, self.refuse, self.fail, self.wait, self.leave):
            rpc.register(method)
        rpc.register(self.tell, name="waiting")
        rpc.register(self.tell, name="gone")
        rpc.register(self.tell)
        rpc.register(self.types)
        async with rpc:
            self.rpc.put_nowait(rpc)
            await session.wait_closed()

    def add(self, a: int, b: int = 1) -> int:
        """Of two numbers."""
        return a + b

    def item(self, item: Item) -> Item:
        """Takes and gives a dataclass."""
        return Item(item.name.upper(), item.price + 1)

    def types(self, data: bytes, large: int, real: float, text: str) -> list[Any]:
        """Of every parameter."""
        assert (data, large, real, text) == (b"\0\xff", 2**60, 0.5, "é")
        return [data, large, real, text]

    def refuse(self) -> None:
        """Fails with an error of its own."""
        raise RpcError("sold out", error_code=3, data={"left": [1, 2]})

    def fail(self) -> None:
        """Fails otherwise."""
        raise LookupError("secret")

    async def wait(self, name: str) -> None:
        """Until it is cancelled."""
        self.told.put_nowait(name)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.put_nowait(name)
            raise

    def tell(self, text: str) -> None:
        """A notification."""
        self.told.put_nowait(text)

    async def leave(self) -> None:
        """Ends the session instead of answering."""
        rpc = await self.rpc.get()
        await rpc.session.close(code=4, reason="closing time")


@formats
async def test_calls_of_the_page(
    format: str, visit: VisitFactory, expected_logs: ExpectedLogs
) -> None:
    expected_logs("handler of 'fail'")
    shop = Shop(format)
    async with visit(shop) as it:
        await it.run("js.openRpc", format)
        assert await it.run("js.call", "add", [1, 2]) == 3
        assert await it.run("js.call", "add", [1], {"named": {"b": 40}}) == 41
        item = {"name": "tea", "price": 350}
        assert await it.run("js.call", "item", [item]) == {"name": "TEA", "price": 351}
        real = "AP8=" if format == "json" else {"bytes": "00ff"}
        assert await it.run("js.callTypes") == [real, {"bigint": str(2**60)}, 0.5, "é"]
        await it.run("js.notify", "tell", ["hello"])
        assert await shop.told.get() == "hello"
        assert await it.run("js.callAll", "add", 150) == [index + 1 for index in range(150)]

        error = await it.run("js.callFails", "refuse", [])
        assert (error["name"], error["code"], error["data"], error["remote"]) == (
            "RpcError",
            3,
            {"left": [1, 2]},
            True,
        )
        assert error["message"] == "refuse: sold out"
        error = await it.run("js.callFails", "fail", [])
        assert (error["name"], error["code"]) == ("RpcError", -32603)
        assert "secret" not in error["message"]
        error = await it.run("js.callFails", "nothing", [])
        assert (error["name"], error["code"]) == ("MethodNotFoundError", -32601)
        error = await it.run("js.callFails", "add", ["x"])
        assert (error["name"], error["code"]) == ("InvalidParamsError", -32602)


async def test_calls_with_wrong_arguments_are_refused_here(visit: VisitFactory) -> None:
    async with visit(Shop()) as it:
        await it.run("js.openRpc")
        for method, params, options, field in (
            ("", [], {}, "method"),
            ("x" * 257, [], {}, "method"),
            ("add", {"a": 1}, {}, "params"),
            ("add", [], {"named": [1]}, "named"),
            ("add", [], {"metadata": {"token": 1}}, "metadata"),
            ("add", [], {"timeoutMs": 0}, "timeoutMs"),
        ):
            error = await it.run("js.callFails", method, params, options)
            assert (error["name"], error["field"]) == ("ConfigurationError", field)


async def test_calls_too_large_for_either_end(visit: VisitFactory, kind: Kind) -> None:
    async with visit(Shop(max_message_size=2000)) as it:
        await it.run("js.openRpc", "json", {"maxMessageSize": 3000})
        error = await it.run("js.callFails", "tell", ["x" * 2990])
        assert (error["name"], error["maxSize"]) == ("SerializationError", 3000)
        error = await it.run("js.callFails", "tell", ["x" * 2500])
        # Firefox drops an answer that comes together with STOP_SENDING.
        if kind.name != "firefox" or error["name"] != "RpcCancelledError":
            assert (error["name"], error["code"]) == ("RpcError", -32600)
            assert error["data"]["max_size"] == 2000
        assert await it.run("js.call", "add", [1, 2]) == 3


async def test_cancelled_call_cancels_its_handler(visit: VisitFactory, kind: Kind) -> None:
    shop = Shop()
    async with visit(shop) as it:
        await it.run("js.openRpc")
        await it.run("js.begin", "wait", ["one"])
        assert await shop.told.get() == "one"
        error = await it.run("js.abort")
        assert (error["name"], error["message"]) == ("Error", "changed my mind")
        if kind.tells_cancel:
            assert await shop.cancelled.get() == "one"
        assert await it.run("js.call", "add", [1, 2]) == 3


async def test_call_that_takes_too_long(visit: VisitFactory) -> None:
    shop = Shop()
    async with visit(shop) as it:
        await it.run("js.openRpc")
        error = await it.run("js.callFails", "wait", ["one"], {"timeoutMs": 80})
        assert (error["name"], error["code"]) == ("RpcTimeoutError", -32001)
        assert await shop.cancelled.get() == "one"  # it is told how long it may take


async def test_further_calls_wait_for_a_slot(visit: VisitFactory) -> None:
    shop = Shop()
    async with visit(shop) as it:
        await it.run("js.openRpc", "json", {"concurrencyLimit": 1})
        await it.run("js.begin", "wait", ["one"])
        assert await shop.told.get() == "one"
        error = await it.run("js.callFails", "wait", ["two"], {"timeoutMs": 50})
        assert error["name"] == "RpcTimeoutError"
        await it.run("js.abort")
        assert await it.run("js.callAll", "add", 20) == [index + 1 for index in range(20)]
        assert shop.told.empty()


async def test_calls_end_with_the_session_or_with_close(visit: VisitFactory) -> None:
    shop = Shop()
    async with visit(shop) as it:
        await it.run("js.openRpc")
        error = await it.run("js.callFails", "leave", [])
        assert error["name"] == "SessionClosedError"
        assert error["code"] in (4, None)
        error = await it.run("js.callFails", "add", [1, 2])
        assert error["name"] == "SessionClosedError"
        await it.run("js.openRpc")
        await it.run("js.begin", "wait", ["one"])
        assert await shop.told.get() == "one"
        errors = await it.run("js.closeRpc")
        assert [error["name"] for error in errors.values()] == ["RpcCancelledError"] * 2


async def test_page_survives_sessions_that_end_right_after_a_call(visit: VisitFactory) -> None:
    """Chromium ends the process of a page whose streams have an unacknowledged end then."""
    plans: asyncio.Queue[tuple[float, bool]] = asyncio.Queue()

    async def handler(session: WebTransportSession) -> None:
        delay, double = plans.get_nowait()
        called = asyncio.Event()

        async def end() -> None:
            if double:
                assert await rpc.call("double", 2) == 4
            called.set()

        async with RpcManager(session) as rpc:
            rpc.register(end)
            await called.wait()
            await asyncio.sleep(delay)
            await session.close(code=3)

    async with visit(handler) as it:
        for attempt in range(30):
            plans.put_nowait((attempt % 5 * 0.0005, attempt % 2 == 0))
            await it.run("js.openRpc")
            await it.run("js.begin", "end", [])
            await it.run("js.ended")


@formats
async def test_calls_of_the_server(format: str, visit: VisitFactory) -> None:
    async def with_token(call: RpcCall, proceed: Proceed) -> Any:
        call.metadata["token"] = "t"
        return await proceed()

    shop = Shop(format, interceptors=[with_token])
    async with visit(shop) as it:
        await it.run("js.openRpc", format)
        rpc = await shop.rpc.get()
        assert await rpc.call("double", 21) == 42
        assert await asyncio.gather(*(rpc.call("double", n) for n in range(150))) == [
            2 * n for n in range(150)
        ]
        assert await rpc.call("named", 1, b=[2]) == [1, {"b": [2]}, {"token": "t"}]
        with pytest.raises(RpcError) as refused:
            await rpc.call("refuse", {"x": 1})
        assert (refused.value.error_code, refused.value.data) == (7, {"x": 1})
        with pytest.raises(MethodNotFoundError):
            await rpc.call("nothing")
        with pytest.raises(RpcError) as failed:
            await rpc.call("cyclic")
        assert (failed.value.error_code, failed.value.message) == (-32603, "internal error")
        await rpc.notify("nothing")
        with pytest.raises(RpcTimeoutError):
            await rpc.call("wait", "slow", timeout=0.1)


async def test_server_cancels_its_call(visit: VisitFactory) -> None:
    shop = Shop()
    async with visit(shop) as it:
        await it.run("js.openRpc")
        rpc = await shop.rpc.get()
        call = asyncio.ensure_future(rpc.call("wait", "one"))
        assert await shop.told.get() == "one"  # it waits
        call.cancel()
        assert await shop.told.get() == "one"  # it is told
        assert await rpc.call("double", 1) == 2


async def test_page_answers_what_is_no_request(visit: VisitFactory) -> None:
    async with visit() as it:
        await it.run("js.openRpc", "json", {"maxMessageSize": 1000})
        session = await it.sessions.get()
        for sent in (
            message(b"{", 1),
            message(b'{"params": []}', 1),
            message(b'{"method": "double", "params": {}}', 1),
            message(b'{"method": "double", "timeout": -1}', 1),
            message(b'{"value": 1}', 2),
            message(b"{}", 99),
            HEADER.pack(1, 1001),
        ):
            stream = await session.create_bidirectional_stream()
            async with stream:
                await stream.write(sent)
                type_id, size = HEADER.unpack(await stream.readexactly(HEADER.size))
                failure = JSONSerializer().deserialize(await stream.readexactly(size))
                assert (type_id, failure["code"]) == (3, -32600)


# --------------------------------------------------------------------------- publish/subscribe


def may(session: WebTransportSession, action: str, topic: str) -> bool:
    """Everything but one topic."""
    return topic != "rooms.secret"


@formats
async def test_topics_of_a_broker(format: str, visit: VisitFactory) -> None:
    broker = Broker(authorize=may, serializer=FORMATS[format](), max_subscriptions=3)
    async with broker, visit(broker.serve) as it:
        await it.run("js.openPubSub", format)
        await it.run("js.subscribe", "rooms.python")
        await it.run("js.subscribe", "rooms.*")
        await it.run("js.publish", "rooms.python", {"text": "é"})
        await broker.publish("rooms.rust", [1, None])
        python = {"topic": "rooms.python", "data": {"text": "é"}}
        rust = {"topic": "rooms.rust", "data": [1, None]}
        assert await it.run("js.take", "rooms.python", 1) == [python]
        assert await it.run("js.take", "rooms.*", 2) == [python, rust]

        ended = await it.run("js.unsubscribe", "rooms.python")
        assert ended == {"next": None, "isClosed": True}
        await it.run("js.publish", "rooms.python", 2)
        assert await it.run("js.take", "rooms.*", 1) == [{"topic": "rooms.python", "data": 2}]
        await it.run("js.subscribe", "rooms.python", {"maxQueue": 5})
        await broker.publish("rooms.python", "again")
        again = [{"topic": "rooms.python", "data": "again"}]
        assert await it.run("js.take", "rooms.python", 1) == again

        for function in ("js.subscribeFails", "js.publishFails"):
            error = await it.run(function, "rooms.secret")
            assert (error["name"], error["code"]) == ("TopicForbiddenError", 2)
            error = await it.run(function, "rooms..x")
            assert (error["name"], error["code"]) == ("InvalidTopicError", 1)
        await it.run("js.subscribe", "third")
        error = await it.run("js.subscribeFails", "fourth")
        assert (error["name"], error["code"]) == ("SubscriptionLimitError", 3)
        error = await it.run("js.publishFails", "rooms.python", "x" * 66_000)
        assert (error["name"], error["code"]) == ("PubSubError", 7)
        error = await it.run("js.subscribeFails", "x", {"policy": "perhaps"})
        assert (error["name"], error["field"]) == ("ConfigurationError", "policy")

        # One message was waiting: it is still given out.
        ends = await it.run("js.closePubSub")
        assert [end and end["data"] for end in ends] == [None, "again", None]


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest", "close"])
async def test_queue_of_a_subscription_is_bounded(policy: str, visit: VisitFactory) -> None:
    async with Broker() as broker, visit(broker.serve) as it:
        await it.run("js.openPubSub")
        await it.run("js.subscribe", "ticks", {"policy": policy, "maxQueue": 3})
        await it.run("js.subscribe", "other")
        for number in range(10):
            await broker.publish("ticks", number)
            # Let the broker's own queue of three empty itself.
            await broker.publish("other", number)
            await it.run("js.take", "other", 1)
        if policy == "close":
            await it.run("js.waiting", "ticks", 4)
            taken = await it.run("js.take", "ticks", 3)
            assert [message["data"] for message in taken] == [0, 1, 2]
            error = await it.run("js.takeFails", "ticks")
            assert (error["name"], error["code"]) == ("SlowSubscriberError", 5)
            assert await it.run("js.take", "ticks", 1) == [None]
            return
        assert await it.run("js.waiting", "ticks", 10) == {"waiting": 3, "dropped": 7}
        taken = await it.run("js.take", "ticks", 3)
        kept = [7, 8, 9] if policy == "drop_oldest" else [0, 1, 2]
        assert [message["data"] for message in taken] == kept


async def test_subscription_ends_with_its_session(visit: VisitFactory) -> None:
    sessions: list[WebTransportSession] = []
    async with Broker() as broker:

        async def handler(session: WebTransportSession) -> None:
            sessions.append(session)
            await broker.serve(session)

        async with visit(handler) as it:
            await it.run("js.openPubSub")
            await it.run("js.subscribe", "ticks")
            await sessions[0].close(code=9, reason="maintenance")
            error = await it.run("js.takeFails", "ticks")
            assert error["name"] == "SessionClosedError"
            assert await it.run("js.take", "ticks", 1) == [None]


# --------------------------------------------------------------------------------- reconnecting


class Greeter:
    """A handler that greets each session with its number."""

    def __init__(self, first: int) -> None:
        self.number = first
        self.sessions: list[WebTransportSession] = []

    async def __call__(self, session: WebTransportSession) -> None:
        self.sessions.append(session)
        rpc = RpcManager(session)
        rpc.register(self.greet)
        await rpc.serve()

    def greet(self) -> str:
        """A text that no other session gets."""
        self.number += 1
        return f"session {self.number}"


async def test_page_comes_back_after_the_server_was_restarted(visit: VisitFactory) -> None:
    port = free_port()
    async with visit(Greeter(0), bind_port=port) as it:
        await it.run("js.keep")
        assert await it.run("js.current") == "session 1"
    greeter = Greeter(10)
    async with visit(greeter, bind_port=port) as it:
        seen = await it.run("js.next", "session 1")
        assert seen["greetings"] == ["session 1", "session 11"]
        states = seen["states"]
        assert states[:3] == ["connecting", "open", "waiting"]
        assert states[-2:] == ["connecting", "open"]
        # The server ends a session, too, and goes on.
        await greeter.sessions[0].close(code=3, reason="over")
        seen = await it.run("js.next", "session 11")
        assert seen["greetings"][-1] == "session 12"
        ended = await it.run("js.leave")
        assert (ended["state"], ended["session"]) == ("closed", None)
        assert ended["after"]["name"] == "ConnectionError"
        await greeter.sessions[1].wait_closed()


async def test_page_gives_up(visit: VisitFactory) -> None:
    async with visit() as it:
        it.url = it.served.url("/elsewhere")
        seen = await it.run("js.giveUp", {"maxAttempts": 2})
        assert (seen["name"], seen["cause"]) == ("ConnectionError", "ConnectionError")
        assert seen["states"] == ["connecting", "waiting", "connecting", "closed"]
        # Another attempt would be useless.
        it.hash = b"x"
        seen = await it.run("js.giveUp", {})
        assert (seen["state"], seen["cause"]) == ("closed", "ConfigurationError")


async def test_page_waits_for_a_session_no_longer_than_it_wants(visit: VisitFactory) -> None:
    async with visit() as it:  # the handler does not greet
        error = await it.run("js.noSessionYet")
        assert (error["name"], error["message"]) == ("ConnectionError", "no session within 30 ms")
