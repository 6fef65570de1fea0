"""The head of the first request of a TCP connection: what is read in it, whatever it contains."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.datastructures import Headers
from websockets.http11 import Request

from pywebtransport._qmux._names import offers_qmux
from pywebtransport.server._doorman import _read, asks_for_session

TOKEN = st.text("abcXYZ0129!#$%&'*+-.^_`|~", min_size=1, max_size=10)
VALUE = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=20
)
UPGRADE = b"GET /x HTTP/1.1\r\nHost: a\r\nUpgrade: WebSocket\r\nConnection: keep-alive, upgrade\r\n"


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(head: bytes) -> None:
    request = _read(head)
    assert request is None or request.method


@given(st.lists(st.tuples(TOKEN, VALUE), max_size=5))
def test_lines_are_read_as_they_were_written(lines: list[tuple[str, str]]) -> None:
    headers = Headers(lines)
    request = _read(Request("/", headers).serialize().removesuffix(b"\r\n\r\n"))
    assert request is not None
    assert request.fields == [
        (name.lower(), value.lstrip(" ")) for name, value in headers.raw_items()
    ]


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (b"Sec-WebSocket-Protocol: qmux-02\r\n", True),
        (b"sec-websocket-protocol:a,qmux-01 ,b\r\n", True),
        (b"sec-websocket-protocol: a\r\nSEC-WEBSOCKET-PROTOCOL: qmux-02.chat\r\n", True),
        (b"sec-websocket-protocol: QMUX-02\r\n", False),
        (b"sec-websocket-protocol: qmux-03\r\n", False),
        (b"sec-websocket-protocol: webtransport\r\n", False),
        (b"sec-websocket-protocol qmux-02\r\n", False),
        (b"sec-websocket-protocol: a\r\n qmux-02\r\n", False),
        (b"", False),
    ],
)
def test_requests_for_sessions(lines: bytes, found: bool) -> None:
    assert asks_for_session(UPGRADE + lines + b"\r\n", offers_qmux) == found


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"GET", b"POST"), (b"WebSocket", b"h2c"), (b"upgrade\r\n", b"close\r\n"), (b"/1.1", b"/2.0")],
)
def test_other_requests(old: bytes, new: bytes) -> None:
    offer = b"sec-websocket-protocol: qmux-02\r\n\r\n"
    assert asks_for_session(UPGRADE + offer, offers_qmux)
    assert not asks_for_session(UPGRADE.replace(old, new) + offer, offers_qmux)
