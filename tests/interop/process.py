"""A peer in a process of its own, which speaks JSON on its standard input and output.

``{"id", "op", ...}`` goes in, one object per line, ``{"id", "result"}`` or ``{"id", "error"}``
comes out, in whatever order operations end. The operations are those of ``Far``, and ``connect``,
``listen`` and ``accept``.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from tests.support.environments import foreign_environment

from .link import Digest, Far

__all__ = ["PeerServer", "PeerSession", "program"]

_PATIENCE = 30.0
_LINE_LIMIT = 1 << 20

S = TypeVar("S", bound="PeerSession")


class _Process:
    """The program, with its standard input and output on one socket."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], directory: Path | None
    ) -> None:
        self.socket, theirs = socket.socketpair()
        try:
            # What the peer's library logs is its own business; it is shown if it dies.
            self._popen = subprocess.Popen(
                command,
                stdin=theirs,
                stdout=theirs,
                stderr=subprocess.DEVNULL,
                env=foreign_environment(**environment),
                cwd=directory,
            )
        except BaseException:
            self.socket.close()
            raise
        finally:
            theirs.close()

    def end(self) -> None:
        """Wait for its end; its input has been closed."""
        try:
            self._popen.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
            raise


class PeerSession:
    """The verbs of ``Far``, carried out by the program."""

    tells_ids = True

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}

    async def call(self, operation: str, **arguments: Any) -> Any:
        """Run one operation of the program."""
        number = next(self._numbers)
        future = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        message = {"id": number, "op": operation, **arguments}
        self._writer.write(json.dumps(message).encode() + b"\n")
        try:
            async with asyncio.timeout(_PATIENCE):
                return await future
        finally:
            self._waiting.pop(number, None)

    async def read_answers(self) -> None:
        """Pass the answers of the program to waiting callers, until it ends."""
        while line := await self._reader.readline():
            answer = json.loads(line)
            future = self._waiting.get(answer["id"])
            if future is None or future.done():
                continue
            if "error" in answer:
                future.set_exception(ConnectionError(answer["error"]))
            else:
                future.set_result(answer["result"])
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(ConnectionError("the peer's program ended"))

    async def open_stream(self, *, unidirectional: bool) -> int:
        return int(await self.call("open_stream", unidirectional=unidirectional))

    async def accept_stream(self, *, unidirectional: bool) -> int:
        return int(await self.call("accept_stream", unidirectional=unidirectional))

    async def send(self, stream_id: int, data: bytes, *, fin: bool = False) -> None:
        await self.call("send", stream_id=stream_id, data=data.hex(), fin=fin)

    async def send_pattern(self, stream_id: int, size: int, seed: int) -> None:
        await self.call("send_pattern", stream_id=stream_id, size=size, seed=seed)

    async def receive(self, stream_id: int) -> Digest:
        return Digest(*await self.call("receive", stream_id=stream_id))

    async def reset(self, stream_id: int, code: int) -> None:
        await self.call("reset", stream_id=stream_id, code=code)

    async def stop(self, stream_id: int, code: int) -> None:
        await self.call("stop", stream_id=stream_id, code=code)

    async def was_reset(self, stream_id: int) -> int:
        return int(await self.call("was_reset", stream_id=stream_id))

    async def was_stopped(self, stream_id: int) -> int:
        return int(await self.call("was_stopped", stream_id=stream_id))

    async def send_datagram(self, data: bytes) -> None:
        await self.call("send_datagram", data=data.hex())

    async def receive_datagram(self) -> bytes:
        return bytes.fromhex(await self.call("receive_datagram"))

    async def close(self, code: int, reason: str) -> None:
        await self.call("close", code=code, reason=reason)

    async def was_closed(self) -> tuple[int, str]:
        code, reason = await self.call("was_closed")
        return int(code), str(reason)


@asynccontextmanager
async def program(
    *command: str,
    environment: Mapping[str, str],
    directory: Path | None = None,
    session: type[S],
) -> AsyncIterator[S]:
    """Run a peer's program while the block runs; it ends when its input does.

    Args:
        command: The program.
        environment: Variables, besides those of this process.
        directory: Where it runs.
        session: What its session is in the hands of.
    """
    process = _Process(command, environment, directory)
    reader, writer = await asyncio.open_connection(sock=process.socket, limit=_LINE_LIMIT)
    far = session(reader, writer)
    answers = asyncio.create_task(far.read_answers())
    try:
        yield far
    finally:
        writer.write_eof()
        await answers
        process.end()
        writer.close()
        await writer.wait_closed()


class PeerServer:
    """A peer that listens, for one session; ``accept`` gives it."""

    def __init__(self, port: int, session: PeerSession) -> None:
        self.port = port
        self._session = session

    async def accept(self) -> Far:
        """Wait for the session."""
        await self._session.call("accept")
        return self._session
