"""An application for other ASGI servers: ``uvicorn tests.support.attached_app:app``.

``ATTACHED`` in the environment is a JSON object of ``ServerConfig`` fields. It prints its lifespan
events. Requests are answered with the version of HTTP and the state; streams of sessions come back.
"""

from __future__ import annotations

import json
import os
from typing import Any

from pywebtransport import ServerConfig
from pywebtransport.asgi import attach


async def application(scope: Any, receive: Any, send: Any) -> None:
    """The application inside."""
    if scope["type"] == "lifespan":
        await lifespan(scope, receive, send)
    elif scope["type"] == "webtransport":
        await receive()
        await send({"type": "webtransport.accept"})
        while (event := await receive())["type"] != "webtransport.disconnect":
            if event["type"] == "webtransport.stream.receive":
                await send({**event, "type": "webtransport.stream.send"})
    else:
        text = f"HTTP/{scope['http_version']} {scope['state']['shop']}".encode()
        length = (b"content-length", b"%d" % len(text))
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": text})


async def lifespan(scope: Any, receive: Any, send: Any) -> None:
    """Say what happens."""
    while True:
        event = await receive()
        print(event["type"], flush=True)
        if event["type"] == "lifespan.startup":
            scope["state"]["shop"] = "open"
            await send({"type": "lifespan.startup.complete"})
        else:
            await send({"type": "lifespan.shutdown.complete"})
            return


if "ATTACHED" in os.environ:
    app = attach(application, ServerConfig(**json.loads(os.environ["ATTACHED"])))
