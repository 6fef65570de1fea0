"""What driving a browser takes, whichever protocol it speaks: commands, their answers, pages."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Self

__all__ = ["START_TIMEOUT", "Browser", "Commands", "Page", "PageError", "find"]

# What a start may take on a busy machine, and any one command besides a script.
START_TIMEOUT = 60.0
EXIT_TIMEOUT = 10.0


class PageError(Exception):
    """A script of a page threw; the message is the browser's."""


def find(names: Iterable[str], missing: str) -> str:
    """Path of the first program of ``names`` that there is.

    Raises:
        FileNotFoundError: There is none; ``missing`` is the message.
    """
    for name in filter(None, names):
        path = shutil.which(name)
        if path is not None:
            return path
    raise FileNotFoundError(missing)


class Commands:
    """Numbered commands to a browser; a thread hands out the answers.

    Args:
        name: Of the browser.
        messages: What the browser says, until it is gone.
        send: Takes one command.
        last_words: What to show of a browser that is gone.
        event: Called in the thread with what the browser says unasked.
    """

    def __init__(
        self,
        name: str,
        messages: Iterable[bytes | str],
        send: Callable[[str], object],
        last_words: Callable[[], str],
        event: Callable[[dict[str, Any]], object] = lambda message: None,
    ) -> None:
        self._name = name
        self._messages = messages
        self._send = send
        self._last_words = last_words
        self._event = event
        self._lock = threading.Lock()
        self._last_id = 0
        self._pending: dict[int, tuple[str | None, Future[dict[str, Any]]]] = {}
        self._gone = False
        self._reader = threading.Thread(target=self._read, name=name, daemon=True)
        self._reader.start()

    def call(
        self, method: str, params: dict[str, Any], session: str | None = None
    ) -> Future[dict[str, Any]]:
        """Send a command, to one of several sessions if need be.

        The future has its result, or raises ``PageError``.
        """
        future: Future[dict[str, Any]] = Future()
        with self._lock:
            if self._gone:
                raise PageError(f"{self._name} is gone: {self._last_words()}")
            self._last_id += 1
            self._pending[self._last_id] = (session, future)
            message = {"id": self._last_id, "method": method, "params": params}
            self._send(json.dumps(message if session is None else message | {"sessionId": session}))
        return future

    def give_up(self, why: str, session: str | None = None) -> None:
        """Let the commands fail that wait for an answer, of one session or all."""
        with self._lock:
            lost = [
                number
                for number, (of, _) in self._pending.items()
                if session is None or of == session
            ]
            futures = [self._pending.pop(number)[1] for number in lost]
        for future in futures:
            if future.set_running_or_notify_cancel():
                future.set_exception(PageError(why))

    def join(self) -> None:
        """Wait until the browser has said its last."""
        self._reader.join()

    def _read(self) -> None:
        try:
            for message in self._messages:
                self._take(json.loads(message))
        finally:
            with self._lock:
                self._gone = True
            self.give_up(f"{self._name} is gone: {self._last_words()}")

    def _take(self, message: dict[str, Any]) -> None:
        if "id" not in message:
            self._event(message)
            return
        with self._lock:
            _, future = self._pending.pop(message["id"] or 0, (None, None))
        if future is None or not future.set_running_or_notify_cancel():
            return
        if "error" in message:
            # DevTools: an object with a message. WebDriver: a word, and the message beside it.
            told = message if isinstance(message["error"], str) else message["error"]
            future.set_exception(PageError(told.get("message") or str(message)))
        else:
            future.set_result(message.get("result", {}))


class Page(ABC):
    """One tab, which shares nothing with the others.

    Attributes:
        crashed: The browser has ended the process of the page.
    """

    crashed = False

    @abstractmethod
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

    @abstractmethod
    def close(self) -> None:
        """Close the tab and whatever it still has open. Idempotent."""


class Browser(ABC):
    """One browser process with a fresh profile; ``close`` ends it and removes the profile.

    Attributes:
        version: Name and number, as the browser says them.
        profile: The directory that is its profile.
    """

    version: str
    _process: subprocess.Popen[bytes]

    def __init__(self, name: str) -> None:
        self._profile = tempfile.TemporaryDirectory(
            prefix=f"pywebtransport-{name}-", ignore_cleanup_errors=True
        )
        self.profile = Path(self._profile.name)
        self._log = self.profile / "browser.log"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @abstractmethod
    def open_page(self, url: str) -> Page:
        """Load ``url`` in a new tab with cookies and connections of its own."""

    @abstractmethod
    def close(self) -> None:
        """End the browser and remove its profile. Idempotent."""

    def last_words(self) -> str:
        """The end of what the process has written."""
        try:
            return self._log.read_text(errors="replace")[-2000:]
        except OSError:
            return "no log"

    def _start(self, command: Sequence[str], descriptors: tuple[int, ...] = ()) -> None:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, pass_fds=descriptors, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def _wait(self) -> None:
        try:
            self._process.wait(EXIT_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
