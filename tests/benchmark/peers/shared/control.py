"""Questions of the client to the server beside the connection that is measured.

A Unix socket on the server's own loop: nothing happens on it while a measurement runs.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

__all__ = ["Control", "control_client", "control_server"]


class Control:
    """The client's side."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, question: str) -> dict[str, Any]:
        """Ask for ``usage``, ``memory`` or ``counts``."""
        self._writer.write(question.encode() + b"\n")
        answer: dict[str, Any] = json.loads(await self._reader.readline())
        return answer


@asynccontextmanager
async def control_client(path: str) -> AsyncIterator[Control]:
    """Connect to the server's socket."""
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        yield Control(reader, writer)
    finally:
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def control_server(
    path: str, answers: dict[str, Callable[[], dict[str, Any]]]
) -> AsyncIterator[None]:
    """Answer questions with what the functions return."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while question := await reader.readline():
            writer.write(json.dumps(answers[question.decode().strip()]()).encode() + b"\n")
        writer.close()

    server = await asyncio.start_unix_server(serve, path)
    try:
        yield
    finally:
        server.close()
