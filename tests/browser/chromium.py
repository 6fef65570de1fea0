"""Chromium without a screen, driven over the DevTools protocol on a pair of pipes."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

from .driver import START_TIMEOUT, Browser, Commands, Page, PageError, find

__all__ = ["Chromium", "Tab", "find_chromium"]

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
)
# The browser reads its commands from descriptor 3 and answers on 4.
_LAUNCHER = """
import os, sys
commands, answers = int(sys.argv[1]), int(sys.argv[2])
os.dup2(commands, 3)
os.dup2(answers, 4)
os.close(commands)
os.close(answers)
os.execv(sys.argv[3], sys.argv[3:])
"""


def find_chromium() -> str:
    """Path of the browser.

    Raises:
        FileNotFoundError: None is installed; the message names what to install.
    """
    return find(
        (os.environ.get("CHROMIUM", ""), *_NAMES),
        "the browser tests need Chromium (Debian package `chromium`), or CHROMIUM set to its path",
    )


def _high_pipe() -> tuple[int, int]:
    """A pipe whose descriptors are not among the first ten."""
    ends = os.pipe()
    try:
        read, write = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends)
    finally:
        for end in ends:
            os.close(end)
    return read, write


class Chromium(Browser):
    """One process of Chromium.

    Args:
        features: What to switch on beyond what is on in a release.
        flags: Further arguments of the command.
        inside: What stands before the command, such as that of a network namespace.
    """

    def __init__(
        self, *features: str, flags: Iterable[str] = (), inside: Sequence[str] = ()
    ) -> None:
        super().__init__("chromium")
        self._tabs: dict[str, Tab] = {}
        commands_in, self._commands_out = _high_pipe()
        self._answers, answers_out = _high_pipe()
        try:
            command = [*inside, sys.executable, "-c", _LAUNCHER, str(commands_in), str(answers_out)]
            command += [find_chromium(), *_FLAGS, *flags, f"--user-data-dir={self.profile}"]
            if features:
                command.append(f"--enable-features={','.join(features)}")
            self._start(command, (commands_in, answers_out))
        except BaseException:
            self._release()
            raise
        finally:
            os.close(commands_in)
            os.close(answers_out)
        self._commands = Commands(
            "Chromium", self._messages(), self._send, self.last_words, self._event
        )
        try:
            version = self.call("Browser.getVersion").result(START_TIMEOUT)
        except BaseException:
            self.close()
            raise
        self.version = str(version["product"]).removeprefix("Headless").replace("/", " ")

    def call(
        self, method: str, params: dict[str, Any] | None = None, session: str | None = None
    ) -> Future[dict[str, Any]]:
        """Send a command, to one tab if ``session`` names it."""
        return self._commands.call(method, params or {}, session)

    def open_page(self, url: str) -> Tab:
        """Load ``url`` in a new tab of its own browser context."""
        context = self.call("Target.createBrowserContext").result(START_TIMEOUT)["browserContextId"]
        target = self.call(
            "Target.createTarget", {"url": "about:blank", "browserContextId": context}
        ).result(START_TIMEOUT)["targetId"]
        session = self.call("Target.attachToTarget", {"targetId": target, "flatten": True}).result(
            START_TIMEOUT
        )["sessionId"]
        self.call("Page.navigate", {"url": url}, session).result(START_TIMEOUT)
        loaded = (
            "new Promise((done) => document.readyState === 'complete'"
            " ? done() : addEventListener('load', done))"
        )
        self.call("Runtime.evaluate", {"expression": loaded, "awaitPromise": True}, session).result(
            START_TIMEOUT
        )
        self._tabs[session] = tab = Tab(self, context, session)
        return tab

    def close(self) -> None:
        """End the browser and remove its profile. Idempotent."""
        if self._process.poll() is None:
            with contextlib.suppress(PageError, OSError):
                self.call("Browser.close")
            self._wait()
        self._commands.join()
        self._release()

    def _release(self) -> None:
        if self._commands_out >= 0:
            os.close(self._commands_out)
            os.close(self._answers)
            self._commands_out = self._answers = -1
        self._profile.cleanup()

    def _event(self, message: dict[str, Any]) -> None:
        if message["method"] == "Inspector.targetCrashed":
            tab = self._tabs.get(message["sessionId"])
            if tab is not None:
                tab.crashed = True
            self._commands.give_up("the page crashed", message["sessionId"])

    def _send(self, message: str) -> None:
        data = message.encode() + b"\0"
        while data:
            data = data[os.write(self._commands_out, data) :]

    def _messages(self) -> Iterator[bytes]:
        buffer = b""
        while data := os.read(self._answers, 1 << 16):
            *messages, buffer = (buffer + data).split(b"\0")
            yield from messages


class Tab(Page):
    """A tab of Chromium."""

    def __init__(self, browser: Chromium, context: str, session: str) -> None:
        self._browser = browser
        self._context = context
        self._session = session
        self._closed = False

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a DevTools command to this tab."""
        return await asyncio.wrap_future(self._browser.call(method, params, self._session))

    async def run(self, function: str, *args: Any) -> Any:
        call = f"({function})({', '.join(json.dumps(arg) for arg in args)})"
        answer = await self.call(
            "Runtime.evaluate", expression=call, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            thrown = details.get("exception", {})
            raise PageError(thrown.get("description") or str(thrown.get("value", details["text"])))
        return answer["result"].get("value")

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._browser.call(
            "Target.disposeBrowserContext", {"browserContextId": self._context}
        ).result(START_TIMEOUT)
