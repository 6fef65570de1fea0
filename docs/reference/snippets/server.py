import asyncio

from pywebtransport import ServerApp, WebTransportSession
from pywebtransport.testing import serve

app = ServerApp()


@app.route("/room/{name}")
async def room(session: WebTransportSession) -> None:
    await session.datagrams.send(f"welcome to {session.path_params['name']}")


async def main() -> None:
    async with (
        serve(app) as served,
        served.client() as client,
        await client.connect(f"{served.url}/room/7") as session,
    ):
        print(await session.datagrams.receive())  # -> b'welcome to 7'


asyncio.run(main())
