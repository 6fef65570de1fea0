import asyncio

from pywebtransport.testing import Network, VirtualClockLoop, session_pair


async def main() -> None:
    loop = asyncio.get_running_loop()
    network = Network(delay=0.1)
    async with session_pair(network=network) as (client, server):
        sent = loop.time()
        await client.datagrams.send(b"ping")
        await server.datagrams.receive()
        print(f"{loop.time() - sent:.1f} s later")  # -> 0.1 s later


with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
    runner.run(main())
