"""An echo client behind a UDP proxy (MASQUE). The session is end to end: the proxy sees nothing."""

import asyncio
import sys

from pywebtransport import ClientConfig
from pywebtransport.client import WebTransportProxy


async def main(
    proxy_url: str, url: str, config: ClientConfig, target_config: ClientConfig | None = None
) -> None:
    async with (
        WebTransportProxy(proxy_url, config=config, target_config=target_config) as proxy,
        proxy.connect(url) as session,
    ):
        await session.datagrams.send(b"hello, datagram")
        print(await session.datagrams.receive(timeout=5))

        async with await session.create_bidirectional_stream() as stream:
            await stream.write_all(b"hello, stream")
            print(await stream.read_all())


if __name__ == "__main__":
    asyncio.run(main(proxy_url=sys.argv[1], url=sys.argv[2], config=ClientConfig()))
