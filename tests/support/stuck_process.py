"""A server with code that does not end: ``python -m tests.support.stuck_process KIND LOOP FIELDS``.

``FIELDS`` are those of the configuration as JSON; ``KIND`` is the name of a function here.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable

import uvloop

from pywebtransport import ServerApp, ServerConfig, WebTransportSession
from pywebtransport.rpc import RpcManager
from pywebtransport.types import EventType

Kind = Callable[[ServerApp], None]
KINDS: dict[str, Kind] = {}
_kept: list[object] = []


async def endure() -> None:
    """Continue when cancelled."""
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            continue


def kind(function: Kind) -> Kind:
    """One way not to end."""
    KINDS[function.__name__] = function
    return function


def say(text: str) -> None:
    """For the test that waits for it."""
    print(text, flush=True)


@kind
def handler(app: ServerApp) -> None:
    @app.route("/")
    async def stubborn_handler(session: WebTransportSession) -> None:
        say("stuck")
        await endure()


@kind
def middleware(app: ServerApp) -> None:
    @app.middleware
    async def stubborn_middleware(session: WebTransportSession) -> bool:
        say("stuck")
        await endure()
        return True

    @app.route("/")
    async def serve(session: WebTransportSession) -> None:
        """Never reached."""


@kind
def listener(app: ServerApp) -> None:
    @app.route("/")
    async def serve(session: WebTransportSession) -> None:
        async def stubborn_listener(event: object) -> None:
            say("stuck")
            await endure()

        session.on(EventType.STREAM_OPENED, stubborn_listener)
        await session.create_bidirectional_stream()


@kind
def remote_call(app: ServerApp) -> None:
    async def stubborn_method() -> None:
        say("stuck")
        await endure()

    @app.route("/")
    async def serve(session: WebTransportSession) -> None:
        manager = RpcManager(session)
        manager.register(stubborn_method, name="stubborn")
        await manager.serve()


@kind
def hook(app: ServerApp) -> None:
    @app.on_shutdown
    async def stubborn_hook() -> None:
        await endure()


@kind
def sleeping_hook(app: ServerApp) -> None:
    @app.on_shutdown
    def sleeping_hook() -> None:
        time.sleep(1000)


@kind
def startup(app: ServerApp) -> None:
    @app.on_startup
    async def stubborn_startup() -> None:
        say("listening on nothing port 0")
        say("stuck")
        await endure()


@kind
def background(app: ServerApp) -> None:
    @app.on_startup
    async def start() -> None:
        async def stubborn_job() -> None:
            await endure()

        _kept.append(asyncio.create_task(stubborn_job()))


@kind
def generator(app: ServerApp) -> None:
    async def stubborn_generator() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await endure()

    @app.on_startup
    async def start() -> None:
        numbers = stubborn_generator()
        _kept.append(numbers)
        await anext(numbers)


@kind
def thread(app: ServerApp) -> None:
    def stubborn_thread() -> None:
        say("stuck")
        threading.Event().wait()

    @app.route("/")
    async def serve(session: WebTransportSession) -> None:
        await asyncio.to_thread(stubborn_thread)


@kind
def blocked_loop(app: ServerApp) -> None:
    @app.route("/")
    async def blocking_handler(session: WebTransportSession) -> None:
        say("stuck")
        while True:
            time.sleep(0.01)  # noqa: ASYNC251 - that is what it is for


@kind
def patient(app: ServerApp) -> None:
    """This one ends: it needs its time, and has it."""

    @app.on_shutdown
    async def end() -> None:
        await asyncio.sleep(0.5)
        say("ended")


def main() -> None:
    """Serve until a signal comes."""
    name, loop_name, fields = sys.argv[1:]
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(levelname)s %(message)s")
    app = ServerApp(config=ServerConfig(**json.loads(fields)))
    KINDS[name](app)
    try:
        app.run(loop_factory=(uvloop if loop_name == "uvloop" else asyncio).new_event_loop)
    finally:
        say("run() is over")


if __name__ == "__main__":
    main()
