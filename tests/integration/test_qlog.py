"""qlog files follow their schema, as far as the tools that draw them look.

Version 0.3 of qlog: draft-ietf-quic-qlog-main-schema-02 for the file, and
draft-ietf-quic-qlog-quic-events-01 for the events. Beyond the schema, qvis wants times that do not
go back, and no fields of older versions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pywebtransport._quic import QLOG_SUPPORTED
from pywebtransport.testing import Network
from tests.support.endpoints import PairOfSessions
from tests.support.payload import payload
from tests.support.steps import take, take_unidirectional

Record = dict[str, Any]
Check = Callable[[Any], bool]

PACKET_TYPES = {
    "initial",
    "handshake",
    "0RTT",
    "1RTT",
    "retry",
    "version_negotiation",
    "stateless_reset",
    "unknown",
}
UNNUMBERED = {"retry", "version_negotiation", "stateless_reset", "unknown"}


def number(value: Any) -> bool:
    """A count, a size or a duration."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def flag(value: Any) -> bool:
    return isinstance(value, bool)


def digits(value: Any) -> bool:
    """Bytes in hexadecimal digits."""
    return isinstance(value, str) and bool(re.fullmatch("([0-9a-f]{2})*", value))


def one_of(*values: str) -> Check:
    return lambda value: value in values


def ranges(value: Any) -> bool:
    """Acknowledged packets: one number, or the first and the last one."""
    return bool(value) and all(
        1 <= len(item) <= 2 and all(map(number, item)) and item == sorted(item) for item in value
    )


def token(value: Any) -> bool:
    return isinstance(value, dict) and digits(value.get("data"))


# What a frame has besides its type: fields that it must have, and others.
FRAMES: dict[str, tuple[dict[str, Check], dict[str, Check]]] = {
    "padding": ({}, {}),
    "ping": ({}, {}),
    "ack": (
        {"acked_ranges": ranges},
        {"ack_delay": number, "ect0": number, "ect1": number, "ce": number},
    ),
    "reset_stream": ({"stream_id": number, "error_code": number, "final_size": number}, {}),
    "stop_sending": ({"stream_id": number, "error_code": number}, {}),
    "crypto": ({"offset": number, "length": number}, {}),
    "new_token": ({"token": token}, {"length": number}),
    "stream": ({"stream_id": number, "offset": number, "length": number}, {"fin": flag}),
    "max_data": ({"maximum": number}, {}),
    "max_stream_data": ({"stream_id": number, "maximum": number}, {}),
    "max_streams": (
        {"stream_type": one_of("bidirectional", "unidirectional"), "maximum": number},
        {},
    ),
    "data_blocked": ({"limit": number}, {}),
    "stream_data_blocked": ({"stream_id": number, "limit": number}, {}),
    "streams_blocked": (
        {"stream_type": one_of("bidirectional", "unidirectional"), "limit": number},
        {},
    ),
    "new_connection_id": (
        {"sequence_number": number, "retire_prior_to": number, "connection_id": digits},
        {"connection_id_length": number, "length": number, "stateless_reset_token": token},
    ),
    "retire_connection_id": ({"sequence_number": number}, {}),
    "path_challenge": ({}, {"data": digits}),
    "path_response": ({}, {"data": digits}),
    "connection_close": (
        {"error_space": one_of("transport", "application")},
        {"error_code": lambda value: True, "raw_error_code": number, "reason": lambda value: True},
    ),
    "handshake_done": ({}, {}),
    "datagram": ({}, {"length": number}),
}
METRICS = {
    "min_rtt",
    "smoothed_rtt",
    "latest_rtt",
    "rtt_variance",
    "pto_count",
    "congestion_window",
    "bytes_in_flight",
    "ssthresh",
}
# Without these, there is nothing to draw.
DRAWN = {"smoothed_rtt", "latest_rtt", "congestion_window", "bytes_in_flight"}


