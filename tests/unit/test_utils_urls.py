"""URLs and addresses."""

import asyncio
import ipaddress
import socket
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pywebtransport import utils
from pywebtransport.client import WebTransportProxy
from pywebtransport.exceptions import ConfigurationError, UnreachableError
from pywebtransport.utils._hosts import ascii_host


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("https://example.org", ("example.org", 443, "/")),
        ("https://Example.ORG/", ("example.org", 443, "/")),
        ("HTTPS://example.org:4433/chat", ("example.org", 4433, "/chat")),
        ("https://example.org?room=1", ("example.org", 443, "/?room=1")),
        ("https://example.org/a/b?c=d&e=%20f?g", ("example.org", 443, "/a/b?c=d&e=%20f?g")),
        ("https://127.0.0.1:1/", ("127.0.0.1", 1, "/")),
        ("https://[::1]:65535/x", ("::1", 65535, "/x")),
        ("https://[2001:DB8:0:0::1]", ("2001:db8::1", 443, "/")),
        ("https://bücher.example/ä?ö", ("xn--bcher-kva.example", 443, "/%C3%A4?%C3%B6")),
        ("https://localhost./", ("localhost.", 443, "/")),
        ("https://my_host/", ("my_host", 443, "/")),
        ("https://a/%2F%7e", ("a", 443, "/%2F%7e")),
        ("https://a/<x>", ("a", 443, "/%3Cx%3E")),
        # UTS 46, non-transitional: what a browser makes of them.
        ("https://faß.de/", ("xn--fa-hia.de", 443, "/")),
        ("https://xn--fa-hia.de/", ("xn--fa-hia.de", 443, "/")),
        ("https://FASS.de/", ("fass.de", 443, "/")),
        ("https://BÜCHER.example./", ("xn--bcher-kva.example.", 443, "/")),
        ("https://βόλος.com/", ("xn--nxasmm1c.com", 443, "/")),
        ("https://💩.la/", ("xn--ls8h.la", 443, "/")),
        ("https://☃.net/", ("xn--n3h.net", 443, "/")),
        ("https://\uff45xample\u3002org/", ("example.org", 443, "/")),
        ("https://a\uff0eb/", ("a.b", 443, "/")),
        ("https://ab\u00adc.de/", ("abc.de", 443, "/")),
        ("https://xn--mgba3gch31f060k.com/", ("xn--mgba3gch31f060k.com", 443, "/")),
        (
            "https://\u0646\u0627\u0645\u0647\u200c\u0627\u06cc.com/",
            ("xn--mgba3gch31f060k.com", 443, "/"),
        ),
        ("https://bu\u0308cher.example/", ("xn--bcher-kva.example", 443, "/")),
        ("https://א.example/", ("xn--4db.example", 443, "/")),
        ("https://_dmarc.ä_b.example/", ("_dmarc.xn--_b-uia.example", 443, "/")),
        # RFC 6874.
        ("https://[fe80::1%25eth0]:4433/", ("fe80::1%eth0", 4433, "/")),
        ("https://[FE80:0::1%25Eth0.1]/", ("fe80::1%Eth0.1", 443, "/")),
        ("https://[fe80::1%2525]/", ("fe80::1%25", 443, "/")),
        ("https://[fe80::1%25a%7eb]/", ("fe80::1%a~b", 443, "/")),
    ],
)
def test_good_url(url: str, parts: tuple[str, int, str]) -> None:
    assert utils.parse_webtransport_url(url) == parts
    assert utils.validate_url(url=url)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "expected https://"),
        (None, "expected https://"),
        (b"https://a/", "expected https://"),
        ("a", "the scheme is ''"),
        ("http://a/", "the scheme is 'http'; expected 'https'"),
        ("wss://a/", "the scheme is 'wss'"),
        ("https:a", "expected '//'"),
        ("https:/a", "expected '//'"),
        ("https://", "the host is missing"),
        ("https:///path", "the host is missing"),
        ("https://:443/", "the host is missing"),
        ("https://a:0/", "the port is '0'; expected 1 to 65535"),
        ("https://a:65536/", "the port is '65536'"),
        ("https://a:/", "the port is ''"),
        ("https://a:4433x/", "the port is '4433x'"),
        ("https://a:+1/", r"the port is '\+1'"),
        ("https://a:\u0661/", "the port is"),
        ("https://a:1:2/", "the port is '1:2'"),
        ("https://a:99999999999999999999/", "the port is"),
        ("https://user@a/", "user names and passwords"),
        ("https://user:secret@a/", "user names and passwords"),
        ("https://a/#part", "no fragment"),
        ("https://a/#", "no fragment"),
        ("https://a b/", "spaces"),
        ("https://a/b c", "spaces"),
        ("https://a/\n", "control characters"),
        ("https://a\\b/", "backslashes"),
        ("https://[::1", "the ']' after the IPv6 address is missing"),
        ("https://[::1]x/", "unexpected 'x'"),
        ("https://[fe80::1%eth0]/", "a zone begins with '%25'"),
        ("https://[fe80::1%25]/", "the zone after '%'"),
        ("https://[fe80::1%25a%2Fb]/", "the zone after '%'"),
        ("https://[fe80::1%25a%20b]/", "the zone after '%'"),
        ("https://xn--a/", "not a valid international name"),
        ("https://xn--bucher-.example/", "not a valid international name"),
        ("https://\u0301a.example/", "not a valid international name"),
        ("https://a\u200db.example/", "a joiner is out of place"),
        ("https://\u2488.example/", "not a valid international name"),
        ("https://\u05d0a.example/", "not a valid international name"),
        ("https://[v1.x]/", "not an IPv6 address"),
        ("https://a]/", "not a host name"),
        ("https://a,b/", "not a host name"),
        ("https://a*b/", "not a host name"),
        ("https:\\\\a/", "backslashes"),
        ("https://a\x7f/", "control characters"),
        ("https://a\u202e/", "control characters"),
        ("https://[127.0.0.1]/", "not an IPv6 address"),
        ("https://[::12345]/", "not an IPv6 address"),
        ("https://::1/", "the host is missing"),
        ("https://1.2.3/", "not an IPv4 address"),
        ("https://127.1/", "not an IPv4 address"),
        ("https://0x7f000001/", "not an IPv4 address"),
        ("https://0X7F.1/", "not an IPv4 address"),
        ("https://2130706433/", "not an IPv4 address"),
        ("https://a.0x/", "not an IPv4 address"),
        ("https://256.1.1.1/", "not an IPv4 address"),
        ("https://-a/", "not a host name"),
        ("https://a..b/", "not a host name"),
        ("https://a%2eb/", "not a host name"),
        (f"https://{'a' * 64}/", "not a host name: 63 characters between two dots"),
        (f"https://{'a.' * 127}a/", "not a host name"),
        (f"https://{'ä' * 70}/", "not a host name: 63 characters between two dots"),
    ],
)
def test_bad_url(url: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        utils.parse_webtransport_url(url)
    shown = url.replace("secret", "***") if isinstance(url, str) else url
    assert (caught.value.config_key, caught.value.config_value) == ("url", shown)
    assert not utils.validate_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://name:secret@a/",
        "https://name:secret@a:1/?x=@",
        "http://name:secret@a/",
        "name:secret@a/",
        "https://name:secret@a/b c",
        "https://name:secret@a/#x",
        "https://na@me:secret@a/",
        "https://name:secret@[::1/",
        "//name:secret@a/",
    ],
)
def test_no_password_is_shown(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        utils.parse_webtransport_url(url)
    error = caught.value
    for text in (str(error), repr(error), str(error.to_dict())):
        assert "secret" not in text
        assert "***@" in text
    with pytest.raises(ConfigurationError) as caught:
        WebTransportProxy(proxy_url=url)
    assert "secret" not in repr(caught.value)


LABEL = st.from_regex(r"[a-z]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
HOST = st.one_of(
    st.lists(LABEL, min_size=1, max_size=4).map(".".join),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
    st.ip_addresses(v=6).map(lambda address: f"{address}%eth0"),
)


@given(
    host=HOST,
    port=st.integers(1, 65535),
    path=st.text(st.characters(codec="utf-8"), max_size=20),
    query=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
)
def test_a_built_url_is_taken_apart_again(
    host: str, port: int, path: str, query: dict[str, str]
) -> None:
    assume("?" not in path)  # it would begin the query
    url = utils.build_webtransport_url(host=host, port=port, path=path, query_params=query)
    parsed_host, parsed_port, target = utils.parse_webtransport_url(url)
    if ":" in host:
        assert ipaddress.ip_address(parsed_host) == ipaddress.ip_address(host)
    else:
        assert parsed_host == host
    assert parsed_port == port
    assert target.startswith("/")
    assert target.isascii()
    found = dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))
    assert found == query


