"""The examples with a page, as their users start them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .chromium import Tab
from .driver import Page

__all__ = ["Example", "command", "drag", "started", "until"]

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = Path("examples") / "browser"
TIMEOUT = 30.0

_UNTIL = """async (condition) => {
  for (let value; ; await new Promise((turn) => setTimeout(turn, 5))) {
    if ((value = await eval(condition))) return value;
  }
}"""


def command(line: str, *arguments: str, **pipes: int) -> subprocess.Popen[str]:
    """Start a command that an example has printed."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", *line.split()[1:], *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
        **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": None, **pipes},
    )


class Example:
    """One run of an example.

    Attributes:
        url: Of its page.
    """

    def __init__(self, name: str, *arguments: str, port: int = 0, page_port: int = 0) -> None:
        ports = ["--port", str(port), "--page-port", str(page_port)]
        self._process = command(
            f"python {EXAMPLES / name}", *ports, *arguments, stderr=subprocess.PIPE
        )
        self.url = next((word for word in self.line().split() if "://" in word), "")

    def line(self) -> str:
        """The next line that it prints."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().rstrip("\n")

    def end(self) -> None:
        """Press Ctrl-C, and check that it ends without complaints."""
        self._process.send_signal(signal.SIGINT)
        try:
            _, errors = self._process.communicate(timeout=TIMEOUT)
        finally:
            self._process.kill()
        assert (self._process.returncode, errors) == (0, "")


@contextmanager
def started(name: str, *arguments: str, **ports: int) -> Iterator[Example]:
    """``with started("game.py") as example``."""
    example = Example(name, *arguments, **ports)
    try:
        yield example
    finally:
        example.end()


async def until(page: Page, condition: str) -> Any:
    """Wait until a JavaScript expression is true, and return its value."""
    return await page.run(_UNTIL, condition)


async def drag(tab: Tab, points: list[tuple[float, float]]) -> None:
    """Press the mouse at the first of the points, move over the others, and let go."""
    kinds = ["mousePressed", *["mouseMoved"] * (len(points) - 1), "mouseReleased"]
    for kind, (x, y) in zip(kinds, [*points, points[-1]], strict=True):
        await tab.call(
            "Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1
        )
