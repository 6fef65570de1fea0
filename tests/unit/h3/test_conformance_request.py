"""Conformance cases 31 to 60: CONNECT requests and their responses.

Case 51 (CONNECT in 0-RTT) is a matter of TLS; see
``tests/integration/test_conformance_wire.py``.
"""

from collections.abc import Sequence
from typing import Any

import pytest

from pywebtransport.exceptions import (
    ClientError,
    ConfigurationError,
    HandshakeError,
    ProtocolError,
    SessionError,
    SessionRejectedError,
    WebTransportNotSupportedError,
)
from pywebtransport.h3._constants import H3Error
from pywebtransport.h3._frames import encode_frame
from pywebtransport.h3._options import H3Options
from pywebtransport.h3._session import H3SessionState
from tests.unit.h3.bed import (
    CONNECT,
    DRAFT02,
    DRAFT07,
    DRAFT14,
    DRAFT16,
    DRAFT16_WITHOUT_FLOW_CONTROL,
    SERVER_ONLY,
    ClientBed,
    ServerBed,
    recorder,
)


def changed(**pseudo: str | None) -> list[tuple[str, str]]:
    """CONNECT with pseudo-fields replaced or, with None, left out."""
    fields = []
    for name, value in CONNECT:
        key = name.removeprefix(":")
        new = pseudo.get(key, value)
        if new is not None:
            fields.append((name, new))
    return fields


def malformed(bed: ServerBed, fields: list[tuple[str, str]]) -> None:
    """The request is a stream error of type H3_MESSAGE_ERROR, and nothing else happens."""
    stream = bed.request(fields)
    assert stream.reset_sent == stream.stop_sent == 0x10E
    assert stream.released
    assert bed.close_code is None
    assert bed.events.requested == []


def test_case_031_connect_before_settings_is_held() -> None:
    bed = ServerBed(settings=None)
    stream = bed.request()
    assert bed.events.requested == []
    bed.send_settings(DRAFT16)
    (session,) = bed.events.requested
    session.accept()
    assert bed.status(stream) == "200"


def test_case_031_held_requests_are_bounded() -> None:
    bed = ServerBed(settings=None, options=H3Options(max_pending_connects=2))
    streams = [bed.request() for _ in range(3)]
    assert [stream.reset_sent for stream in streams] == [None, None, 0x10B]
    bed.send_settings(DRAFT16)
    assert len(bed.events.requested) == 2


def test_case_031_a_held_request_may_be_withdrawn() -> None:
    bed = ServerBed(settings=None)
    first, second = bed.request(), bed.request()
    first.feed_reset(0x10C)
    second.feed(fin=True)
    bed.send_settings(DRAFT16)
    assert bed.events.requested == []
    assert first.released
    assert second.released


def test_case_032_settings_never_come() -> None:
    bed = ServerBed(settings=None)
    stream = bed.request()
    bed.clock.advance(11)
    assert stream.reset_sent == 0x10B
    assert bed.events.requested == []
    assert bed.close_code == H3Error.MISSING_SETTINGS


def test_case_032_settings_never_come_to_a_client() -> None:
    bed = ClientBed(silent=True)
    session, events = bed.open()
    assert bed.quic.local(False) == []
    bed.clock.advance(11)
    status, _, error = events.only("rejected")
    assert status is None
    assert isinstance(error, HandshakeError)
    assert session.state is H3SessionState.CLOSED


def test_case_033_protocol_is_missing() -> None:
    malformed(ServerBed(), changed(protocol=None))


@pytest.mark.parametrize("method", ["GET", "POST", "connect"])
def test_case_034_protocol_without_connect(method: str) -> None:
    malformed(ServerBed(), changed(method=method))


@pytest.mark.parametrize("protocol", ["websocket", "connect-udp", "WebTransport", "x"])
def test_case_035_unknown_protocol(protocol: str) -> None:
    bed = ServerBed()
    stream = bed.request(changed(protocol=protocol))
    assert bed.status(stream) == "501"
    assert stream.fin_sent
    assert bed.events.requested == []


def test_case_036_scheme_http() -> None:
    malformed(ServerBed(), changed(scheme="http"))


@pytest.mark.parametrize("field", ["path", "authority"])
@pytest.mark.parametrize("value", ["", None])
def test_case_037_empty_or_missing_target(field: str, value: str | None) -> None:
    malformed(ServerBed(), changed(**{field: value}))


@pytest.mark.parametrize("field", CONNECT)
def test_case_038_duplicate_pseudo_field(field: tuple[str, str]) -> None:
    malformed(ServerBed(), [*CONNECT, field])


def test_case_039_pseudo_field_after_a_regular_one() -> None:
    malformed(ServerBed(), [CONNECT[0], ("x", "1"), *CONNECT[1:]])


