import asyncio

from pywebtransport import Event, EventType
from pywebtransport.testing import session_pair


def closed(event: Event) -> None:
    print(event.data["code"], event.data["reason"])  # -> 0 good bye


async def main() -> None:
    async with session_pair() as (client, server):
        client.on(EventType.SESSION_CLOSED, closed)
        await server.close(reason="good bye")
        await client.wait_closed()


asyncio.run(main())
