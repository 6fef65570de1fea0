"""The FastAPI example in browsers: page and fetch over HTTP/3, WebSocket over TCP, sessions."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.asgi.clients import Request, perform
from tests.support.certificates import Certificates
from tests.support.command_line import Program, running

from .chromium import Chromium
from .driver import Browser, Page
from .examples import until
from .firefox import Firefox

pytestmark = pytest.mark.loops("asyncio")
APPLICATION = "examples.frameworks.fastapi_app:app"
PROTOCOL = "(name) => performance.getEntriesByName(new URL(name, location))[0].nextHopProtocol"


@pytest.fixture
def program(certs: Certificates, tmp_path: Path) -> Iterator[Program]:
    """The example, as its page says it is started."""
    certificate = ("--certfile", certs.server.certfile, "--keyfile", certs.server.keyfile)
    arguments = ("serve", APPLICATION, "--host", "127.0.0.1", "--port", "0", "--json")
    with running(tmp_path, *arguments, *certificate) as running_program:
        yield running_program


async def say(page: Page, text: str) -> None:
    """Type a line and press the button."""
    await page.run(
        """(line) => {
          document.getElementById("text").value = line;
          document.querySelector("button").click();
        }""",
        text,
    )


def chromium(port: int, certs: Certificates) -> Browser:
    """Chromium that takes HTTP/3 at once, and the certificate of the tests."""
    flags = (
        f"--origin-to-force-quic-on=localhost:{port}",
        f"--ignore-certificate-errors-spki-list={certs.server.key_hash}",
        "--host-resolver-rules=MAP localhost 127.0.0.1",
    )
    return Chromium(flags=flags)


def firefox(port: int, certs: Certificates) -> Browser:
    """The same of Firefox."""
    preferences = {
        "network.dns.disableIPv6": True,
        "network.http.http3.alt-svc-mapping-for-testing": f"localhost;h3=:{port}",
        "network.http.http3.disable_when_third_party_roots_found": False,
    }
    return Firefox(preferences, trusts_all=True)


@pytest.mark.parametrize("start", [chromium, firefox])
async def test_fastapi_example_serves_a_page_with_everything(
    program: Program, certs: Certificates, start: Callable[[int, Certificates], Browser]
) -> None:
    port = program.read_banner()["addresses"][0][1]
    origin = f"localhost:{port}"
    with start(port, certs) as browser:
        ann, bob = (browser.open_page(f"https://{origin}/") for _ in range(2))
        for page in ann, bob:
            await until(page, "document.getElementById('echo').value === 'A WEB SOCKET'")
            assert await page.run(PROTOCOL, "/") == "h3"
            assert await page.run(PROTOCOL, "/api/lines") == "h3"
            await until(page, "document.querySelector('form').onsubmit")
        await say(ann, "<b>hello</b> é")
        for page in ann, bob:
            line = "document.querySelector('li')?.textContent"
            await until(page, f"{line} === '<b>hello</b> é'")
        late = browser.open_page(f"https://{origin}/")
        await until(late, "document.getElementById('rest').value === '1 lines so far'")
        request = Request("/api/lines?by=curl")
        answer = await asyncio.to_thread(perform, request, port, "3", certs.authority.certfile)
        assert answer.body.decode() == '["<b>hello</b> é"]'
    assert program.stop() == 0
    log = program.errors
    for line in (
        '"GET / HTTP/3" 200',
        '"GET /api/lines HTTP/3" 200',
        '"CONNECT /chat" 200',
        "GET /api/lines?",
    ):
        assert line in log, log
    # Both open WebSockets over TCP, also from a page that came over HTTP/3.
    assert re.search(r'"GET /echo HTTP/1\.1" 101', log), log
