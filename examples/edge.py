"""Edge computing: a server near the clients, in front of two regions.

python examples/edge.py

The edge answers what it can by itself, and passes the rest on to a region. When a region does not
answer, new sessions go to the other one. Both regions run here in this process; the example shows
a client that does not notice that one of them stops.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack

from pywebtransport import (
    ClientConfig,
    ServerApp,
    WebTransportError,
    WebTransportSession,
    WebTransportStream,
    connect,
)
from pywebtransport.exceptions import SessionRejectedError
from pywebtransport.forwarder import WebTransportForwarder
from pywebtransport.server.router import SessionHandler
from pywebtransport.testing import Served, serve

# ---------------------------------------------------------------------------- regions


def region(name: str) -> ServerApp:
    """The application in one region."""
    app = ServerApp()

    async def answer(stream: WebTransportStream) -> None:
        question = json.loads(await stream.read_all(max_size=10_000))
        await stream.write_all(json.dumps({"region": name, "sum": sum(question)}))

    @app.route("/sum")
    async def add(session: WebTransportSession) -> None:
        await session.serve_streams(answer)

    return app


# ------------------------------------------------------------------------------- edge


class FirstThatAnswers:
    """A handler that passes sessions on to the first region that takes them."""

    def __init__(self, regions: Sequence[WebTransportForwarder]) -> None:
        self._regions = list(regions)

    async def __call__(self, session: WebTransportSession) -> None:
        """Accept a session and pass it on."""
        handler = await self.answer_request(session)
        await handler(session)

    async def answer_request(self, session: WebTransportSession) -> SessionHandler:
        """Accept the session as a region does, or refuse it as the last one does."""
        for last, forwarder in enumerate(list(self._regions), 1 - len(self._regions)):
            try:
                return await forwarder.answer_request(session)
            except SessionRejectedError as error:
                if last == 0 or error.status_code not in (502, 503, 504):
                    raise
                # Others try the region that works first, too.
                self._regions.remove(forwarder)
                self._regions.append(forwarder)
        raise SessionRejectedError(status_code=503)


def edge(regions: Sequence[WebTransportForwarder]) -> ServerApp:
    """The server near the clients."""
    app = ServerApp()

    @app.route("/time")
    async def tell_time(session: WebTransportSession) -> None:
        await session.datagrams.send(f"{time.time():.0f}")  # needs no region

    app.route("/sum")(FirstThatAnswers(regions))
    return app


def forwarder_to(served: Served) -> WebTransportForwarder:
    """The way to one region."""
    config = ClientConfig(server_certificate_hashes=[served.certificate_hash], connect_timeout=3)
    return WebTransportForwarder(served.url, config=config)


# ----------------------------------------------------------------------------- client


async def ask(served: Served, question: list[int]) -> dict[str, object]:
    """One session, one question."""
    async with (
        connect(
            f"{served.url}/sum", server_certificate_hashes=[served.certificate_hash]
        ) as session,
        await session.create_bidirectional_stream() as stream,
    ):
        await stream.write_all(json.dumps(question))
        answer: dict[str, object] = json.loads(await stream.read_all(max_size=10_000))
        return answer


async def main() -> None:
    """Two regions, an edge, a client, and the end of a region."""
    async with AsyncExitStack() as running:
        first = AsyncExitStack()
        west = await first.enter_async_context(serve(region("west")))
        east = await running.enter_async_context(serve(region("east")))
        forwarders = [forwarder_to(west), forwarder_to(east)]
        front = await running.enter_async_context(serve(edge(forwarders)))
        for forwarder in forwarders:
            running.push_async_callback(forwarder.close)
        print("answered by", (await ask(front, [1, 2, 3]))["region"])
        await first.aclose()
        print("west has stopped")
        answer = await ask(front, [1, 2, 3])
        print("answered by", answer["region"], "with", answer["sum"])


if __name__ == "__main__":
    argparse.ArgumentParser(description="An edge in front of two regions.").parse_args()
    try:
        asyncio.run(main())
    except WebTransportError as error:
        sys.exit(f"error: {error}")