@given(st.text(max_size=40))
def test_any_text_is_taken_apart_or_refused(text: str) -> None:
    for url in (text, f"https://{text}", f"https://a/{text}"):
        if utils.validate_url(url):
            host, port, target = utils.parse_webtransport_url(url)
            assert host == host.lower()
            assert host.isascii()
            assert 1 <= port <= 65535
            assert target.startswith("/")
            assert target.isascii()


@given(HOST, st.integers(1, 65535), st.text(max_size=20))
def test_parsing_is_stable(host: str, port: int, path: str) -> None:
    """What comes out, put together and taken apart again, is the same."""
    url = utils.build_webtransport_url(host=host, port=port, path=path)
    parts = utils.parse_webtransport_url(url)
    authority = f"[{parts[0].replace('%', '%25')}]" if ":" in parts[0] else parts[0]
    assert utils.parse_webtransport_url(f"https://{authority}:{parts[1]}{parts[2]}") == parts


def test_build_url() -> None:
    build = utils.build_webtransport_url
    assert build(host="a", port=443) == "https://a/"
    assert build(host="a", port=4433, path="chat") == "https://a:4433/chat"
    assert build(host="[::1]", port=1) == build(host="::1", port=1) == "https://[::1]:1/"
    assert build(host="a", port=443, path="/x?y=1", query_params={"z": "2"}) == (
        "https://a/x?y=1&z=2"
    )
    assert build(host="a", port=443, query_params={"z": "ä b"}) == "https://a/?z=%C3%A4+b"
    assert build(host="a", port=443, secure=False) == "http://a:443/"


