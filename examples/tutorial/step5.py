"""Step 5: only holders of a token may vote, and each has one vote.

python step5.py ann     prints the token of a voter
"""

import asyncio
import hmac
import json
import os
import sys
from collections import Counter

from pywebtransport import ServerApp, WebTransportReceiveStream, WebTransportSession
from pywebtransport.exceptions import SessionRejectedError

SECRET = os.environ.get("POLL_SECRET", "only for development").encode()
app = ServerApp()
polls = {"lunch": ["pizza", "soup"], "colour": ["red", "green", "blue"]}
votes: dict[str, dict[str, str]] = {name: {} for name in polls}  # poll -> voter -> choice


def token_of(voter: str) -> str:
    """The name of the voter, and a signature that only this server can make."""
    return f"{voter}.{hmac.digest(SECRET, voter.encode(), 'sha256').hex()}"


@app.middleware
async def check_token(session: WebTransportSession) -> bool:
    """Answer 401 to a request without a good token, before there is a session."""
    token = session.query_params.get("token", "")
    voter = token.partition(".")[0]
    if not hmac.compare_digest(token.encode(), token_of(voter).encode()):
        raise SessionRejectedError(status_code=401)
    return True


def totals_of(name: str) -> bytes:
    """The totals of a poll as JSON; a choice without votes counts 0."""
    return json.dumps(dict.fromkeys(polls[name], 0) | Counter(votes[name].values())).encode()


async def show(session: WebTransportSession, name: str) -> None:
    """Send the totals five times a second."""
    while not session.is_closed:
        session.datagrams.try_send(totals_of(name))
        await asyncio.sleep(0.2)


@app.route("/poll/{name}")
async def poll(session: WebTransportSession) -> None:
    name = session.path_params["name"]
    voter = session.query_params["token"].partition(".")[0]
    if name not in polls:
        await session.close(code=404, reason="there is no such poll")
        return

    async def vote(stream: WebTransportReceiveStream) -> None:
        choice = (await stream.read_all(max_size=100)).decode()
        if choice in polls[name]:
            votes[name][voter] = choice  # a second vote replaces the first

    showing = asyncio.create_task(show(session, name))
    try:
        await session.serve_streams(vote, unidirectional=True)
    finally:
        showing.cancel()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python step5.py VOTER")
    print(token_of(sys.argv[1]))
