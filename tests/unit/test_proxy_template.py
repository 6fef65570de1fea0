"""URLs and URI templates of UDP proxies."""

from __future__ import annotations

import pytest

from pywebtransport.client._proxy_template import DEFAULT_PATH, ProxyTemplate
from pywebtransport.exceptions import ConfigurationError


@pytest.mark.parametrize(
    "url", ["https://proxy.example", "https://proxy.example/", "https://PROXY.example:443"]
)
def test_url_without_variables_has_the_path_of_the_rfc(url: str) -> None:
    template = ProxyTemplate.parse(url)
    assert template == ("proxy.example", 443, DEFAULT_PATH)
    assert template.expand("192.0.2.6", 443) == "/.well-known/masque/udp/192.0.2.6/443/"


# RFC 9298 section 2 has these.
@pytest.mark.parametrize(
    ("url", "path"),
    [
        (
            "https://example.org/.well-known/masque/udp/{target_host}/{target_port}/",
            "/.well-known/masque/udp/2001%3Adb8%3A%3A42/443/",
        ),
        (
            "https://proxy.example.org:4433/masque?h={target_host}&p={target_port}",
            "/masque?h=2001%3Adb8%3A%3A42&p=443",
        ),
        (
            "https://proxy.example.org:4433/masque{?target_host,target_port}",
            "/masque?target_host=2001%3Adb8%3A%3A42&target_port=443",
        ),
        (
            "https://[::1]:4433/m?a=b{&target_port,target_host}",
            "/m?a=b&target_port=443&target_host=2001%3Adb8%3A%3A42",
        ),
        ("https://p/{target_host,target_port}", "/2001%3Adb8%3A%3A42,443"),
    ],
)
def test_templates_are_expanded(url: str, path: str) -> None:
    template = ProxyTemplate.parse(url)
    assert template.expand("2001:db8::42", 443) == path
    assert template.port == (4433 if ":4433" in url else 443)


@pytest.mark.parametrize(
    "url",
    [
        "",
        None,
        3,
        "proxy.example:4433",
        "http://proxy.example/{target_host}/{target_port}/",
        "https://proxy.example/path",
        "https://proxy.example/{target_host}/",
        "https://proxy.example/{target_port}/",
        "https://proxy.example/{target_host}/{target_host}/{target_port}/",
        "https://proxy.example/{target_host}/{target_port}/{more}/",
        "https://proxy.example/{target_host}/{target_port}/{",
        "https://proxy.example/{target_host}/{target_port}/}",
        "https://proxy.example/{/target_host,target_port}",
        "https://proxy.example{target_host}/{target_port}/",
        "https://{target_host}:{target_port}/",
        "https://proxy.example:0/{target_host}/{target_port}/",
        "https://proxy.example/{target_host}/{target_port}/#fragment",
        "https://user@proxy.example/{target_host}/{target_port}/",
    ],
)
def test_what_is_neither_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        ProxyTemplate.parse(url)
