"""An echo client: sends a datagram and a stream to an echo server and prints the answers."""

import argparse
import asyncio
import sys

from pywebtransport import WebTransportError, connect


async def main(url: str, certificate_hash: str) -> None:
    async with connect(url, server_certificate_hashes=[certificate_hash]) as session:
        await session.datagrams.send(b"hello, datagram")
        print(await session.datagrams.receive(timeout=5))

        async with await session.create_bidirectional_stream() as stream:
            await stream.write_all(b"hello, stream")
            print(await stream.read_all())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("certificate_hash", metavar="hash")
    try:
        asyncio.run(main(**vars(parser.parse_args())))
    except WebTransportError as error:
        sys.exit(f"error: {error}")