def records(content: bytes) -> list[Record]:
    """The records of a JSON text sequence (RFC 7464)."""
    first, *texts = content.split(b"\x1e")
    assert first == b""
    assert all(text.endswith(b"\n") for text in texts)
    return [json.loads(text) for text in texts]


def problems(content: bytes) -> list[str]:
    """What is not as the schema, or qvis, wants it."""
    header, *events = records(content)
    found = _of_header(header)
    latest = 0.0
    for event in events:
        said = _of_event(event)
        if number(event.get("time")):
            if event["time"] < latest:
                said.append("its time goes back")
            latest = event["time"]
        found += [f"{json.dumps(event)[:300]}: {text}" for text in said]
    return found


def _of_header(header: Record) -> list[str]:
    trace = header.get("trace", {})
    common = trace.get("common_fields", {})
    wanted = {
        "qlog_format": header.get("qlog_format") == "JSON-SEQ",
        "qlog_version": header.get("qlog_version") == "0.3",
        "vantage_point": trace.get("vantage_point", {}).get("type") in ("client", "server"),
        "protocol_type": "QUIC" in common.get("protocol_type", ()),
        "time_format": common.get("time_format") == "relative",
        "reference_time": number(common.get("reference_time")),
        "group_id": digits(common.get("group_id")),
    }
    return [f"the header is wrong: {name}" for name, is_right in wanted.items() if not is_right]


def _of_event(event: Record) -> list[str]:
    data = event.get("data")
    if not number(event.get("time")) or not isinstance(data, dict):
        return ["it has no time or no data"]
    match event.get("name"):
        case "transport:packet_sent" | "transport:packet_received":
            return _of_packet(data)
        case "recovery:packet_lost":
            return _of_packet_header(data.get("header"))
        case "recovery:metrics_updated":
            wrong = [name for name, value in data.items() if not number(value)]
            missing = DRAWN - set(data)
            return (
                [f"wrong: {wrong}, {set(data) - METRICS}, {missing}"]
                if (wrong or missing or set(data) - METRICS)
                else []
            )
        case "transport:parameters_set":
            return [] if data.get("owner") in ("local", "remote") else ["its owner is wrong"]
        case name:
            return [f"an unknown name: {name}"]


def _of_packet_header(header: Any) -> list[str]:
    if not isinstance(header, dict) or header.get("packet_type") not in PACKET_TYPES:
        return ["its packet_type is wrong"]
    said = []
    if header["packet_type"] not in UNNUMBERED and not number(header.get("packet_number")):
        said.append("its packet_number is wrong")
    if {"packet_size", "payload_length"} & set(header):
        said.append("it has a size in the header, as older versions")
    return said


def _of_packet(data: Record) -> list[str]:
    said = _of_packet_header(data.get("header"))
    if "packet_type" in data:
        said.append("it has a packet_type outside of the header, as older versions")
    if said or data["header"]["packet_type"] in UNNUMBERED:
        return said
    if not number(data.get("raw", {}).get("length")):
        said.append("it has no raw.length")
    for frame in data.get("frames", ()):
        required, optional = FRAMES.get(frame.get("frame_type"), ({}, {}))
        if frame.get("frame_type") not in FRAMES:
            said.append(f"an unknown frame: {frame}")
        names = set(frame) - {"frame_type"}
        if not set(required) <= names <= {*required, *optional}:
            said.append(f"wrong fields of a frame: {frame}")
        checks = required | optional
        said += [
            f"{name} of a frame is wrong: {frame}"
            for name in names & set(checks)
            if not checks[name](frame[name])
        ]
    return said


HEADER: Record = {
    "qlog_format": "JSON-SEQ",
    "qlog_version": "0.3",
    "trace": {
        "vantage_point": {"name": "x", "type": "client"},
        "common_fields": {
            "protocol_type": ["QUIC"],
            "time_format": "relative",
            "reference_time": 0,
            "group_id": "00ff",
        },
    },
}