@pytest.mark.parametrize(("host", "port"), [("", 1), ("a b", 1), ("a", 0), ("a", 65536)])
def test_build_url_refuses_impossible_parts(host: str, port: int) -> None:
    with pytest.raises(ConfigurationError):
        utils.build_webtransport_url(host=host, port=port)


@pytest.mark.parametrize(
    ("host", "version"),
    [("127.0.0.1", 4), ("::1", 6), ("[::1]", 0), ("1.2.3", 0), ("localhost", 0), (None, 0)],
)
def test_is_address(host: Any, version: int) -> None:
    assert utils.is_ipv4_address(host) is (version == 4)
    assert utils.is_ipv6_address(host=host) is (version == 6)


@pytest.mark.parametrize(
    ("host", "written"),
    [
        ("Example.ORG", "example.org"),
        ("faß.de", "xn--fa-hia.de"),
        ("[::1]", "::1"),
        ("::0001", "::1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("[fe80::1%eth0]", "fe80::1%eth0"),
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1.", "127.0.0.1."),
    ],
)
def test_host_in_ascii(host: str, written: str) -> None:
    assert ascii_host(host) == written
    assert ascii_host(written) == written


@pytest.mark.parametrize("host", ["", "a b", "[a]", "1:2", "[::1", "a/b", "ä" * 100_000, 3, None])
def test_what_is_no_host(host: Any) -> None:
    with pytest.raises(ConfigurationError, match="host = ") as caught:
        ascii_host(host)
    assert len(str(caught.value)) < 500


@given(st.text(max_size=30))
def test_any_text_is_a_host_or_refused(text: str) -> None:
    try:
        host = ascii_host(text)
    except ConfigurationError:
        return
    assert host.isascii()
    assert ascii_host(host) == host


async def test_resolve_a_literal() -> None:
    assert await utils.resolve_address("127.0.0.1", 4433) == ("127.0.0.1", 4433)
    assert await utils.resolve_address(host="::1", port=1, family=socket.AF_INET6) == ("::1", 1)


@pytest.mark.parametrize("host", ["name.invalid", "a" * 70])
def test_resolve_failure(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def getaddrinfo(name: str, *args: Any, **kwargs: Any) -> Any:
        # No test asks the network; a label over 63 characters fails before it would.
        if name.endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(UnreachableError, match="could not be resolved") as caught:
        asyncio.run(utils.resolve_address(host, 1))
    assert caught.value.remote_address == (host, 1)
    assert caught.value.__cause__ is not None
