import asyncio

from pywebtransport.rpc import RpcManager
from pywebtransport.testing import session_pair


async def add(a: int, b: int) -> int:
    return a + b


async def main() -> None:
    async with session_pair() as (client, server):
        answering = RpcManager(server)
        answering.register(add)
        async with answering, RpcManager(client) as calling:
            print(await calling.call("add", 1, b=2))  # -> 3


asyncio.run(main())
