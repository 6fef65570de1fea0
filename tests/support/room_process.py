"""A server with workers and one room: ``python -m tests.support.room_process FIELDS [LOOP]``.

FIELDS is a JSON object of ``ServerConfig`` fields. Logs to standard output and serves until
SIGTERM. On ``/room``, sessions publish and subscribe, and call:

- ``who()``: process ID and index of the worker.
- ``flood(count, size)``: the worker publishes as many messages of this size to ``flood``.
- ``stats()``: the counters of the broker's backend.
- ``emit(text)`` and ``heard()``: events of the bus that all workers share.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from typing import Any

import uvloop

from pywebtransport import ServerApp, ServerConfig
from pywebtransport.events import Event, EventBus, LocalBackend
from pywebtransport.pubsub import Broker
from pywebtransport.rpc import RpcManager
from pywebtransport.server import current_worker
from pywebtransport.session import WebTransportSession


def make_app(config: ServerConfig) -> ServerApp:
    """Nothing connects the workers but the defaults."""
    app = ServerApp(config=config)
    broker = Broker()
    bus = EventBus(LocalBackend("events"))
    heard: list[str] = []
    app.on_startup(broker.start)
    app.on_startup(bus.start)
    app.on_shutdown(bus.close)
    app.on_shutdown(broker.close)

    @app.on_startup
    def listen() -> None:
        def note(event: Event) -> None:
            heard.append(event.data)

        bus.subscribe("said", note)

    @app.route("/room")
    async def room(session: WebTransportSession) -> None:
        rpc = RpcManager(session)

        @rpc.register
        def who() -> list[int]:
            worker = current_worker()
            assert worker is not None
            return [os.getpid(), worker.index]

        @rpc.register
        async def flood(count: int, size: int) -> None:
            for number in range(count):
                await broker.publish("flood", [number, "x" * size])

        @rpc.register
        def stats() -> dict[str, Any]:
            backend: Any = broker._backend
            return dict(backend.get_stats())

        @rpc.register
        async def emit(text: str) -> None:
            await bus.emit("said", text)

        rpc.register(lambda: heard, name="heard")
        await broker.serve(session, rpc=rpc)

    return app


def main() -> None:
    """Serve until SIGTERM."""
    fields, loop_name = [*sys.argv[1:], "asyncio"][:2]
    for name in ("pywebtransport.server", "pywebtransport.events"):
        logger = logging.getLogger(name)
        logger.addHandler(logging.StreamHandler(sys.stdout))
        logger.setLevel(logging.INFO)
    app = make_app(ServerConfig(**json.loads(fields)))
    app.run(loop_factory=(uvloop if loop_name == "uvloop" else asyncio).new_event_loop)


if __name__ == "__main__":
    main()
