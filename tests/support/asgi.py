"""ASGI applications for tests: one that does what the test does, and the server around it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from pywebtransport import ServerApp, ServerConfig

from .endpoints import Served, Serving

__all__ = ["Call", "Stage", "events_until", "mounted", "opened"]

Message = dict[str, Any]


class Call:
    """One call of a ``Stage``: the test is the application, until it says how that ends.

    Attributes:
        scope: What the server called it with.
        stage: The application.
    """

    def __init__(self, stage: Stage, scope: Message, receive: Any, send: Any) -> None:
        self.stage = stage
        self.scope = scope
        self._receive = receive
        self._send = send
        self.outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ended = asyncio.Event()

    async def receive(self) -> Message:
        event: Message = await self._receive()
        return event

    async def send(self, kind: str, **fields: Any) -> None:
        """Send a message whose type begins with that of the scope."""
        await self._send({"type": f"{self.scope['type']}.{kind}", **fields})

    async def send_raw(self, message: Any) -> None:
        """Send whatever it is."""
        await self._send(message)

    async def accept(self, **fields: Any) -> None:
        """Take the first event, and accept."""
        assert (await self.receive())["type"] == f"{self.scope['type']}.connect"
        await self.send("accept", **fields)

    def end(self, error: Exception | None = None) -> None:
        """The application returns, or raises."""
        if error is None:
            self.outcome.set_result(None)
        else:
            self.outcome.set_exception(error)


class Stage:
    """An application whose calls are played by the test."""

    def __init__(self) -> None:
        self._calls: asyncio.Queue[Call] = asyncio.Queue()

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        call = Call(self, scope, receive, send)
        self._calls.put_nowait(call)
        try:
            await call.outcome
        finally:
            call.ended.set()

    async def next(self) -> Call:
        """The next call."""
        return await self._calls.get()


@asynccontextmanager
async def mounted(
    serving: Serving, config: ServerConfig, application: Callable[..., Any]
) -> AsyncIterator[Served]:
    """Serve an application that has no lifespan."""
    app = ServerApp(config=config)
    app.mount(application, lifespan="off", tcp=False)
    block: AbstractAsyncContextManager[Served] = serving(app)
    async with block as served:
        yield served


async def events_until(call: Call, kind: str) -> list[Message]:
    """The events of a session up to the first of a type."""
    events = [await call.receive()]
    while events[-1]["type"] != f"webtransport.{kind}":
        events.append(await call.receive())
    return events


async def opened(call: Call, **fields: Any) -> int:
    """Let the application open a stream; its ID."""
    await call.send("stream.open", **fields)
    event = (await events_until(call, "stream.opened"))[-1]
    return int(event["stream"])
