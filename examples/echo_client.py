"""An echo client: a datagram and a stream to an echo server and back."""

import asyncio
import sys

from pywebtransport import ClientConfig, WebTransportClient


async def main(url: str, certificate_hash: str) -> None:
    config = ClientConfig.create(server_certificate_hashes=[certificate_hash])
    async with WebTransportClient(config=config) as client, await client.connect(url) as session:
        await session.datagrams.send(b"hello, datagram")
        print(await session.datagrams.receive(timeout=5))

        async with await session.create_bidirectional_stream() as stream:
            await stream.write_all(b"hello, stream")
            print(await stream.read_all())


if __name__ == "__main__":
    asyncio.run(main(url=sys.argv[1], certificate_hash=sys.argv[2]))
