"""The echo server for a page in a browser. It prints a link; open it in your browser.

The page is served from http://localhost, which browsers treat as secure, so the page
needs no certificate. The page knows the hash of the WebTransport server's certificate.
"""

import argparse
import asyncio
import contextlib
import functools
import http.server
import sys
import threading
from pathlib import Path
from urllib.parse import urlencode

from pywebtransport import (
    ServerApp,
    ServerConfig,
    WebTransportError,
    WebTransportSession,
    WebTransportStream,
)
from pywebtransport.utils import certificate_hash, generate_self_signed_cert

PAGE_PORT = 8080
PORT = 4433

argparse.ArgumentParser(description=__doc__).parse_args()
certfile, keyfile = generate_self_signed_cert(hostname="localhost")
app = ServerApp(
    config=ServerConfig.create(
        certfile=certfile,
        keyfile=keyfile,
        allowed_origins=[f"http://localhost:{PAGE_PORT}"],
    )
)


async def echo_datagrams(session: WebTransportSession) -> None:
    with contextlib.suppress(WebTransportError):  # the session ended
        while True:
            await session.datagrams.send(await session.datagrams.receive())


async def echo_stream(stream: WebTransportStream) -> None:
    await stream.write_all(await stream.read_all(max_size=1_000_000))


@app.route("/echo")
async def echo(session: WebTransportSession) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(echo_datagrams(session))
        tasks.create_task(session.serve_streams(echo_stream))


def serve_page() -> None:
    handler = functools.partial(
        http.server.SimpleHTTPRequestHandler, directory=str(Path(__file__).parent)
    )
    http.server.ThreadingHTTPServer(("127.0.0.1", PAGE_PORT), handler).serve_forever()


if __name__ == "__main__":
    threading.Thread(target=serve_page, daemon=True).start()
    query = {"url": f"https://localhost:{PORT}/echo", "hash": certificate_hash(certfile).hex()}
    print(f"http://localhost:{PAGE_PORT}/?{urlencode(query)}", flush=True)
    try:
        app.run(host="localhost", port=PORT)
    except WebTransportError as error:
        sys.exit(f"error: {error}")
