"""API acceleration: many small requests, over HTTP/1.1 and over one session, measured.

python examples/acceleration.py [--requests 1000] [--at-once 20]

Both servers run the same function, each in this process, with TLS and on the loopback interface.
The client of HTTP/1.1 keeps its connections open; each carries one request at a time. The
session needs one connection, and a stream for each request.
"""

import argparse
import asyncio
import json
import ssl
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable

import httpx
import uvicorn
from fastapi import FastAPI

from pywebtransport import WebTransportError, WebTransportStream, connect, serve
from pywebtransport.utils import generate_self_signed_cert


def price(article: str) -> dict[str, object]:
    """The application."""
    return {"article": article, "cents": sum(article.encode()) * 7}


# ------------------------------------------------------------------------------- HTTP

web = FastAPI()


@web.get("/price/{article}")
async def get_price(article: str) -> dict[str, object]:
    return price(article)


class Front(uvicorn.Server):
    """uvicorn in this event loop, without signal handlers."""

    def __init__(self, certfile: str, keyfile: str) -> None:
        super().__init__(
            uvicorn.Config(
                web, port=0, ssl_certfile=certfile, ssl_keyfile=keyfile, log_level="warning"
            )
        )
        self._serving: asyncio.Task[None] | None = None

    async def __aenter__(self) -> int:
        self.config.load()
        self.lifespan = self.config.lifespan_class(self.config)
        await self.startup()
        self._serving = asyncio.create_task(self.main_loop())
        port: int = self.servers[0].sockets[0].getsockname()[1]
        return port

    async def __aexit__(self, *exc_info: object) -> None:
        self.should_exit = True
        if self._serving is not None:
            await self._serving
        await self.shutdown()


# -------------------------------------------------------------------------- a session


async def answer(stream: WebTransportStream) -> None:
    """A request on a stream: the name of an article; JSON comes back."""
    article = (await stream.read_all(max_size=1_000)).decode()
    await stream.write_all(json.dumps(price(article)))


# ------------------------------------------------------------------------ measurement


async def measure(
    title: str, ask: Callable[[str], Awaitable[object]], requests: int, at_once: int
) -> list[object]:
    """Send all requests, some at a time, and print what it took."""
    room = asyncio.Semaphore(at_once)
    times: list[float] = []

    async def one(number: int) -> object:
        async with room:
            started = time.perf_counter()
            result = await ask(f"article-{number}")
            times.append(time.perf_counter() - started)
            return result

    started = time.perf_counter()
    results = await asyncio.gather(*(one(number) for number in range(requests)))
    took = time.perf_counter() - started
    times.sort()
    middle, late = times[len(times) // 2] * 1000, times[int(len(times) * 0.99)] * 1000
    print(
        f"{title:24}{requests / took:8.0f} requests/s   p50 {middle:6.2f} ms   p99 {late:6.2f} ms"
    )
    return list(results)


async def main(requests: int, at_once: int) -> None:
    """Both servers, one after the other."""
    with tempfile.TemporaryDirectory() as directory:
        certfile, keyfile = generate_self_signed_cert(hostname="localhost", output_dir=directory)
        trust = ssl.create_default_context(cafile=certfile)
        async with (
            Front(certfile, keyfile) as port,
            httpx.AsyncClient(base_url=f"https://localhost:{port}", verify=trust) as client,
        ):

            async def over_http(article: str) -> object:
                return (await client.get(f"/price/{article}")).json()

            first = await measure("HTTP/1.1, kept open", over_http, requests, at_once)
    async with (
        serve(
            lambda session: session.serve_streams(answer), "localhost", 0, drain_timeout=0
        ) as server,
        connect(server.url, server_certificate_hashes=[server.certificate_hash]) as session,
    ):

        async def over_session(article: str) -> object:
            stream = await session.create_bidirectional_stream()
            await stream.write_all(article)
            return json.loads(await stream.read_all(max_size=10_000))

        second = await measure("one session", over_session, requests, at_once)
    print("the same answers" if first == second else "other answers")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Small requests over HTTP/1.1 and a session.")
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--at-once", type=int, default=20)
    arguments = parser.parse_args()
    try:
        asyncio.run(main(arguments.requests, arguments.at_once))
    except WebTransportError as error:
        sys.exit(f"error: {error}")
