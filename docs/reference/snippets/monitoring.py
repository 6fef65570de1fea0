import asyncio

from prometheus_client import CollectorRegistry, generate_latest

from pywebtransport import ServerApp, WebTransportSession
from pywebtransport.monitoring import Metrics
from pywebtransport.testing import serve

app = ServerApp()


@app.route("/")
async def wait(session: WebTransportSession) -> None:
    await session.wait_closed()


async def main() -> None:
    async with (
        serve(app) as served,
        served.client() as client,
        await client.connect(served.url),
    ):
        registry = CollectorRegistry()
        registry.register(Metrics(app))
        for line in generate_latest(registry).decode().splitlines():
            if line.startswith("webtransport_sessions{"):
                print(line)  # -> webtransport_sessions{side="server"} 1.0


asyncio.run(main())