def packet(**changes: Any) -> Record:
    """An event about a packet."""
    data: Record = {
        "header": {"packet_type": "1RTT", "packet_number": 1},
        "raw": {"length": 40},
        "frames": [{"frame_type": "stream", "stream_id": 0, "offset": 0, "length": 1}],
    }
    return {"time": 5, "name": "transport:packet_sent", "data": data | changes}


@pytest.mark.parametrize(
    "event",
    [
        {**packet(), "name": "packet_sent"},
        {**packet(), "time": "5"},
        {**packet(), "time": 1},
        packet(header={"packet_type": "short", "packet_number": 1}),
        packet(header={"packet_type": "1RTT"}),
        packet(header={"packet_type": "1RTT", "packet_number": 1, "packet_size": 40}),
        packet(packet_type="1RTT"),
        packet(raw={}),
        packet(frames=[{"frame_type": "other"}]),
        packet(frames=[{"frame_type": "max_data"}]),
        packet(frames=[{"frame_type": "ping", "size": 1}]),
        packet(frames=[{"frame_type": "ack", "acked_ranges": [[3, 2]]}]),
        {"time": 5, "name": "recovery:metrics_updated", "data": {"smoothed_rtt": 1}},
        {"time": 5, "name": "recovery:packet_lost", "data": {}},
    ],
    ids=str,
)
def test_mistakes_are_found(event: Record) -> None:
    def file(*items: Record) -> bytes:
        return b"".join(b"\x1e%b\n" % json.dumps(item).encode() for item in items)

    before = {**packet(), "time": 4}
    assert problems(file(HEADER, before, packet())) == []
    assert len(problems(file(HEADER, before, event))) == 1
    assert len(problems(file({**HEADER, "qlog_version": "0.4"}, packet()))) == 1


def read(directory: Path) -> dict[str, bytes]:
    """The files, by the end that wrote them."""
    return {path.stem.rpartition("_")[2]: path.read_bytes() for path in directory.iterdir()}


def packets(content: bytes, name: str) -> set[tuple[str, int]]:
    """Type and number of the packets of one kind of event."""
    headers = [
        event["data"]["header"]
        for event in records(content)[1:]
        if event["name"] == f"transport:{name}"
    ]
    return {(header["packet_type"], header["packet_number"]) for header in headers}


@pytest.mark.loops("virtual")
async def test_files_of_a_connection_follow_the_schema(
    pair: PairOfSessions, tmp_path: Path
) -> None:
    """With losses, all kinds of streams, datagrams, resets, and the end."""
    if not QLOG_SUPPORTED:
        pytest.skip("this ngtcp2 writes beyond its buffer, so that qlog is refused")
    network = Network(loss=0.03, delay=0.01, seed=3)
    fields = {"qlog_dir": str(tmp_path), "network": network}
    async with pair(client=fields, server=fields) as (near, far):
        data = payload(400_000)
        for one, other in ((near, far), (far, near)):
            stream = await one.create_unidirectional_stream()
            await stream.write_all(data)
            assert await (await take_unidirectional(other)).read_all() == data
            both = await one.create_bidirectional_stream()
            await both.write(b"half")
            answering = await take(other)
            assert await answering.read() == b"half"
            answering.stop_sending(7)
            answering.reset(8)
            for _ in range(20):
                one.datagrams.try_send(b"datagram")
        await near.close()
    files = read(tmp_path)
    assert set(files) == {"client", "server"}
    kinds = set()
    for content in files.values():
        assert problems(content) == []
        kinds |= {event["name"] for event in records(content)[1:]}
    assert kinds >= {
        "transport:parameters_set",
        "transport:packet_sent",
        "transport:packet_received",
        "recovery:metrics_updated",
        "recovery:packet_lost",
    }
    for sender, receiver in (("client", "server"), ("server", "client")):
        sent, received = (
            packets(files[sender], "packet_sent"),
            packets(files[receiver], "packet_received"),
        )
        assert received
        assert received <= sent
