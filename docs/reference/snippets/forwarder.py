import asyncio

from pywebtransport import ClientConfig, WebTransportSession, connect, serve
from pywebtransport.forwarder import WebTransportForwarder


async def hello(session: WebTransportSession) -> None:
    await session.datagrams.send("hello from behind")


async def main() -> None:
    async with serve(hello, "localhost", 0) as upstream:
        config = ClientConfig(server_certificate_hashes=[upstream.certificate_hash])
        async with (
            WebTransportForwarder(upstream.url, config=config) as forwarder,
            serve(forwarder, "localhost", 0) as front,
            connect(front.url, server_certificate_hashes=[front.certificate_hash]) as session,
        ):
            print(await session.datagrams.receive())  # -> b'hello from behind'


asyncio.run(main())
