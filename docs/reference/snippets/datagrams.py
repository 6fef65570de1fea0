import asyncio

from pywebtransport.testing import session_pair


async def main() -> None:
    async with session_pair() as (client, server):
        await client.datagrams.send(b"one", ttl=0.5)
        client.datagrams.try_send(b"two")
        print(await server.datagrams.receive())  # -> b'one'
        print(await server.datagrams.receive(timeout=1))  # -> b'two'
        print(client.datagrams.stats["datagrams_sent"])  # -> 2


asyncio.run(main())
