"""Chromium without a screen, driven over the DevTools protocol on a pair of pipes."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Self

__all__ = ["Chromium", "Page", "PageError", "find_chromium"]

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
# What a start may take on a busy machine, and any one command besides a script.
_START_TIMEOUT = 60.0
_EXIT_TIMEOUT = 10.0


class PageError(Exception):
    """A script of a page threw; the message is the browser's."""


def find_chromium() -> str:
    """Path of the browser.

    Raises:
        FileNotFoundError: None is installed; the message names what to install.
    """
    for name in (os.environ.get("CHROMIUM", ""), *_NAMES):
        path = shutil.which(name) if name else None
        if path is not None:
            return path
    raise FileNotFoundError(
        "the browser tests need Chromium (Debian package `chromium`), or CHROMIUM set to its path"
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


class Chromium:
    """One browser process with a fresh profile; ``close`` ends it and removes the profile."""

    def __init__(self) -> None:
        self._profile = tempfile.TemporaryDirectory(
            prefix="pywebtransport-chromium-", ignore_cleanup_errors=True
        )
        self.log = Path(self._profile.name) / "browser.log"
        commands_in, self._commands = _high_pipe()
        self._answers, answers_out = _high_pipe()
        command = [sys.executable, "-c", _LAUNCHER, str(commands_in), str(answers_out)]
        try:
            command += [find_chromium(), *_FLAGS, f"--user-data-dir={self._profile.name}"]
            with self.log.open("wb") as log:
                self._process = subprocess.Popen(
                    command,
                    pass_fds=(commands_in, answers_out),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
        except BaseException:
            os.close(self._commands)
            os.close(self._answers)
            self._profile.cleanup()
            raise
        finally:
            os.close(commands_in)
            os.close(answers_out)
        self._lock = threading.Lock()
        self._last_id = 0
        self._pending: dict[int, Future[dict[str, Any]]] = {}
        self._gone = False
        self._reader = threading.Thread(target=self._read, name="chromium", daemon=True)
        self._reader.start()
        try:
            version = self.call("Browser.getVersion").result(_START_TIMEOUT)
        except BaseException:
            self.close()
            raise
        self.version = str(version["product"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def call(
        self, method: str, params: dict[str, Any] | None = None, session: str | None = None
    ) -> Future[dict[str, Any]]:
        """Send a command; the future has its result, or raises ``PageError``."""
        future: Future[dict[str, Any]] = Future()
        message: dict[str, Any] = {"method": method, "params": params or {}}
        if session is not None:
            message["sessionId"] = session
        with self._lock:
            if self._gone:
                raise PageError(f"Chromium is gone: {self._tail()}")
            self._last_id += 1
            message["id"] = self._last_id
            self._pending[self._last_id] = future
            data = json.dumps(message).encode() + b"\0"
            while data:
                data = data[os.write(self._commands, data) :]
        return future

    def open_page(self, url: str) -> Page:
        """Load ``url`` in a new tab of its own browser context."""
        context = self.call("Target.createBrowserContext").result(_START_TIMEOUT)[
            "browserContextId"
        ]
        target = self.call(
            "Target.createTarget", {"url": "about:blank", "browserContextId": context}
        ).result(_START_TIMEOUT)["targetId"]
        session = self.call("Target.attachToTarget", {"targetId": target, "flatten": True}).result(
            _START_TIMEOUT
        )["sessionId"]
        self.call("Page.navigate", {"url": url}, session).result(_START_TIMEOUT)
        loaded = (
            "new Promise((done) => document.readyState === 'complete'"
            " ? done() : addEventListener('load', done))"
        )
        self.call("Runtime.evaluate", {"expression": loaded, "awaitPromise": True}, session).result(
            _START_TIMEOUT
        )
        return Page(self, context, session)

    def close(self) -> None:
        """End the browser and remove its profile. Idempotent."""
        if self._process.poll() is None:
            with contextlib.suppress(PageError, OSError):
                self.call("Browser.close")
            try:
                self._process.wait(_EXIT_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._reader.join()
        if self._commands >= 0:
            os.close(self._commands)
            os.close(self._answers)
            self._commands = self._answers = -1
        self._profile.cleanup()

    def _read(self) -> None:
        buffer = b""
        while data := os.read(self._answers, 1 << 16):
            *messages, buffer = (buffer + data).split(b"\0")
            for message in messages:
                self._answer(json.loads(message))
        with self._lock:
            self._gone = True
            pending = list(self._pending.values())
            self._pending.clear()
        for future in pending:
            if future.set_running_or_notify_cancel():
                future.set_exception(PageError(f"Chromium is gone: {self._tail()}"))

    def _answer(self, message: dict[str, Any]) -> None:
        with self._lock:
            future = self._pending.pop(message.get("id", 0), None)
        if future is None or not future.set_running_or_notify_cancel():
            return
        if "error" in message:
            future.set_exception(PageError(message["error"].get("message", str(message))))
        else:
            future.set_result(message.get("result", {}))

    def _tail(self) -> str:
        try:
            return self.log.read_text(errors="replace")[-2000:]
        except OSError:
            return "no log"


class Page:
    """One tab."""

    def __init__(self, browser: Chromium, context: str, session: str) -> None:
        self._browser = browser
        self._context = context
        self._session = session

    async def run(self, function: str, *args: Any) -> Any:
        """Call a JavaScript function of the page and wait for its promise.

        Args:
            function: An expression that is a function, such as ``checks.echo``.
            args: Values that JSON can hold.

        Returns:
            The result, which must be a value that JSON can hold.

        Raises:
            PageError: The function threw, or the promise was rejected.
        """
        call = f"({function})({', '.join(json.dumps(arg) for arg in args)})"
        answer = await asyncio.wrap_future(
            self._browser.call(
                "Runtime.evaluate",
                {"expression": call, "awaitPromise": True, "returnByValue": True},
                self._session,
            )
        )
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            thrown = details.get("exception", {})
            raise PageError(thrown.get("description") or str(thrown.get("value", details["text"])))
        return answer["result"].get("value")

    def close(self) -> None:
        """Close the tab and whatever it still has open."""
        self._browser.call(
            "Target.disposeBrowserContext", {"browserContextId": self._context}
        ).result(_START_TIMEOUT)
