"""What the examples with a page share: a page on http://localhost, beside a WebTransport server.

Browsers treat http://localhost as secure, so the page needs no certificate. The WebTransport server
makes one for development; the page fetches its hash, and the server's URL, from ``config.json``.
"""

import argparse
import asyncio
import json
import mimetypes
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pywebtransport import WebTransportError, WebTransportSession, serve
from pywebtransport.server import WebTransportServer

HERE = Path(__file__).resolve().parent
JAVASCRIPT = HERE.parent / "js"
Handler = Callable[[WebTransportSession], Coroutine[Any, Any, None]]


class PageServer(ThreadingHTTPServer):
    """Serves the page of a program, NAME.html beside NAME.py, and the files that it uses."""

    def __init__(self, program: str, port: int) -> None:
        super().__init__(("127.0.0.1", port), PageHandler)
        self.files = {
            f"/js/{path.relative_to(JAVASCRIPT)}": path for path in JAVASCRIPT.rglob("*.js")
        }
        self.files |= {f"/{name}": HERE / name for name in ("page.js", "style.css")}
        self.files["/"] = HERE / f"{Path(program).stem}.html"
        self.config: dict[str, str] = {}

    @property
    def origin(self) -> str:
        """The origin of the page, as browsers send it."""
        return f"http://localhost:{self.server_port}"


class PageHandler(BaseHTTPRequestHandler):
    """Answers the requests of the page."""

    server: PageServer

    def do_GET(self) -> None:
        """Send a file, or where the WebTransport server is."""
        path = urlsplit(self.path).path
        file = self.server.files.get(path)
        if path == "/config.json":
            body, kind = json.dumps(self.server.config).encode(), "application/json"
        elif file is not None:
            body = file.read_bytes()
            kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        else:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: the terminal belongs to the example."""


@asynccontextmanager
async def page(
    program: str, handler: Handler, arguments: argparse.Namespace
) -> AsyncIterator[WebTransportServer]:
    """Serve sessions with ``handler``, and the page that opens them, while the block runs.

    Args:
        program: ``__file__`` of the example.
        handler: Gets each session.
        arguments: What ``run`` has parsed.
    """
    with PageServer(program, arguments.page_port) as site:
        async with serve(
            handler,
            "localhost",
            arguments.port,
            allowed_origins=[site.origin],
            drain_timeout=0,  # the pages open another session when the server is back
        ) as server:
            site.config = {"url": server.url, "certificateHash": server.certificate_hash.hex()}
            thread = threading.Thread(target=site.serve_forever, args=(0.1,), name="page")
            thread.start()
            try:
                print(f"open {site.origin}/ in a browser; Ctrl-C ends it", flush=True)
                yield server
            finally:
                site.shutdown()
                thread.join()


def port(text: str) -> int:
    """A port on the command line."""
    number = int(text)
    if not 0 <= number <= 65535:
        raise ValueError(text)
    return number


def positive(text: str) -> float:
    """A time or a rate on the command line."""
    number = float(text)
    if not 0 < number <= 1000:
        raise ValueError(text)
    return number


def parser(description: str | None) -> argparse.ArgumentParser:
    """Create a parser with the arguments of every example."""
    created = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    created.add_argument("--port", type=port, default=4433, help="UDP port for WebTransport")
    created.add_argument("--page-port", type=port, default=8080, help="TCP port of the page")
    return created


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run an example until it ends, or until SIGINT or SIGTERM."""

    async def until_told() -> None:
        task = asyncio.ensure_future(main)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        await task

    try:
        asyncio.run(until_told())
    except (KeyboardInterrupt, asyncio.CancelledError):
        pass
    except (WebTransportError, OSError) as error:
        sys.exit(f"error: {error}")
