"""A client of moq-rs, which speaks QMux by the Rust crate qmux, in a process of its own.

See ``lines.py`` for how it is told what to do. Runs under Python 3.12 or later and imports nothing
of this project.
"""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta

import moq
from lines import serve


class Peer:
    """A client that announces a broadcast to whoever it is connected to."""

    def __init__(self) -> None:
        self._client: moq.Client | None = None
        self._connected: asyncio.Task[moq.Client] | None = None

    async def connect(self, port: int, path: str, cafile: str) -> None:
        self._client = moq.Client(
            f"https://127.0.0.1:{port}{path}",
            tls_roots=[cafile],
            websocket_delay=timedelta(0),
            reconnect=False,
        )
        self._connected = asyncio.create_task(self._client.__aenter__())

    async def was_connected(self) -> None:
        await self._connected

    async def announce(self, name: str) -> None:
        self._client.create_broadcast(name)

    async def was_closed(self) -> list[object]:
        try:
            await self._client.session.closed()
        except Exception as error:
            return [0, f"{type(error).__name__}: {error}"]
        return [0, ""]

    async def finish(self) -> None:
        os._exit(0)


asyncio.run(serve(Peer))
