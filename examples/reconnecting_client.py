"""A client that outlives its sessions: each is opened again, and its state restored.

python reconnecting_client.py URL HASH [SECONDS]     asks a question every so many seconds
"""

import asyncio
import sys

from pywebtransport import ClientConfig, EventType, WebTransportSession
from pywebtransport.client import ReconnectingClient
from pywebtransport.exceptions import SessionError, StreamError


async def ask(session: WebTransportSession, question: str) -> str:
    async with await session.create_bidirectional_stream() as stream:
        await stream.write_all(question.encode())
        answer = await stream.read_all(max_size=65536)
    return answer.decode()


async def log_in(session: WebTransportSession) -> None:
    """Runs on each new session, before anybody else gets it."""
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
                    continue  # the session ended under us: ask again on the next one
            print(answer)
            await asyncio.sleep(pause)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], pause=float((*sys.argv, "1")[3])))
