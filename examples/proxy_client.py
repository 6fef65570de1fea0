"""An echo client behind a UDP proxy (MASQUE). The session is encrypted end to end."""

import argparse
import asyncio
import sys

from pywebtransport import ClientConfig, WebTransportError
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("proxy_url")
    parser.add_argument("url")
    try:
        asyncio.run(main(**vars(parser.parse_args()), config=ClientConfig()))
    except WebTransportError as error:
        sys.exit(f"error: {error}")
