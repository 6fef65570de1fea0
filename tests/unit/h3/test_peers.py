"""Clients and servers in the field: SETTINGS and requests of their shape are served."""

from typing import Any

import pytest

from pywebtransport.h3._constants import H3Error
from pywebtransport.h3._options import H3Options
from pywebtransport.h3._session import H3SessionState
from tests.unit.h3.bed import (
    CONNECT,
    DRAFT02,
    DRAFT07,
    DRAFT14,
    DRAFT16,
    SERVER_ONLY,
    ClientBed,
    PairBed,
    ServerBed,
    SessionRecorder,
    capsule,
    data_frame,
)

# QPACK and field-section settings as browsers send them, and a GREASE setting.
CHROME = {
    0x01: 65536,
    0x06: 262144,
    0x07: 100,
    0x33: 1,
    0xFFD277: 1,
    0x2B603742: 1,
    0xC671706A: 16,
    0x1F * 123456 + 0x21: 0xDEADBEEF,
}
FIREFOX = {0x01: 65536, 0x07: 20, 0x08: 1, 0x33: 1, 0xFFD277: 1, 0x2B603742: 1}
SAFARI = {
    0x01: 4096,
    0x07: 100,
    0x33: 1,
    0xC671706A: 1,
    0x14E9CD29: 1,
    0x2B61: 1 << 24,
    0x2B64: 100,
    0x2B65: 100,
}
WEBTRANSPORT_GO = {**DRAFT16, 0x2B603742: 1, 0x14E9CD29: 100}
QUINN = {0x33: 1, 0xFFD277: 1, 0x2B603742: 1, 0xC671706A: 1, 0x2B603743: 1}
AIOQUIC = {0x01: 4096, 0x07: 16, 0x08: 1, 0x33: 1, 0x2B603742: 1, 0x21: 1}

LEGACY = [*CONNECT[:4], (":protocol", "webtransport"), ("origin", "https://example.org")]
DRAFT02_HEADER = ("sec-webtransport-http3-draft02", "1")

CLIENTS = [
    ("chrome", CHROME, [*LEGACY, DRAFT02_HEADER], 7),
    ("firefox", FIREFOX, [*LEGACY, DRAFT02_HEADER], 2),
    ("safari", SAFARI, LEGACY, 14),
    ("webtransport-go", WEBTRANSPORT_GO, [*CONNECT], 16),
    ("quinn", QUINN, LEGACY, 7),
    ("aioquic", AIOQUIC, LEGACY, 2),
    ("silent draft-12", {0x33: 1}, LEGACY, 7),
]


@pytest.mark.parametrize(
    ("settings", "fields", "draft"),
    [client[1:] for client in CLIENTS],
    ids=[client[0] for client in CLIENTS],
)
def test_clients_in_the_field_are_served(
    settings: dict[int, int], fields: list[tuple[str, str]], draft: int
) -> None:
    bed = ServerBed(settings)
    stream = bed.request(fields)
    # A browser greases its CONNECT stream at once.
    stream.feed(data_frame(capsule(0x29 * 1000 + 0x17, b"grease")))
    (session,) = bed.events.requested
    events = session.events
    assert isinstance(events, SessionRecorder)
    session.accept()
    bed.clock.advance(0)
    assert session.dialect is not None
    assert session.dialect.draft == draft
    sent, _ = bed.decode_headers(stream)[0]
    asked = DRAFT02_HEADER in fields
    assert sent.get("sec-webtransport-http3-draft") == ("draft02" if asked else None)
    # Streams and datagrams, both ways.
    received = bed.quic.peer_open(False, b"\x40\x41\x00hello", fin=True)
    bed.quic.datagrams(b"\x00ping")
    assert events.streams == [received]
    assert received.read() == b"hello"
    received.write(b"world", fin=True)
    assert received.sent == b"world"
    assert events.datagrams == [b"ping"]
    assert session.send_datagram(b"pong")
    ours = session.open_stream(True)
    assert ours is not None
    ours.write(b"12345678")
    assert ours.sent == b"\x40\x54\x0012345678"
    stream.feed(data_frame(capsule(0x2843, b"\0\0\0\x07bye")), fin=True)
    assert events.closed == (7, "bye", True)
    assert bed.close_code is None


