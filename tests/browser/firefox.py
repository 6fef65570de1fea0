"""Firefox without a screen, driven over WebDriver BiDi."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from websockets.sync.client import connect

from .driver import START_TIMEOUT, Browser, Commands, Page, PageError, find

__all__ = ["Firefox", "find_firefox"]

_NAMES = ("firefox-esr", "firefox")
# The browser talks to nobody but the tests. (That it is driven switches off most of the rest.)
_PREFERENCES = {
    "app.normandy.enabled": False,
    "browser.region.network.url": "",
    "datareporting.healthreport.uploadEnabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "dom.push.connection.enabled": False,
    "extensions.getAddons.cache.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.http.speculative-parallel-limit": 0,
    "network.trr.mode": 5,
    "security.remote_settings.crlite_filters.enabled": False,
    "services.settings.server": "data:,none",
    "toolkit.telemetry.enabled": False,
    "toolkit.telemetry.server": "",
}
# The browser writes here where it listens.
_ADDRESS = "WebDriverBiDiServer.json"


def find_firefox() -> str:
    """Path of the browser.

    Raises:
        FileNotFoundError: None is installed; the message names what to install.
    """
    return find(
        (os.environ.get("FIREFOX", ""), *_NAMES),
        "the browser tests need Firefox (Debian package `firefox-esr`), or FIREFOX set to its path",
    )


class Firefox(Browser):
    """One process of Firefox.

    Args:
        preferences: Further ones.
        trusts_all: Any certificate will do.
    """

    def __init__(
        self, preferences: Mapping[str, Any] | None = None, *, trusts_all: bool = False
    ) -> None:
        super().__init__("firefox")
        self._stack = contextlib.ExitStack()
        self._commands: Commands | None = None
        values = {**_PREFERENCES, **(preferences or {})}
        lines = (f"user_pref({json.dumps(k)}, {json.dumps(v)});" for k, v in values.items())
        (self.profile / "user.js").write_text("\n".join(lines))
        try:
            options = ["--headless", "--no-remote", "--remote-debugging-port", "0"]
            self._start([find_firefox(), *options, "--profile", str(self.profile)])
        except BaseException:
            self._profile.cleanup()
            raise
        try:
            socket = self._stack.enter_context(
                connect(self._address(), open_timeout=START_TIMEOUT, max_size=None)
            )
            self._commands = Commands("Firefox", socket, socket.send, self.last_words)
            wanted = {"alwaysMatch": {"acceptInsecureCerts": True}} if trusts_all else {}
            session = self.call("session.new", capabilities=wanted).result(START_TIMEOUT)
        except BaseException:
            self.close()
            raise
        about = session["capabilities"]
        self.version = f"Firefox {about['browserVersion']}"

    def call(self, method: str, **params: Any) -> Future[dict[str, Any]]:
        """Send a command."""
        assert self._commands is not None
        return self._commands.call(method, params)

    def open_page(self, url: str) -> Page:
        """Load ``url`` in a new tab of its own user context."""
        user = self.call("browser.createUserContext").result(START_TIMEOUT)["userContext"]
        tab = self.call("browsingContext.create", type="tab", userContext=user).result(
            START_TIMEOUT
        )["context"]
        self.call("browsingContext.navigate", context=tab, url=url, wait="complete").result(
            START_TIMEOUT
        )
        return _Tab(self, user, tab)

    def close(self) -> None:
        """End the browser and remove its profile. Idempotent."""
        if self._process.poll() is None:
            if self._commands is None:
                self._process.terminate()
            else:
                with contextlib.suppress(PageError, OSError):
                    self.call("browser.close")
            self._wait()
        self._stack.close()
        if self._commands is not None:
            self._commands.join()
        self._profile.cleanup()

    def _address(self) -> str:
        """Where it listens, once it does."""
        file = self.profile / _ADDRESS
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(OSError, ValueError):
                told = json.loads(file.read_text())
                return f"ws://{told['ws_host']}:{told['ws_port']}/session"
            time.sleep(0.02)
        raise PageError(f"Firefox does not listen: {self.last_words()}")


class _Tab(Page):
    def __init__(self, browser: Firefox, user: str, tab: str) -> None:
        self._browser = browser
        self._user = user
        self._tab = tab
        self._closed = False

    async def run(self, function: str, *args: Any) -> Any:
        call = f"({function})({', '.join(json.dumps(arg) for arg in args)})"
        answer = await asyncio.wrap_future(
            self._browser.call(
                "script.evaluate",
                expression=f"(async () => JSON.stringify(await {call}) ?? 'null')()",
                target={"context": self._tab},
                awaitPromise=True,
            )
        )
        if answer["type"] == "exception":
            raise PageError(answer["exceptionDetails"]["text"])
        return json.loads(answer["result"]["value"])

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._browser.call("browser.removeUserContext", userContext=self._user).result(
            START_TIMEOUT
        )
