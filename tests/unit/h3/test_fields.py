"""Rules for request and response fields, received and sent."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywebtransport.exceptions import ConfigurationError, SessionArgumentError, SessionError
from pywebtransport.h3._constants import MAX_FIELD_LINE, MAX_FIELD_NAME
from pywebtransport.h3._errors import MessageError
from pywebtransport.h3._fields import (
    check_fields,
    check_rejection,
    check_section_size,
    encode_fields,
    parse_request,
    parse_response,
)

CONNECT = [
    (b":method", b"CONNECT"),
    (b":protocol", b"webtransport"),
    (b":scheme", b"https"),
    (b":authority", b"example.org"),
    (b":path", b"/"),
]


def test_a_request_is_taken_apart() -> None:
    request = parse_request([*CONNECT, (b"origin", b"https://a.org"), (b"x", b" 1 "), (b"x", b"2")])
    assert request.is_extended_connect
    assert (request.authority, request.path, request.scheme) == ("example.org", "/", "https")
    assert request.headers == {"origin": "https://a.org", "x": "1, 2"}


def test_cookies_join_with_a_semicolon() -> None:
    request = parse_request([*CONNECT, (b"cookie", b"a=1"), (b"cookie", b"b=2")])
    assert request.headers["cookie"] == "a=1; b=2"


def test_plain_requests_and_plain_connect() -> None:
    get = [(b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/"), (b"host", b"a.org")]
    assert parse_request(get).authority == "a.org"
    connect = [(b":method", b"CONNECT"), (b":authority", b"a.org:80")]
    assert not parse_request(connect).is_extended_connect


def replaced(name: bytes, value: bytes | None) -> list[tuple[bytes, bytes]]:
    kept = [field for field in CONNECT if field[0] != name]
    return kept if value is None else [*kept, (name, value)]


@pytest.mark.parametrize(
    "fields",
    [
        replaced(b":method", None),
        replaced(b":method", b""),
        replaced(b":method", b"GET"),
        replaced(b":protocol", None),
        replaced(b":protocol", b""),
        replaced(b":scheme", b"http"),
        replaced(b":scheme", None),
        replaced(b":authority", b""),
        replaced(b":authority", None),
        replaced(b":authority", b"user@example.org"),
        replaced(b":path", b""),
        replaced(b":path", None),
        replaced(b":path", b"chat"),
        [*CONNECT, (b":path", b"/")],
        [*CONNECT, (b":other", b"1")],
        [*CONNECT, (b":status", b"200")],
        [(b"x", b"1"), *CONNECT],
        [*CONNECT, (b"X-Upper", b"1")],
        [*CONNECT, (b"", b"1")],
        [*CONNECT, (b"sp ace", b"1")],
        [*CONNECT, (b"x", b"a\r\nb")],
        [*CONNECT, (b"x", b"a\x00b")],
        [*CONNECT, (b"connection", b"close")],
        [*CONNECT, (b"transfer-encoding", b"chunked")],
        [*CONNECT, (b"te", b"gzip")],
        [*CONNECT, (b"content-length", b"0")],
        [*CONNECT, (b"host", b"other.org")],
        [*CONNECT, (b"host", b"example.org"), (b"host", b"example.org")],
        [(b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/")],
        [(b":method", b"GET"), (b":authority", b"a.org")],
    ],
)
def test_malformed_requests(fields: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(MessageError):
        parse_request(fields)


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [(b":status", b"20")],
        [(b":status", b"2000")],
        [(b":status", b"abc")],
        [(b":status", b"\xb2\xb2\xb2")],
        [(b":status", b"101")],
        [(b":status", b"204")],
        [(b":status", b"205")],
        [(b":status", b"206")],
        [(b":status", b"200"), (b"content-length", b"5")],
        [(b":status", b"200"), (b":status", b"200")],
        [(b":status", b"200"), (b":path", b"/")],
    ],
)
def test_malformed_responses(fields: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(MessageError):
        parse_response(fields)


def test_a_refusal_may_have_a_content_length() -> None:
    response = parse_response([(b":status", b"404"), (b"content-length", b"9")])
    assert (response.status, response.headers) == (404, {"content-length": "9"})


any_field = st.tuples(
    st.one_of(st.binary(max_size=12), st.sampled_from([name for name, _ in CONNECT])),
    st.binary(max_size=20),
)


@given(st.lists(any_field, max_size=8))
def test_random_fields_raise_nothing_else(fields: list[tuple[bytes, bytes]]) -> None:
    for parse in (parse_request, parse_response):
        try:
            parse(fields)
        except MessageError:
            continue


def test_fields_of_the_application_are_checked() -> None:
    assert check_fields({"X-Name": " value "}) == {"x-name": "value"}
    assert encode_fields({":status": "200"}, {"x": "é"}) == [(b":status", b"200"), (b"x", b"\xe9")]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (":path", "/"),
        ("", "1"),
        ("a b", "1"),
        ("é", "1"),
        ("x", "a\nb"),
        ("x", "\u20ac"),
        ("connection", "close"),
        ("Content-Length", "1"),
        ("host", "a"),
    ],
)
def test_bad_fields_of_the_application_are_named(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match="header") as caught:
        check_fields({name: value})
    assert caught.value.config_value == {name: value}


def test_whole_numbers_and_several_lines() -> None:
    fields = check_fields({"Retry-After": 30, "Set-Cookie": ["a=1", "b=2"], "x": ("1", 2), "y": []})
    assert fields == {"retry-after": "30", "set-cookie": "a=1", "x": "1, 2"}
    assert fields.lines == [
        ("retry-after", "30"),
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
        ("x", "1"),
        ("x", "2"),
    ]
    assert check_fields(fields).lines == fields.lines
    assert encode_fields({":status": "200"}, fields)[2:4] == [
        (b"set-cookie", b"a=1"),
        (b"set-cookie", b"b=2"),
    ]
    assert check_fields({"X": "1", "x": "2"}).get_all("x") == ["1", "2"]


@pytest.mark.parametrize(
    "value",
    [
        True,
        1.5,
        None,
        b"x",
        {},
        object(),
        ["a", None],
        [["a"]],
        {"a"},
        pytest.param(10**5000, id="5000 digits"),
        ["a", "b\r\nc"],
    ],
)
def test_values_of_other_types_are_refused(value: Any) -> None:
    with pytest.raises(ConfigurationError, match='header "x-token"') as caught:
        check_fields({"x-token": value})
    assert caught.value.config_key == "headers"


@pytest.mark.parametrize("headers", [[("a", "b")], "a: b", 5, {5: "x"}, {None: "x"}, {b"a": "x"}])
def test_headers_that_are_no_dictionary_of_names(headers: Any) -> None:
    with pytest.raises(ConfigurationError, match="header"):
        check_fields(headers)


def test_a_field_that_no_qpack_takes_is_refused() -> None:
    assert check_fields({"x": "v" * (MAX_FIELD_LINE - 1)})
    assert check_fields({"x" * MAX_FIELD_NAME: "v" * (MAX_FIELD_LINE - MAX_FIELD_NAME)})
    with pytest.raises(ConfigurationError, match=f"0 to {MAX_FIELD_LINE} bytes"):
        check_fields({"x": "v" * MAX_FIELD_LINE})
    with pytest.raises(ConfigurationError, match=f"1 to {MAX_FIELD_NAME} are accepted"):
        check_fields({"x" * (MAX_FIELD_NAME + 1): "v"})


def test_complaints_show_no_value() -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_fields({"authorization": "secret\n"})
    assert "secret" not in str(caught.value)


def test_the_size_that_the_peer_accepts() -> None:
    fields = [(b":status", b"200"), (b"x-large", b"v" * 100)]
    size = 2 * 32 + 10 + 107
    check_section_size(fields, None)
    check_section_size(fields, size)
    with pytest.raises(ConfigurationError, match=f'{size} bytes.*"x-large", 100.*0 to {size - 1}'):
        check_section_size(fields, size - 1)


@pytest.mark.parametrize("status", [200, 299, 600, 0, -1, True, "404", 404.0, None])
def test_statuses_that_refuse_nothing(status: Any) -> None:
    with pytest.raises(ConfigurationError, match="300 to 599"):
        check_rejection(status)


def test_a_wrong_status_is_an_error_of_the_session_and_names_the_argument() -> None:
    with pytest.raises(SessionArgumentError) as caught:
        check_rejection(200)
    assert (caught.value.config_key, caught.value.config_value) == ("status_code", 200)
    assert isinstance(caught.value, SessionError)


def test_lines_of_one_field_are_joined_as_http_says() -> None:
    lines = [
        (b":status", b"200"),
        (b"set-cookie", b"a=1; path=/, x"),
        (b"via", b"one"),
        (b"set-cookie", b"b=2"),
        (b"cookie", b"c=3"),
        (b"via", b"two"),
        (b"cookie", b"d=4"),
    ]
    headers = parse_response(lines).headers
    assert headers == {"set-cookie": "a=1; path=/, x", "via": "one, two", "cookie": "c=3; d=4"}
    assert headers.get_all("Set-Cookie") == ["a=1; path=/, x", "b=2"]
    assert headers.get_all("via") == ["one", "two"]
    assert headers.get_all("none") == []
    assert [name for name, _ in headers.lines] == ["set-cookie"] * 2 + ["via"] * 2 + ["cookie"] * 2