def test_safari_refuses_sessions_without_initial_limits() -> None:
    sent = ServerBed().h3.settings
    assert sent[0x14E9CD29] > 1
    assert all(sent[name] > 0 for name in (0x2B61, 0x2B64, 0x2B65))


SERVERS = [
    ({**SERVER_ONLY, **DRAFT16}, "webtransport-h3", 16),
    ({**SERVER_ONLY, **DRAFT14}, "webtransport", 14),
    ({**SERVER_ONLY, **DRAFT07}, "webtransport", 7),
    (DRAFT02, "webtransport", 2),
    ({0xFFD277: 1, 0x2B603742: 1}, "webtransport", 2),
    ({**SERVER_ONLY, **WEBTRANSPORT_GO}, "webtransport-h3", 16),
]


@pytest.mark.parametrize(("settings", "token", "draft"), SERVERS)
def test_requests_as_each_generation_expects_them(
    settings: dict[int, int], token: str, draft: int
) -> None:
    bed = ClientBed(silent=True)
    bed.send_settings(settings)
    session, events, stream = bed.session(
        headers={"X-Room": "1"}, origin="https://example.org", application_protocols=["a"]
    )
    assert session.dialect is not None
    assert session.dialect.draft == draft
    assert session.protocol_token == token
    assert events.names() == ["established"]
    sent, _ = bed.decode_headers(stream)[0]
    assert sent[":protocol"] == token
    assert sent["x-room"] == "1"
    assert sent["origin"] == "https://example.org"
    assert ("sec-webtransport-http3-draft02" in sent) == (draft == 2)
    assert sent["wt-available-protocols"] == '"a"'
    assert list(sent)[:5] == [":method", ":scheme", ":authority", ":path", ":protocol"]
    assert stream.send_order == 2**63 - 1


@pytest.mark.parametrize("settings", [DRAFT02, DRAFT07, {**DRAFT07, **DRAFT02}], ids=str)
@pytest.mark.parametrize("answer", ['"b"', "b"])
def test_older_servers_may_answer_in_either_form(settings: dict[int, int], answer: str) -> None:
    bed = ClientBed({**SERVER_ONLY, **settings})
    session, events = bed.open(application_protocols=["a", "b"], require_application_protocol=True)
    bed.respond(session, 200, [("wt-protocol", answer)])
    assert events.names() == ["established"]
    assert session.application_protocol == "b"


@pytest.mark.parametrize(
    "settings", [DRAFT02, DRAFT07, {**DRAFT07, **DRAFT02}, {0x33: 1}], ids=["2", "7", "2+7", "none"]
)
@pytest.mark.parametrize(("offer", "answer"), [('"a", "b"', '"b"'), ("a, b", "b")])
def test_older_clients_are_answered_in_the_form_of_their_offer(
    settings: dict[int, int], offer: str, answer: str
) -> None:
    bed = ServerBed(settings)
    fields = [*CONNECT[:-1], (":protocol", "webtransport"), ("wt-available-protocols", offer)]
    stream = bed.request(fields)
    (session,) = bed.events.requested
    assert list(session.offered_protocols) == ["a", "b"]
    session.accept(application_protocol="b")
    assert bed.decode_headers(stream)[0][0]["wt-protocol"] == answer


BOTH = {**DRAFT16, 0xC671706A: 1, **SERVER_ONLY}


@pytest.mark.parametrize("status", [400, 405, 501])
def test_a_server_that_refuses_the_new_token_is_asked_with_the_old_one(status: int) -> None:
    bed = ClientBed(BOTH)
    session, events = bed.open()
    first = bed.stream_of(session)
    bed.respond(session, status, fin=True)
    assert session.session_id == 4
    assert events.log == []
    second = bed.stream_of(session)
    assert bed.decode_headers(second)[0][0][":protocol"] == "webtransport"
    assert first.fin_sent
    assert first.released
    bed.respond(session, 200)
    assert events.names() == ["established"]
    assert session.dialect is not None
    assert session.dialect.draft == 7
    assert not session.flow_control
    assert session.open_stream(False) is not None
    session.close()
    # What worked is used again at once.
    again, _ = bed.open()
    assert bed.decode_headers(bed.stream_of(again))[0][0][":protocol"] == "webtransport"


