"""A client that says ``open`` and stays: ``python -m tests.support.idle_client URL CA``."""

from __future__ import annotations

import asyncio
import sys

from pywebtransport import ClientConfig, WebTransportClient


async def main(url: str, authority: str) -> None:
    """Open a session and a stream, send a byte, read one, and nothing else."""
    async with WebTransportClient(config=ClientConfig(ca_certs=authority)) as client:
        session = await client.connect(url)
        stream = await session.create_bidirectional_stream()
        await stream.write(b"?")
        await stream.readexactly(1)
        print("open", flush=True)
        await session.wait_closed()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