@pytest.mark.parametrize("field", [("X-Upper", "1"), ("x", "a\rb"), ("x", "a\nb"), ("x", "a\0b")])
def test_case_040_bad_characters(field: tuple[str, str]) -> None:
    malformed(ServerBed(), [*CONNECT, field])


def test_case_041_content_length_in_a_request() -> None:
    malformed(ServerBed(), [*CONNECT, ("content-length", "0")])


def refused_by_client(bed: ClientBed, status: int, headers: list[tuple[str, str]]) -> None:
    """The response is malformed: the stream is reset and the session never was."""
    session, events = bed.open()
    stream = bed.stream_of(session)
    bed.respond(session, status, headers)
    assert stream.reset_sent == stream.stop_sent == 0x10E
    code, _, error = events.only("rejected")
    assert code is None
    assert isinstance(error, ProtocolError)
    assert error.error_code == 0x10E
    assert events.names() == ["rejected"]
    assert bed.close_code is None


def test_case_041_content_length_in_a_response() -> None:
    refused_by_client(ClientBed(), 200, [("content-length", "5")])


@pytest.mark.parametrize("status", [204, 205, 206, 101])
def test_case_042_status_that_opens_no_session(status: int) -> None:
    refused_by_client(ClientBed(), status, [])


def test_case_043_informational_responses_come_first() -> None:
    bed = ClientBed()
    session, events = bed.open()
    bed.respond(session, 100)
    bed.respond(session, 103, [("link", "</style.css>")])
    assert events.log == []
    bed.respond(session, 200)
    assert events.names() == ["established"]
    assert session.status == 200


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_case_044_redirects_are_reported_and_not_followed(status: int) -> None:
    bed = ClientBed()
    session, events = bed.open()
    bed.respond(session, status, [("location", "https://other.org/")], fin=True)
    reported, headers, error = events.only("rejected")
    assert (reported, headers) == (status, {"location": "https://other.org/"})
    assert isinstance(error, SessionRejectedError)
    assert (error.status_code, error.headers["location"]) == (status, "https://other.org/")
    assert len(bed.quic.local(False)) == 1
    assert bed.h3.sessions == {}


def test_case_045_origin_not_allowed() -> None:
    bed = ServerBed()
    stream = bed.request([*CONNECT, ("origin", "https://evil.org")])
    (session,) = bed.events.requested
    assert session.origin == "https://evil.org"
    session.reject(403)
    assert bed.status(stream) == "403"
    assert stream.fin_sent
    assert stream.stop_sent == 0x100
    assert recorder(session).log == []
    assert bed.h3.sessions == {}


@pytest.mark.parametrize(
    ("settings", "status"), [(DRAFT16, 405), (DRAFT14, 404), (DRAFT07, 404), (DRAFT02, 404)]
)
def test_case_046_no_webtransport_on_the_path(settings: dict[int, int], status: int) -> None:
    bed = ServerBed(settings)
    stream = bed.request()
    (session,) = bed.events.requested
    assert session.dialect is not None
    session.reject(session.dialect.unknown_path_status)
    assert bed.status(stream) == str(status)


@pytest.mark.parametrize("settings", [DRAFT16, DRAFT14, DRAFT07, DRAFT02])
@pytest.mark.parametrize("token", ["webtransport", "webtransport-h3"])
def test_case_047_both_tokens_are_accepted(settings: dict[int, int], token: str) -> None:
    bed = ServerBed(settings)
    session, _, stream = bed.session(changed(protocol=token))
    assert session.protocol_token == token
    assert bed.status(stream) == "200"


def test_case_047_the_older_token_asks_for_an_older_generation() -> None:
    bed = ServerBed({**DRAFT16, **DRAFT07})
    session, _, _ = bed.session(changed(protocol="webtransport"))
    assert session.dialect is not None
    assert session.dialect.draft == 7
    assert not session.flow_control


def test_case_048_server_without_webtransport() -> None:
    bed = ClientBed(silent=True)
    held, events = bed.open()
    bed.send_settings({**SERVER_ONLY, 0x33: 1})
    assert isinstance(events.only("rejected")[2], WebTransportNotSupportedError)
    assert held.state is H3SessionState.CLOSED
    with pytest.raises(WebTransportNotSupportedError) as caught:
        bed.open()
    assert caught.value.error_code == H3Error.WT_REQUIREMENTS_NOT_MET
    assert bed.quic.local(False) == []


