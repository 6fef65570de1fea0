import asyncio

from pywebtransport.testing import session_pair


async def main() -> None:
    async with session_pair() as (client, _):
        connection = client.connection
        assert connection is not None
        print(connection.is_connected, connection.state.value)  # -> True connected
        print(connection.info.bytes_sent > 1200)  # -> True


asyncio.run(main())
