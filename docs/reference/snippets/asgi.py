import asyncio

from pywebtransport import ServerApp, WebTransportSession
from pywebtransport.asgi import WebTransportRouter
from pywebtransport.testing import serve


async def web(scope, receive, send):  # or FastAPI(), Starlette(), …
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"a page"})


app = WebTransportRouter(web)


@app.route("/shout")
async def shout(session: WebTransportSession) -> None:
    async for datagram in session.datagrams:
        session.datagrams.try_send(datagram.upper())


async def main() -> None:
    server = ServerApp()
    server.mount(app, lifespan="off", tcp=False)
    async with (
        serve(server) as served,
        served.client() as client,
        client.connect(f"{served.url}/shout") as session,
    ):
        await session.datagrams.send("hello")
        print(await session.datagrams.receive())  # -> b'HELLO'


asyncio.run(main())
