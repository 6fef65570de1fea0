"""Step 4: several polls, one per path."""

import asyncio
import json
from collections import Counter

from pywebtransport import ServerApp, WebTransportReceiveStream, WebTransportSession

app = ServerApp()
polls = {
    "lunch": Counter(pizza=0, soup=0),
    "colour": Counter(red=0, green=0, blue=0),
}


async def show(session: WebTransportSession, totals: Counter[str]) -> None:
    """Send the totals five times a second."""
    while not session.is_closed:
        session.datagrams.try_send(json.dumps(totals).encode())
        await asyncio.sleep(0.2)


@app.route("/poll/{name}")
async def poll(session: WebTransportSession) -> None:
    totals = polls.get(session.path_params["name"])
    if totals is None:
        await session.close(code=404, reason="there is no such poll")
        return

    async def vote(stream: WebTransportReceiveStream) -> None:
        choice = (await stream.read_all(max_size=100)).decode()
        if choice in totals:
            totals[choice] += 1

    showing = asyncio.create_task(show(session, totals))
    try:
        await session.serve_streams(vote, unidirectional=True)
    finally:
        showing.cancel()
