import asyncio

from pywebtransport.testing import session_pair


async def main() -> None:
    async with session_pair() as (client, server):
        stream = await client.create_bidirectional_stream()
        await stream.write(b"by the client")
        async for arrived in server.incoming_streams():
            print(await arrived.read(1024))  # -> b'by the client'
            break
        await server.close(code=7, reason="that was all")
        ended = await client.wait_closed()
        print(ended.code, ended.reason)  # -> 7 that was all


asyncio.run(main())
