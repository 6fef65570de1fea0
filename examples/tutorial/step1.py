"""Step 1: a server that answers each datagram."""

from pywebtransport import ServerApp, WebTransportSession

app = ServerApp()


@app.route("/poll")
async def poll(session: WebTransportSession) -> None:
    async for datagram in session.datagrams:
        session.datagrams.try_send(b"you said " + datagram)
