"""Messaging: chat rooms for pages and terminals.

    python examples/browser/chat_page.py

It also prints the command with which a terminal joins; examples/chat.py is the same chat.
"""

import argparse

from _page import page, parser, run

from pywebtransport import WebTransportSession
from pywebtransport.pubsub import Broker


def may(session: WebTransportSession, action: str, topic: str) -> bool:
    """Everybody may use a single room; other topics and patterns are forbidden."""
    return topic.startswith("rooms.") and "*" not in topic


async def main(arguments: argparse.Namespace) -> None:
    """Serve until interrupted."""
    async with (
        Broker(authorize=may) as broker,
        page(__file__, broker.serve, arguments) as server,
    ):
        hash_of_certificate = server.certificate_hash.hex()
        print(f"python examples/chat.py client {server.url}chat {hash_of_certificate}", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    run(main(parser(__doc__).parse_args()))
