"""``make demo-browser``: a page that shows the demo in a browser.

Serves the page on http://localhost (a secure context, so that a browser offers
WebTransport there) and starts a demo server whose certificate the page
knows by hash. ``--check`` opens the page in headless Chromium, prints what the
page reports, and exits 0 when every check passed.
"""

import argparse
import asyncio
import json
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from . import arguments as types
from .process import RunningServer, ServerProcessError, server_process

PAGE = Path(__file__).parent / "page"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
CHECK_TIMEOUT = 180.0
MAX_REPORT = 1 << 16

Report = list[dict[str, Any]]


class BrowserError(RuntimeError):
    """No browser was found, or the browser sent no report."""


class PageServer(ThreadingHTTPServer):
    """Serves the page, tells it the URL of the WebTransport server, and receives its report."""

    def __init__(self, port: int, size: int) -> None:
        super().__init__(("127.0.0.1", port), partial(PageHandler, directory=str(PAGE)))
        self.size = size
        self.target: RunningServer | None = None
        self.loop = asyncio.get_running_loop()
        self.report: asyncio.Future[Report] = self.loop.create_future()

    @property
    def origin(self) -> str:
        """Origin of the page, as the browser sends it."""
        return f"http://localhost:{self.server_port}"

    def take_report(self, report: Report) -> None:
        """Print a report of the page and keep the first one (on the loop's thread)."""
        for result in report:
            outcome = "ok" if result["passed"] else "FAILED"
            print(f"  {outcome:<7} {result['name']:<16} {result['figure']}", flush=True)
        if not self.report.done():
            self.report.set_result(report)


class PageHandler(SimpleHTTPRequestHandler):
    """Serves static files and ``config.json``, and receives ``report``."""

    server: PageServer

    def do_GET(self) -> None:
        """Answer with a file of the page or with the configuration."""
        if self.path != "/config.json":
            super().do_GET()
            return
        target = self.server.target
        if target is None:
            self.send_error(503, "the WebTransport server is not ready")
            return
        body = json.dumps(
            {
                "url": target.url,
                "certificateHash": target.certificate_hash,
                "size": self.server.size,
            }
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        """Receive the results from the page."""
        length = int(self.headers.get("Content-Length") or 0)
        if self.path != "/report" or not 0 < length <= MAX_REPORT:
            self.send_error(400, "expected a report")
            return
        report = json.loads(self.rfile.read(length))
        self.server.loop.call_soon_threadsafe(self.server.take_report, report)
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: the terminal shows the results."""


@contextmanager
def page_server(port: int, size: int) -> Iterator[PageServer]:
    """Serve the page from a thread while the block runs."""
    with PageServer(port, size) as server:
        thread = threading.Thread(target=server.serve_forever, name="page server")
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@asynccontextmanager
async def headless_browser(url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Open ``url`` in a headless Chromium with a new profile, and end it afterwards.

    Raises:
        BrowserError: No Chromium or Chrome is installed (set the variable BROWSER to use another).
    """
    names = [os.environ["BROWSER"]] if os.environ.get("BROWSER") else BROWSERS
    executable = next(filter(None, map(shutil.which, names)), None)
    if executable is None:
        raise BrowserError(f"no browser found; looked for {', '.join(names)}")
    with tempfile.TemporaryDirectory(prefix="pywebtransport-", ignore_cleanup_errors=True) as home:
        flags = [
            "--headless=new",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            f"--user-data-dir={home}",
        ]
        if os.geteuid() == 0:
            flags.append("--no-sandbox")  # Chromium refuses to run its sandbox as root
        process = await asyncio.create_subprocess_exec(
            executable,
            *flags,
            url,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


async def report_of_browser(page: PageServer) -> Report:
    """Open the page in a headless browser and return its report.

    Raises:
        BrowserError: The browser ended without a report, or sent none within 180 s.
    """
    async with headless_browser(f"{page.origin}/") as process:
        ended = asyncio.ensure_future(process.wait())
        either: set[asyncio.Future[Any]] = {page.report, ended}
        await asyncio.wait(either, timeout=CHECK_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
        if page.report.done():
            ended.cancel()
            return page.report.result()
        if ended.done():
            raise BrowserError(f"the browser ended with exit code {ended.result()}")
        ended.cancel()
        raise BrowserError(f"no report of the page within {CHECK_TIMEOUT:.0f} s")


async def run(*, port: int, size: int, check: bool) -> int:
    """Serve the page: with ``check`` until the report arrives, otherwise until interrupted."""
    with page_server(port, size) as page:
        async with server_process("--allow-origin", page.origin) as target:
            page.target = target
            if not check:
                print(
                    f"open {page.origin}/ in a browser with WebTransport; Ctrl-C ends it",
                    flush=True,
                )
                await asyncio.Event().wait()
            report = await report_of_browser(page)
    return 0 if report and all(result["passed"] for result in report) else 1


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo.browser", description=__doc__)
    parser.add_argument(
        "--port", type=types.port, default=8080, help="port of the page; 0 means a free port"
    )
    parser.add_argument("--size", type=types.size, default="64MiB")
    parser.add_argument("--check", action="store_true", help="run in headless Chromium and exit")
    arguments = parser.parse_args()
    port = 0 if arguments.check else arguments.port
    try:
        return asyncio.run(run(port=port, size=arguments.size, check=arguments.check))
    except (BrowserError, ServerProcessError, OSError) as error:
        print(f"demo-browser: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
