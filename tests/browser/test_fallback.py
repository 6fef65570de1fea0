"""The chat of ``examples/fallback`` in Chromium, where UDP gets through and where it does not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.interop.environment import node
from tests.support.certificates import Pair
from tests.support.network import NoUdp, why_no_rules
from tests.support.ports import free_port

from .chromium import Chromium
from .driver import Page
from .examples import ROOT, TIMEOUT, until

pytestmark = pytest.mark.loops("asyncio")
CHAT = ROOT / "examples" / "fallback" / "one_room.py"


@pytest.fixture
def network() -> Iterator[NoUdp]:
    """Where UDP packets to ``::1`` vanish."""
    if why_no_rules():
        pytest.skip(why_no_rules())
    with NoUdp("::1") as half:
        yield half


@contextmanager
def served(network: NoUdp, directory: Path) -> Iterator[str]:
    """Run the example in a network; gives its address."""
    arguments = ["--port", str(free_port()), "--modules", str(node() / "node_modules")]
    process = subprocess.Popen(
        [*network.inside, sys.executable, "-W", "error", str(CHAT), *arguments],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield next(word for word in process.stdout.readline().split() if "://" in word)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=TIMEOUT)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0, errors
    assert "Traceback" not in errors


@contextmanager
def visited(network: NoUdp, directory: Path, url: str, address: str) -> Iterator[Page]:
    """A page of a browser in the network, for which the server has one address."""
    certificate = Pair(str(directory / "localhost.crt"), str(directory / "localhost.key"))
    flags = (
        f"--ignore-certificate-errors-spki-list={certificate.key_hash}",
        f"--host-resolver-rules=MAP localhost {address}",
    )
    with Chromium(flags=flags, inside=network.inside) as browser:
        yield browser.open_page(url)


async def say(page: Page, text: str) -> None:
    """Type a line and send it."""
    await page.run(
        """(line) => {
          document.getElementById("text").value = line;
          document.getElementById("form").requestSubmit();
        }""",
        text,
    )


async def test_browsers_on_http3_and_on_tcp_are_in_one_room(network: NoUdp, tmp_path: Path) -> None:
    status = "example.connection.state === 'open' && document.getElementById('status').textContent"
    last = "example.lines().at(-1)?.split(': ')[1] ==="
    with (
        served(network, tmp_path) as url,
        visited(network, tmp_path, url, "127.0.0.1") as ann,
        visited(network, tmp_path, url, "[::1]") as bob,
    ):
        assert await until(ann, status) == "over HTTP/3"
        assert await until(bob, status) == "over TCP"
        await say(ann, "hello é")
        for page in ann, bob:
            await until(page, f"{last} 'hello é'")
        await say(bob, "and back")
        for page in ann, bob:
            await until(page, f"{last} 'and back'")
