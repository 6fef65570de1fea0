"""Step 2: votes arrive on streams, totals leave in datagrams."""

import asyncio
import json
from collections import Counter

from pywebtransport import ServerApp, WebTransportReceiveStream, WebTransportSession

app = ServerApp()
totals: Counter[str] = Counter(pizza=0, soup=0)


async def vote(stream: WebTransportReceiveStream) -> None:
    """Count one vote: a stream that carries the name of the choice."""
    choice = (await stream.read_all(max_size=100)).decode()
    if choice in totals:
        totals[choice] += 1


async def show(session: WebTransportSession) -> None:
    """Send the totals five times a second."""
    while not session.is_closed:
        session.datagrams.try_send(json.dumps(totals).encode())
        await asyncio.sleep(0.2)


@app.route("/poll")
async def poll(session: WebTransportSession) -> None:
    showing = asyncio.create_task(show(session))
    try:
        await session.serve_streams(vote, unidirectional=True)
    finally:
        showing.cancel()
