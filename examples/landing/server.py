import asyncio

from pywebtransport import WebTransportSession, serve


async def shout(session: WebTransportSession) -> None:
    async for datagram in session.datagrams:
        session.datagrams.try_send(datagram.upper())


async def main() -> None:
    async with serve(shout, "localhost", 4433) as server:
        print(server.url, server.certificate_hash.hex())
        await server.serve_forever()


asyncio.run(main())
