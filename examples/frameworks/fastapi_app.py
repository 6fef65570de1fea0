"""A page, a REST call, a WebSocket and a WebTransport chat, all on one port.

pywebtransport serve fastapi_app:app --certfile localhost.crt --keyfile localhost.key
"""

from __future__ import annotations

from contextlib import suppress

from fastapi import FastAPI, WebSocket
from fastapi.responses import HTMLResponse

from pywebtransport import WebTransportSession
from pywebtransport.asgi import WebTransportRouter
from pywebtransport.exceptions import WebTransportError
from pywebtransport.stream import WebTransportReceiveStream

PAGE = """<!doctype html><title>chat</title>
<p>fetch: <output id="rest"></output> WebSocket: <output id="echo"></output></p>
<ul id="lines"></ul>
<form><input id="text" autocomplete="off"><button>Say</button></form>
<script type="module">
  const add = (line) => lines.appendChild(document.createElement("li")).append(line);
  const spoken = await (await fetch("/api/lines")).json();
  spoken.forEach(add);
  rest.value = `${spoken.length} lines so far`;

  const socket = new WebSocket(`wss://${location.host}/echo`);
  socket.onopen = () => socket.send("a web socket");
  socket.onmessage = ({ data }) => { echo.value = data; };
  const session = new WebTransport(`${location.origin}/chat`);
  await session.ready;
  document.querySelector("form").onsubmit = async (event) => {
    event.preventDefault();
    const writer = (await session.createUnidirectionalStream()).getWriter();
    writer.write(new TextEncoder().encode(text.value));
    writer.close();
  };
  for await (const stream of session.incomingUnidirectionalStreams)
    add(await new Response(stream).text());
</script>"""

web = FastAPI()
app = WebTransportRouter(web)
spoken: list[str] = []
sessions: set[WebTransportSession] = set()


@web.get("/", response_class=HTMLResponse)
async def page() -> str:
    return PAGE


@web.get("/api/lines")
async def lines() -> list[str]:
    return spoken[-100:]


@web.websocket("/echo")
async def echo(socket: WebSocket) -> None:
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text.upper())


async def say(stream: WebTransportReceiveStream) -> None:
    spoken.append((await stream.read_all(max_size=1000)).decode())
    for session in list(sessions):
        with suppress(WebTransportError):  # it has just left
            await (await session.create_unidirectional_stream()).write_all(spoken[-1])


@app.route("/chat")
async def chat(session: WebTransportSession) -> None:
    sessions.add(session)
    try:
        await session.serve_streams(say, unidirectional=True)
    finally:
        sessions.discard(session)