@pytest.mark.parametrize(
    ("settings", "missing"),
    [
        ({0x08: 1, 0x2C7CF000: 1}, "H3_DATAGRAM"),
        ({0x33: 1, 0x2C7CF000: 1}, "ENABLE_CONNECT_PROTOCOL"),
        ({0x08: 1, 0x33: 1, 0x2C7CF000: 0}, "a setting for WebTransport"),
    ],
)
def test_case_048_the_error_names_what_is_missing(settings: dict[int, int], missing: str) -> None:
    bed = ClientBed(silent=True)
    bed.send_settings(settings)
    with pytest.raises(WebTransportNotSupportedError, match=missing):
        bed.open()


@pytest.mark.parametrize("lacks", ["transport parameter", "setting"])
def test_case_049_client_without_datagrams(lacks: str) -> None:
    bed = ServerBed(settings=None)
    settings = dict(DRAFT16)
    if lacks == "setting":
        del settings[0x33]
    else:
        bed.quic.peer_max_datagram_frame_size = 0
    bed.send_settings(settings)
    malformed(bed, list(CONNECT))


def test_case_050_fin_before_headers() -> None:
    bed = ServerBed()
    stream = bed.quic.peer_open(False, encode_frame(0x21, b"grease"), fin=True)
    assert stream.reset_sent == 0x10D
    assert stream.released
    empty = bed.quic.peer_open(False, b"", fin=True)
    assert empty.reset_sent == 0x10D
    assert empty.released
    assert bed.close_code is None


def test_case_050_response_ends_before_headers() -> None:
    bed = ClientBed()
    session, events = bed.open()
    bed.stream_of(session).feed(fin=True)
    assert events.only("rejected")[0] is None
    assert bed.close_code is None


def test_case_052_connect_at_or_above_the_goaway_id() -> None:
    bed = ServerBed()
    _, events, _ = bed.session()
    bed.h3.send_goaway()
    late = bed.request()  # still served: the first GOAWAY names no request
    assert len(bed.events.requested) == 2
    bed.h3.finish_goaway()
    assert bytes(bed.our_control.sent).endswith(
        encode_frame(0x07, bytes.fromhex("fffffffffffffffc")) + encode_frame(0x07, b"\x08")
    )
    refused = bed.request()
    assert refused.stream_id == 8
    assert refused.reset_sent == refused.stop_sent == 0x10B
    assert late.reset_sent is None
    assert events.log == []
    plain = bed.request([(":method", "GET"), *CONNECT[1:4]])
    assert plain.reset_sent == 0x10B


def test_case_052_goaway_is_sent_once() -> None:
    bed = ServerBed()
    before = len(bed.our_control.sent)
    for _ in range(3):
        bed.h3.finish_goaway()
        bed.h3.send_goaway()
    assert bytes(bed.our_control.sent)[before:] == (
        encode_frame(0x07, bytes.fromhex("fffffffffffffffc")) + encode_frame(0x07, b"\x00")
    )


def test_case_052_client_after_goaway() -> None:
    bed = ClientBed()
    established, established_events, _ = bed.session()
    waiting, waiting_events = bed.open()
    assert (established.session_id, waiting.session_id) == (0, 4)
    bed.send_control(encode_frame(0x07, b"\x04"))
    assert established_events.names() == ["established", "draining"]
    assert established.state is H3SessionState.DRAINING
    assert waiting_events.only("rejected")[2].error_code == 0x10B
    with pytest.raises(ClientError, match="GOAWAY"):
        bed.open()
    bed.send_control(encode_frame(0x07, b"\x04"))
    assert established_events.names() == ["established", "draining"]
    assert established.open_stream(True) is not None


def test_case_053_second_session_without_flow_control() -> None:
    bed = ServerBed(DRAFT16_WITHOUT_FLOW_CONTROL)
    session, events, _ = bed.session()
    assert not session.flow_control
    second = bed.request()
    assert second.reset_sent == second.stop_sent == 0x10B
    assert events.log == []
    assert session.state is H3SessionState.OPEN
    session.close()
    third = bed.request()
    assert third.reset_sent is None


def test_case_053_client_opens_no_second_one() -> None:
    bed = ClientBed(DRAFT16_WITHOUT_FLOW_CONTROL)
    bed.session()
    with pytest.raises(SessionError, match="1 sessions"):
        bed.open()


def test_case_053_older_generations_count_sessions() -> None:
    bed = ClientBed({**DRAFT07, 0xC671706A: 2})
    bed.session()
    bed.session()
    with pytest.raises(SessionError, match="2 sessions"):
        bed.open()
    assert len(bed.quic.local(False)) == 2


def test_case_053_a_held_session_too_many_is_refused_when_settings_come() -> None:
    bed = ClientBed(silent=True)
    first, _ = bed.open()
    _, events = bed.open()
    bed.send_settings({**SERVER_ONLY, **DRAFT16_WITHOUT_FLOW_CONTROL})
    assert first.session_id == 0
    assert isinstance(events.only("rejected")[2], SessionError)


