"""A client that opens a new session when one ends, and restores its state."""

import argparse
import asyncio
import sys

from pywebtransport import ClientConfig, EventType, WebTransportError, WebTransportSession
from pywebtransport.client import ReconnectingClient
from pywebtransport.exceptions import SessionError, StreamError


async def ask(session: WebTransportSession, question: str) -> str:
    async with await session.create_bidirectional_stream() as stream:
        await stream.write_all(question.encode())
        answer = await stream.read_all(max_size=65536)
    return answer.decode()


async def log_in(session: WebTransportSession) -> None:
    """Runs on each new session, before ``get_session`` returns it."""
    print(await ask(session, "this is Ada"))


async def main(url: str, certificate_hash: str, pause: float = 0.0) -> None:
    config = ClientConfig.create(
        server_certificate_hashes=[certificate_hash], max_retries=20, retry_delay=0.1
    )
    client = ReconnectingClient(url, config=config, on_session=log_in)
    client.on(EventType.CONNECTION_LOST, lambda event: print("lost:", event.data["reason"]))
    async with client:
        for question in ("one", "two", "three"):
            answer = None
            while answer is None:
                session = await client.get_session(wait_timeout=60)
                if session is None:
                    sys.exit("the server does not come back")
                try:
                    answer = await ask(session, question)
                except (SessionError, StreamError):
                    continue  # the session ended: ask again on the next one
            print(answer)
            await asyncio.sleep(pause)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("certificate_hash", metavar="hash")
    parser.add_argument(
        "pause", type=float, nargs="?", default=1.0, help="seconds between questions"
    )
    try:
        asyncio.run(main(**vars(parser.parse_args())))
    except WebTransportError as error:
        sys.exit(f"error: {error}")
