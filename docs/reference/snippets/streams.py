import asyncio

from pywebtransport.exceptions import StreamResetError
from pywebtransport.testing import session_pair


async def main() -> None:
    async with session_pair() as (client, server):
        stream = await client.create_bidirectional_stream()
        await stream.write_all(b"what is the time?")
        answering = await anext(server.incoming_bidirectional_streams())
        print(await answering.read_all())  # -> b'what is the time?'
        await answering.write(b"it is")
        print(await stream.read(1024))  # -> b'it is'
        await answering.reset(42)
        try:
            await stream.read(1024)
        except StreamResetError as error:
            print(error.error_code)  # -> 42


asyncio.run(main())
