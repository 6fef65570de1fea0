import asyncio

from pywebtransport.media import FrameReceiver, FrameSender
from pywebtransport.testing import session_pair


async def main() -> None:
    async with (
        session_pair() as (client, server),
        FrameReceiver(client) as receiver,
        FrameSender(server, deadline=5) as sender,
    ):
        sender.send(b"picture")
        frame = await anext(receiver)
        print(frame.sequence, frame.data)  # -> 0 b'picture'


asyncio.run(main())