def test_the_second_refusal_is_final() -> None:
    bed = ClientBed(BOTH)
    session, events = bed.open()
    bed.respond(session, 405)
    bed.respond(session, 405, [("x", "1")])
    status, headers, _ = events.only("rejected")
    assert (status, headers) == (405, {"x": "1"})
    assert session.state is H3SessionState.CLOSED
    assert len(bed.quic.local(False)) == 2
    other, _ = bed.open()
    assert bed.decode_headers(bed.stream_of(other))[0][0][":protocol"] == "webtransport-h3"


@pytest.mark.parametrize(
    ("settings", "options", "status"),
    [
        ({**DRAFT16, **SERVER_ONLY}, H3Options(), 405),  # no older generation
        (BOTH, H3Options(legacy_token_retry=False), 405),
        (BOTH, H3Options(), 404),
        (BOTH, H3Options(dialects=frozenset({16, 14})), 405),
    ],
)
def test_no_retry(settings: dict[int, int], options: H3Options, status: int) -> None:
    bed = ClientBed(settings, options)
    session, events = bed.open()
    bed.respond(session, status)
    assert events.only("rejected")[0] == status


def test_no_retry_once_streams_were_opened() -> None:
    bed = ClientBed(BOTH)
    session, events = bed.open()
    stream = session.open_stream(True)
    bed.respond(session, 405)
    assert events.only("rejected")[0] == 405
    assert stream is not None
    assert stream.reset_sent == H3Error.WT_SESSION_GONE


def test_a_retry_waits_for_a_stream() -> None:
    bed = ClientBed(BOTH)
    session, events = bed.open()
    bed.quic.limits[False] = 0
    bed.respond(session, 405)
    assert events.log == []
    bed.quic.limits[False] = 1
    bed.h3.streams_available(False)
    assert session.session_id == 4
    bed.respond(session)
    assert events.names() == ["established"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "CONNECT"])
def test_plain_requests_get_an_answer(method: str) -> None:
    bed = ServerBed()
    fields = [(":method", method), (":authority", "example.org")]
    if method != "CONNECT":
        fields += [(":scheme", "https"), (":path", "/")]
    stream = bed.request(fields, fin=method == "GET")
    assert bed.status(stream) == ("404" if method in ("GET", "HEAD") else "405")
    assert stream.fin_sent
    assert stream.stop_sent == (None if method == "GET" else H3Error.NO_ERROR)
    assert stream.released
    assert bed.events.requested == []
    assert bed.h3.requests == {}


DIALECTS: list[Any] = [{2}, {7}, {14}, {16}, {2, 7}, {2, 7, 14, 16}]


@pytest.mark.parametrize("offered", DIALECTS, ids=str)
def test_our_client_and_server_with_each_other(offered: set[int]) -> None:
    options = H3Options(dialects=frozenset(offered))
    bed = PairBed(client_options=options)
    ours, our_events, theirs, their_events = bed.session()
    assert ours.dialect is theirs.dialect
    assert ours.dialect is not None
    assert ours.dialect.draft == max(offered)
    assert ours.flow_control == theirs.flow_control == (max(offered) >= 14)
    for unidirectional in (True, False):
        for session in (ours, theirs):
            stream = session.open_stream(unidirectional)
            assert stream is not None
            stream.write(b"data", fin=True)
    assert ours.send_datagram(b"d")
    assert theirs.send_datagram(b"d")
    ours.drain()
    bed.pump()
    for events in (our_events, their_events):
        assert [stream.read() for stream in events.streams] == [b"data", b"data"]
        assert events.datagrams == [b"d"]
    assert "draining" in their_events.names()
    theirs.close(7, "enough")
    bed.pump()
    assert our_events.closed == (7, "enough", True)
    assert bed.client.clock.pending == bed.server.clock.pending == 0
    assert bed.client.close_code is bed.server.close_code is None
