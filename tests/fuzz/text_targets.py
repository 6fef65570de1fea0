"""Targets for strings from outside: URLs, host names, header fields, structured fields."""

from __future__ import annotations

from pywebtransport.exceptions import ConfigurationError, WebTransportError
from pywebtransport.h3._dialects import ALL_DIALECTS, add_enabling
from pywebtransport.h3._fields import check_fields
from pywebtransport.h3._protocols import format_offer, parse_offer, parse_protocol
from pywebtransport.h3._structured import is_string, parse_item, parse_list, serialize_string
from pywebtransport.pubsub._exceptions import InvalidTopicError
from pywebtransport.pubsub._topics import check_pattern, check_topic, matcher
from pywebtransport.utils._hosts import ascii_host, bracketed
from pywebtransport.utils._text import printable
from pywebtransport.utils._urls import build_webtransport_url, parse_webtransport_url, validate_url
from tests.fuzz.reader import Reader

_DIALECTS = add_enabling(ALL_DIALECTS, {})


def urls(data: bytes) -> None:
    """URLs of any form; those that are accepted are the same after another round."""
    url = data.decode("utf-8", "surrogateescape")
    valid = validate_url(url)
    try:
        host, port, path = parse_webtransport_url(url)
    except ConfigurationError:
        assert not valid
        return
    assert valid
    assert 0 < port < 65536
    assert path.startswith("/")
    assert (host + path).isascii()
    again = f"https://{bracketed(host, in_url=True)}:{port}{path}"
    assert parse_webtransport_url(again) == (host, port, path)


def url_parts(data: bytes) -> None:
    """URLs made of parts."""
    reader = Reader(data)
    host, path = (reader.some().decode("utf-8", "surrogateescape") for _ in range(2))
    port = reader.byte() << 8 | reader.byte()
    try:
        url = build_webtransport_url(host=host, port=port, path=path)
    except ConfigurationError:
        return
    assert parse_webtransport_url(url)[1] == port


def hosts(data: bytes) -> None:
    """Host names; what comes out is what a certificate or a resolver takes."""
    host = data.decode("utf-8", "surrogateescape")
    try:
        found = ascii_host(host)
    except ConfigurationError:
        return
    assert found.isascii()
    assert ascii_host(found) == found


def header_fields(data: bytes) -> None:
    """Fields of an application; what is accepted is fit to be sent."""
    reader = Reader(data)
    headers: dict[str, str | list[str]] = {}
    while reader:
        name = reader.some().decode("utf-8", "surrogateescape")
        value = reader.some().decode("utf-8", "surrogateescape")
        headers[name] = [value, value] if reader.flag() else value
    try:
        fields = check_fields(headers)
    except ConfigurationError:
        return
    for name, sent in fields.items():
        assert name == name.lower()
        assert not set(sent) & set("\0\r\n")
    assert check_fields(fields) == fields


def structured_fields(data: bytes) -> None:
    """Lists and items of RFC 9651, and what is negotiated with them."""
    text = data.decode("latin-1")
    for members in (parse_list(text), parse_item(text)):
        assert members is None or text.isascii()
    for dialect in _DIALECTS:
        offer, _ = parse_offer(text, dialect)
        parse_protocol(text, dialect)
        if offer and all(is_string(name) for name in offer):
            again = format_offer(offer)
            assert again is not None
            assert parse_offer(again, dialect)[0] == offer
    if is_string(text):
        member = parse_item(serialize_string(text))
        assert member is not None
        assert member.text == text


def topics(data: bytes) -> None:
    """Topics and patterns."""
    first, _, second = data.decode("utf-8", "surrogateescape").partition("\n")
    try:
        pattern = check_pattern(first)
        topic = check_topic(second)
    except InvalidTopicError:
        return
    matches = matcher(pattern)(topic)
    if pattern == topic or pattern == "**":
        assert matches
    if "*" not in pattern:
        assert matches == (pattern == topic)


def log_texts(data: bytes) -> None:
    """What goes into a log or a message: one line, nothing that a terminal obeys, not long."""
    text = data.decode("utf-8", "surrogateescape")
    for value in (text, data, WebTransportError(text)):
        line = printable(value, limit=200)
        assert line.isprintable()
        assert len(line) < 200 * len("\\U0001f600") + 100


SEEDS: dict[str, list[bytes]] = {
    "urls": [
        b"https://example.org/chat?room=1",
        b"https://[::1%25lo]:4433/",
        b"https://b\xc3\xbccher.example:99/%41%zz#x",
        b"wss://user:pw@host/",
    ],
    "url_parts": [b"\x0bexample.org\5/a/ b\x11\x51", b"\3::1\1/\1\xbb"],
    "hosts": [b"example.org", b"[::ffff:1.2.3.4]", b"xn--bcher-kva.example.", b"127.1"],
    "header_fields": [b"\6cookie\3a=b\0", b"\1A\1b\1", b"\7:method\3GET\0"],
    "structured_fields": [b'"a", "b";q=1', b"(a b);c, ?1, :YWI=:, 1.5", b'"chat\\"v1"'],
    "topics": [b"rooms.*.chat\nrooms.x.chat", b"**\na.b", b"a\na"],
    "log_texts": [b"\x1b[2Jx\r\n", "\u202etxt".encode(), b"\xff\xfe'"],
}
