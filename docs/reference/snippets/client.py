import asyncio

from pywebtransport import ClientConfig, WebTransportClient, WebTransportSession, serve


async def hello(session: WebTransportSession) -> None:
    await session.datagrams.send(f"hello, {session.query_params['name']}")


async def main() -> None:
    async with serve(hello, "localhost", 0) as server:
        config = ClientConfig(server_certificate_hashes=[server.certificate_hash])
        async with WebTransportClient(config=config) as client:
            for name in "ann", "bob":
                async with await client.connect(f"{server.url}?name={name}") as session:
                    print(await session.datagrams.receive())  # -> b'hello, ann' b'hello, bob'


asyncio.run(main())
