"""A server with everything on it: ``server.py OPTIONS``, a file to run, with JSON as argument.

Options: ``certfile``, ``keyfile``, ``config`` (fields of ServerConfig beside the defaults),
``unlimited`` (limits to be None, where there are such fields),
``upstream`` (URL for ``/forward``), ``hash`` (of the upstream's certificate), ``scrape`` (seconds
between looks at the statistics). Prints ``{"port": ...}``, answers commands until its standard
input ends. Paths:

- ``/echo``: streams and datagrams come back.
- ``/hold``: a session that is accepted, and nothing of it is read.
- ``/rpc``, ``/rpc-msgpack``: remote calls ``echo``, ``wait`` (20 s) and ``typed``.
- ``/pubsub``: a broker.
- ``/structured``, ``/structured-msgpack``: messages are received and forgotten.
- ``/forward``: a forwarder to ``upstream``.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import sys
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pywebtransport import ClientConfig, ServerApp, ServerConfig
from pywebtransport.exceptions import WebTransportError
from pywebtransport.forwarder import WebTransportForwarder
from pywebtransport.pubsub import Broker
from pywebtransport.rpc import RpcManager
from pywebtransport.serializer import JSONSerializer, MsgPackSerializer
from pywebtransport.session import WebTransportSession
from pywebtransport.stream import StructuredStream, WebTransportStream
from pywebtransport.types import Serializer

sys.path.insert(0, str(Path(__file__).parent))
from commands import Turns, figures, say, serve_commands

Handler = Callable[[WebTransportSession], Awaitable[None]]


@dataclass
class Item:
    """What the typed method takes, and what messages on streams are."""

    name: str
    values: list[Any]


async def quiet(work: Coroutine[Any, Any, None]) -> None:
    """What the peer gives up ends alone."""
    with contextlib.suppress(WebTransportError):
        await work


async def echo(session: WebTransportSession) -> None:
    """Everything comes back."""
    async with asyncio.TaskGroup() as group:
        group.create_task(quiet(_echo_datagrams(session)))
        async for stream in session.incoming_streams():
            if isinstance(stream, WebTransportStream):
                group.create_task(quiet(_echo_stream(stream)))
            else:
                group.create_task(quiet(_forget(stream)))


async def _echo_datagrams(session: WebTransportSession) -> None:
    while True:
        await session.datagrams.send(await session.datagrams.receive())


async def _echo_stream(stream: WebTransportStream) -> None:
    async with stream:
        async for chunk in stream:
            await stream.write(chunk)


async def _forget(stream: Any) -> None:
    async for _ in stream:
        pass


async def hold(session: WebTransportSession) -> None:
    """Nothing is read."""
    await session.wait_closed()


def remote_calls(serializer: Serializer | None) -> Handler:
    """A handler that serves methods."""

    async def handler(session: WebTransportSession) -> None:
        manager = RpcManager(session, serializer=serializer)

        async def wait(value: Any = None) -> None:
            await asyncio.sleep(20)

        def typed(items: list[Item]) -> int:
            return len(items)

        manager.register(lambda value=None: value, name="echo")
        manager.register(wait)
        manager.register(typed)
        await manager.serve()

    return handler


def messages(serializer: Serializer) -> Handler:
    """A handler that takes messages of every stream."""

    async def receive(stream: WebTransportStream) -> None:
        async for _ in StructuredStream[Item](stream, serializer, {1: Item}):
            pass

    async def handler(session: WebTransportSession) -> None:
        async with asyncio.TaskGroup() as group:
            async for stream in session.incoming_bidirectional_streams():
                group.create_task(quiet(receive(stream)))

    return handler


async def scrape(app: ServerApp, interval: float) -> None:
    """As a monitor would."""
    while True:
        await asyncio.sleep(interval)
        await app.server.get_server_stats()


async def main(options: dict[str, Any]) -> None:
    """Serve until standard input ends."""
    # As ``run()`` would: this process is the server's own.
    fields = {"bind_host": "127.0.0.1", "bind_port": 0, **options.get("config", {})}
    if "gc_policy" in {one.name for one in dataclasses.fields(ServerConfig)}:
        fields.setdefault("gc_policy", "server")
    # A checkout that has no such limit needs none lifted.
    known = {one.name for one in dataclasses.fields(ServerConfig)}
    fields |= {name: None for name in options.get("unlimited", []) if name in known}
    app = ServerApp(
        config=ServerConfig.create(
            certfile=options["certfile"], keyfile=options["keyfile"], **fields
        )
    )
    broker = Broker()
    app.on_startup(broker.start)
    app.on_shutdown(broker.close)
    routes: dict[str, Any] = {
        "/echo": echo,
        "/hold": hold,
        "/rpc": remote_calls(None),
        "/rpc-msgpack": remote_calls(MsgPackSerializer()),
        "/pubsub": broker.serve,
        "/structured": messages(JSONSerializer()),
        "/structured-msgpack": messages(MsgPackSerializer()),
    }
    if "upstream" in options:
        pinned = ClientConfig.create(
            server_certificate_hashes=[bytes.fromhex(options["hash"])], max_connections=10_000
        )
        routes["/forward"] = WebTransportForwarder(options["upstream"], config=pinned)
        app.on_shutdown(routes["/forward"].close)
    for path, handler in routes.items():
        app.route(path)(handler)
    turns = Turns()

    async def answer(command: dict[str, Any]) -> dict[str, Any]:
        found = figures() if command.get("objects") else {}
        stats = await app.server.get_server_stats()
        return found | {"longest_turn": await turns.take(), "engine": stats["engine"]}

    async with app:
        await app.listen()
        watch = [asyncio.create_task(turns.watch())]
        if "scrape" in options:
            watch.append(asyncio.create_task(scrape(app, options["scrape"])))
        assert app.server.local_address is not None
        say({"port": app.server.local_address[1]})
        await serve_commands(answer)
        for task in watch:
            task.cancel()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(main(json.loads(sys.argv[1])))
