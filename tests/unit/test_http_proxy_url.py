"""The URL of the HTTP proxy of the fallback."""

from __future__ import annotations

import base64

import pytest

from pywebtransport import ClientConfig, ConfigurationError
from pywebtransport.testing import Network
from pywebtransport.utils._http_proxy import HttpProxy


def basic(pair: bytes) -> str:
    return "Basic " + base64.b64encode(pair).decode()


@pytest.mark.parametrize(
    ("url", "host", "port", "authorization"),
    [
        ("http://proxy.example:3128", "proxy.example", 3128, ""),
        ("HTTP://Proxy.Example:3128/", "proxy.example", 3128, ""),
        ("http://[2001:db8::1]:1", "2001:db8::1", 1, ""),
        ("http://proxy", "proxy", 80, ""),
        ("http://192.0.2.1:65535", "192.0.2.1", 65535, ""),
        ("http://me:secret@p:8080", "p", 8080, basic(b"me:secret")),
        ("http://me@p:8080", "p", 8080, basic(b"me:")),
        ("http://me:a:b@p:8080", "p", 8080, basic(b"me:a:b")),
        ("http://m%40e:%2F%c3%a9@p:80", "p", 80, basic("m@e:/é".encode())),
    ],
)
def test_url_is_taken_apart(url: str, host: str, port: int, authorization: str) -> None:
    proxy = ClientConfig(fallback="websocket", fallback_proxy=url).http_proxy
    assert proxy is not None
    assert (proxy.host, proxy.port, proxy.authorization) == (host, port, authorization)


def test_no_url_is_no_proxy() -> None:
    assert ClientConfig(fallback="websocket").http_proxy is None


def test_name_for_messages_has_brackets_and_no_password() -> None:
    assert HttpProxy.parse("http://a:b@[::1]:9").name == "[::1]:9"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", ""),
        ("proxy:3128", ""),
        ("https://proxy:3128", ""),
        ("socks5://proxy:3128", ""),
        ("http://:3128", ""),
        ("http://proxy:port", ""),
        ("http://proxy:3128/path", ""),
        ("http://proxy:3128?q", ""),
        ("http://pro xy:3128", ""),
        ("http://proxy:3128\n", ""),
        ("http://prö\u200bxy:3128", ""),
        ("http://proxy:0", "the port is 0"),
        ("http://proxy:65536", "the port is 65536"),
        ("http://1.2.3:80", "not an IPv4 address"),
        ("http://[::g]:80", "not an IPv6 address"),
        ("http://a%3Ab:c@proxy:80", "colon"),
        (b"http://proxy:80", ""),
        (3128, ""),
    ],
)
def test_anything_else_is_refused(url: object, why: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        ClientConfig.from_dict({"fallback": "websocket", "fallback_proxy": url})
    assert caught.value.config_key == "fallback_proxy"
    assert why in str(caught.value)
    assert "http://[user:password@]host[:port]" in str(caught.value)


def test_the_password_is_not_shown() -> None:
    for fields in (
        {"fallback": "websocket", "fallback_proxy": "http://me:secret@proxy:99999"},
        {"fallback": "websocket", "fallback_proxy": "http://me:secret@proxy/x"},
        {"fallback_proxy": "http://me:secret@proxy:3128"},
    ):
        with pytest.raises(ConfigurationError) as caught:
            ClientConfig.from_dict(fields)
        assert "secret" not in repr(caught.value)
    config = ClientConfig(fallback="websocket", fallback_proxy="http://me:secret@proxy:3128")
    assert "secret" not in repr(config)


def test_a_fallback_needs_sockets() -> None:
    with pytest.raises(ConfigurationError) as caught:
        ClientConfig(fallback="websocket", network=Network())
    assert caught.value.config_key == "fallback"
