"""``examples/js/pywebtransport.js`` and this library understand each other, in real browsers."""

from __future__ import annotations

import asyncio
import base64
import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgpack
import pytest

from pywebtransport import StructuredStream, WebTransportSession
from pywebtransport.datagram.utils import create_heartbeat_datagram
from pywebtransport.serializer import MsgPackSerializer
from tests.support.steps import take, take_unidirectional, until

from .javascript import (
    FORMATS,
    HEADER,
    IN_BROWSERS,
    VisitFactory,
    formats,
    message,
    page_with_helper,
)
from .kinds import Kind

pytestmark = IN_BROWSERS
# One tab serves all tests here.
page = pytest.fixture(scope="module")(page_with_helper)


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
