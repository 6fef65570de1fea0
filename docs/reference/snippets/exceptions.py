import asyncio

from pywebtransport import ServerApp, WebTransportError, WebTransportSession
from pywebtransport.exceptions import SessionRejectedError
from pywebtransport.testing import serve

app = ServerApp()


@app.middleware
async def later(session: WebTransportSession) -> bool:
    raise SessionRejectedError(status_code=429, headers={"retry-after": 30})


@app.route("/")
async def home(session: WebTransportSession) -> None: ...


async def main() -> None:
    async with serve(app) as served, served.client() as client:
        try:
            await client.connect(served.url)
        except SessionRejectedError as error:
            print(error.status_code, error.headers["retry-after"])  # -> 429 30
            print(isinstance(error, WebTransportError))  # -> True


asyncio.run(main())