def test_case_054_session_flood() -> None:
    bed = ServerBed(options=H3Options(max_sessions=3, max_refused_sessions=5))
    streams = [bed.request() for _ in range(8)]
    assert [stream.reset_sent for stream in streams] == [None] * 3 + [0x10B] * 5
    codes = [bed.close_code]
    bed.request()
    codes.append(bed.close_code)
    assert codes == [None, 0x107]
    assert bed.clock.pending == 0


def test_case_054_refusals_are_forgotten_with_time() -> None:
    bed = ServerBed(options=H3Options(max_sessions=1, max_refused_sessions=5))
    for _ in range(10):
        for _ in range(4):
            bed.request()
        bed.clock.advance(10)
    assert bed.close_code is None


def test_case_054_refusals_are_forgotten_with_sessions_that_are_served() -> None:
    """A long life at the limit, without any time passing: every second request is refused."""
    bed = ServerBed(options=H3Options(max_sessions=1, max_refused_sessions=5))
    for _ in range(1000):
        served = bed.request()
        assert bed.request().reset_sent == 0x10B
        bed.events.requested[-1].abort()
        assert served.reset_sent is not None
    assert bed.close_code is None


def offered(value: str, *more: str) -> Sequence[str]:
    bed = ServerBed()
    fields = [*CONNECT, *(("wt-available-protocols", text) for text in (value, *more))]
    bed.request(fields)
    (session,) = bed.events.requested
    return session.offered_protocols


def test_case_055_integer_member_voids_the_field() -> None:
    assert offered('"a", 1, "b"') == []
    assert offered('"a", tok') == []


def test_case_056_parameters_are_ignored() -> None:
    bed = ServerBed()
    stream = bed.request([*CONNECT, ("wt-available-protocols", '"a";v=1, "b";q="x"')])
    (session,) = bed.events.requested
    assert session.offered_protocols == ["a", "b"]
    session.accept(application_protocol="b")
    assert bed.decode_headers(stream)[0][0]["wt-protocol"] == '"b"'
    assert session.application_protocol == "b"


def test_case_056_only_an_offered_protocol_can_be_accepted() -> None:
    bed = ServerBed()
    bed.request([*CONNECT, ("wt-available-protocols", '"a"')])
    (session,) = bed.events.requested
    with pytest.raises(ConfigurationError, match="'c' was not offered"):
        session.accept(application_protocol="c")
    assert session.state is H3SessionState.CONNECTING


def alpn(
    answer: str | None, *, required: bool = False, settings: dict[int, int] = DRAFT16
) -> tuple[ClientBed, Any, Any]:
    bed = ClientBed(settings)
    session, events = bed.open(
        application_protocols=["a", "b"], require_application_protocol=required
    )
    bed.respond(session, 200, [] if answer is None else [("wt-protocol", answer)])
    return bed, session, events


def test_case_057_protocol_that_was_not_offered() -> None:
    bed, _, events = alpn('"c"')
    assert bed.quic.streams[0].reset_sent == bed.quic.streams[0].stop_sent == 0x0817B3DD
    assert events.names() == ["rejected"]
    assert events.only("rejected")[2].error_code == 0x0817B3DD
    assert bed.close_code is None


def test_case_057_older_generations_ignore_it() -> None:
    _, session, events = alpn('"c"', settings=DRAFT14)
    assert events.names() == ["established"]
    assert session.application_protocol is None


@pytest.mark.parametrize("answer", [None, "a, b", "12", '"a'])
def test_case_058_required_protocol_is_absent_or_malformed(answer: str | None) -> None:
    bed, _, events = alpn(answer, required=True)
    assert bed.quic.streams[0].reset_sent == 0x0817B3DD
    assert events.names() == ["rejected"]


def test_case_058_offered_protocol_is_chosen() -> None:
    bed, session, events = alpn('"b";x=1', required=True)
    assert events.names() == ["established"]
    assert session.application_protocol == "b"
    sent = bed.decode_headers(bed.quic.streams[0])[0][0]
    assert sent["wt-available-protocols"] == '"a", "b"'


def test_case_059_field_over_several_lines() -> None:
    assert offered('"a"', '"b", "c"') == ["a", "b", "c"]


def test_case_060_same_target_twice() -> None:
    bed = ServerBed()
    first, _, _ = bed.session()
    second, second_events, _ = bed.session()
    assert (first.path, first.authority) == (second.path, second.authority)
    assert first.session_id != second.session_id
    first.close()
    assert second_events.log == []
    assert second.state is H3SessionState.OPEN
