"""zmuxio as a QMux client and server over WebSocket, in a process of its own; see ``lines.py``.

Runs under Python 3.12 or later and imports nothing of this project.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import random
from typing import Any

import zmux
from lines import serve

_CHUNK = 1 << 18


class Peer:
    """One session and the operations on it."""

    def __init__(self) -> None:
        self._session: Any = None
        self._listener: Any = None
        self._numbers = itertools.count()
        self._sending: dict[int, Any] = {}
        self._receiving: dict[int, Any] = {}

    # --- session

    async def connect(self, port: int, path: str, cafile: str) -> None:
        self._session = await zmux.connect_websocket(
            f"wss://127.0.0.1:{port}{path}", tls=zmux.TlsConfig(ca=cafile), config=_CONFIG
        )

    async def listen(self, certfile: str, keyfile: str) -> int:
        self._listener = zmux.Listener(_CONFIG)
        tls = zmux.TlsConfig(cert=certfile, key=keyfile)
        address = await self._listener.serve_websocket("127.0.0.1:0", tls=tls)
        return int(address.rpartition(":")[2])

    async def accept(self) -> None:
        self._session = await self._listener.accept()

    # --- streams

    def _keep(self, sending: Any = None, receiving: Any = None) -> int:
        number = next(self._numbers)  # it has no ID before something of it is on the wire
        if sending is not None:
            self._sending[number] = sending
        if receiving is not None:
            self._receiving[number] = receiving
        return number

    async def open_stream(self, unidirectional: bool) -> int:
        if unidirectional:
            return self._keep(sending=await self._session.open_uni())
        return self._keep(*await self._session.open_bi())

    async def accept_stream(self, unidirectional: bool) -> int:
        if unidirectional:
            return self._keep(receiving=await self._session.accept_uni())
        return self._keep(*await self._session.accept_bi())

    async def send(self, stream_id: int, data: str, fin: bool) -> None:
        stream = self._sending[stream_id]
        if data:
            await stream.write(bytes.fromhex(data))
        if fin:
            await stream.finish()

    async def send_pattern(self, stream_id: int, size: int, seed: int) -> None:
        data = random.Random(seed).randbytes(size)
        stream = self._sending[stream_id]
        for start in range(0, size, _CHUNK):
            await stream.write(data[start : start + _CHUNK])
        await stream.finish()

    async def receive(self, stream_id: int) -> list[Any]:
        digest, size = hashlib.sha256(), 0
        async for chunk in self._receiving[stream_id]:
            digest.update(chunk)
            size += len(chunk)
        return [size, digest.hexdigest()]

    async def reset(self, stream_id: int, code: int) -> None:
        await self._sending[stream_id].reset(code)

    async def stop(self, stream_id: int, code: int) -> None:
        await self._receiving[stream_id].stop(code)

    async def was_reset(self, stream_id: int) -> int:
        try:
            await self.receive(stream_id)
        except zmux.StreamReset as error:
            return error.code
        raise ConnectionError(f"stream {stream_id} ended without a reset")

    async def was_stopped(self, stream_id: int) -> int:
        return await self._sending[stream_id].stopped()

    # --- datagrams and the end

    async def send_datagram(self, data: str) -> None:
        self._session.send_datagram(bytes.fromhex(data))

    async def receive_datagram(self) -> str:
        return (await self._session.read_datagram()).hex()

    async def close(self, code: int, reason: str) -> None:
        self._session.close(code, reason.encode())

    async def was_closed(self) -> list[Any]:
        info = await self._session.wait_closed()
        if info.code is None or info.reason is None:
            raise info.error
        return [info.code, info.reason.decode()]

    async def protocol(self) -> str | None:
        return self._session.protocol

    async def finish(self) -> None:
        if self._session is not None:
            self._session.close()
            await self._session.wait_closed()
        if self._listener is not None:
            self._listener.close()
        os._exit(0)  # the end of an interpreter that has its runtime may crash


_CONFIG = zmux.Config(datagrams=True)

asyncio.run(serve(Peer))
