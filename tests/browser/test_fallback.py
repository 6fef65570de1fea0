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

from .chromium import Chromium, Tab
from .driver import Page
from .examples import ROOT, TIMEOUT, until

pytestmark = pytest.mark.loops("asyncio")
CHAT = ROOT / "examples" / "fallback" / "one_room.py"
STATUS = "example.connection.state === 'open' && document.getElementById('status').textContent"
# Opens sessions of the helper; `told` says what was called for each.
TRY = """async (steps) => {
  const { connect } = await import("/js/pywebtransport.js");
  const { default: Session } = await import("@moq/qmux");
  const Native = globalThis.WebTransport;
  const { path, certificateHash } = await (await fetch("config.json")).json();
  const target = { url: new URL(path, location).href, certificateHash };
  const answers = [];
  for (const step of steps) {
    const told = [];
    globalThis.WebTransport = class extends Native {
      constructor(...given) {
        super(...given);
        told.push("native");
      }
    };
    if (step === "no native") delete globalThis.WebTransport;
    const fallback = async (url, options) => {
      told.push("fallback", ...Object.keys(options));
      if (step === "broken") throw new Error("no module");
      return new Session(url, options);
    };
    try {
      const session = await connect(target, { fallback, fallbackAfterMs: 300 });
      told.push(session instanceof Session ? "over TCP" : "over HTTP/3");
      session.close();
    } catch (error) {
      told.push(error.name);
    }
    answers.push(told.join(", "));
  }
  globalThis.WebTransport = Native;
  return answers;
}"""


@pytest.fixture(scope="module")
def network() -> Iterator[NoUdp]:
    """Where UDP packets to ``::1`` vanish."""
    if why_no_rules():
        pytest.skip(why_no_rules())
    with NoUdp("::1") as half:
        yield half


class Chat:
    """The example.

    Attributes:
        url: Of its page.
        certificate: What it has made for itself.
    """

    def __init__(self, url: str, directory: Path) -> None:
        self.url = url
        self.certificate = Pair(str(directory / "localhost.crt"), str(directory / "localhost.key"))


@pytest.fixture(scope="module")
def chat(network: NoUdp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chat]:
    """The example, in the network."""
    directory = tmp_path_factory.mktemp("chat")
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
        url = next(word for word in process.stdout.readline().split() if "://" in word)
        yield Chat(url, directory)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=TIMEOUT)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0, errors
    assert "Traceback" not in errors


@contextmanager
def started(network: NoUdp, chat: Chat, address: str) -> Iterator[Chromium]:
    """A browser in the network, for which the server has one address."""
    flags = (
        f"--ignore-certificate-errors-spki-list={chat.certificate.key_hash}",
        f"--host-resolver-rules=MAP localhost {address}",
    )
    with Chromium(flags=flags, inside=network.inside) as browser:
        yield browser


@pytest.fixture(scope="module")
def with_udp(network: NoUdp, chat: Chat) -> Iterator[Chromium]:
    """A browser whose UDP packets reach the server."""
    with started(network, chat, "127.0.0.1") as browser:
        yield browser


@pytest.fixture(scope="module")
def without_udp(network: NoUdp, chat: Chat) -> Iterator[Chromium]:
    """A browser whose UDP packets vanish."""
    with started(network, chat, "[::1]") as browser:
        yield browser


@contextmanager
def opened(browser: Chromium, url: str) -> Iterator[Tab]:
    """A page of it."""
    tab = browser.open_page(url)
    try:
        yield tab
    finally:
        tab.close()


async def say(page: Page, text: str) -> None:
    """Type a line and send it."""
    await page.run(
        """(line) => {
          document.getElementById("text").value = line;
          document.getElementById("form").requestSubmit();
        }""",
        text,
    )


async def test_browsers_on_http3_and_on_tcp_are_in_one_room(
    chat: Chat, with_udp: Chromium, without_udp: Chromium
) -> None:
    last = "example.lines().at(-1)?.split(': ')[1] ==="
    with opened(with_udp, chat.url) as ann, opened(without_udp, chat.url) as bob:
        assert await until(ann, STATUS) == "over HTTP/3"
        assert await until(bob, STATUS) == "over TCP"
        await say(ann, "hello é")
        for page in ann, bob:
            await until(page, f"{last} 'hello é'")
        await say(bob, "and back")
        for page in ann, bob:
            await until(page, f"{last} 'and back'")


async def test_the_fallback_is_remembered_until_it_fails(chat: Chat, without_udp: Chromium) -> None:
    steps = ["", "", "broken", "", "no native"]
    with opened(without_udp, chat.url) as page:
        assert await page.run(TRY, steps) == [
            "native, fallback, over TCP",
            "fallback, over TCP",
            "fallback, ConnectionError",
            "native, fallback, over TCP",
            "fallback, over TCP",
        ]


async def test_the_fallback_is_left_alone_while_udp_gets_through(
    chat: Chat, with_udp: Chromium
) -> None:
    with opened(with_udp, chat.url) as page:
        assert await page.run(TRY, ["", "", "broken", "no native"]) == [
            "native, over HTTP/3",
            "native, over HTTP/3",
            "native, over HTTP/3",
            "fallback, over TCP",
        ]
