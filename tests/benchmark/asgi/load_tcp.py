"""A client of HTTP/1.1 and HTTP/2 that costs little: requests made beforehand, over TLS.

``python -m tests.benchmark.asgi.load_tcp JOB`` (JSON) prints its figures as JSON. HTTP/1.1 has one
request at a time on each connection, HTTP/2 as many as are wanted.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import sys
import time
from typing import Any

from ..growth import loop_factories
from .applications import BODY
from .load_h3 import figures
from .processor import processor_time

__all__ = ["main"]

_GET_1 = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"
_DATA, _HEADERS, _SETTINGS, _RESET, _GOAWAY = 0, 1, 4, 3, 7
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
# GET, https, "/", and :authority as a literal without a table (RFC 7541).
_BLOCK = b"\x82\x87\x84\x01\x09localhost"
_ROOM = (1 << 31) - 1 - 65535


class Http1(asyncio.Protocol):
    """One request after the other."""

    def __init__(self, times: list[float], in_flight: int) -> None:
        self._times = times
        self._buffer = b""
        self._began = 0.0
        self.problem = ""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        self._began = time.perf_counter()
        self._transport.write(_GET_1)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._buffer.endswith(BODY):
            return
        if not self._buffer.startswith(b"HTTP/1.1 200"):
            self.problem = f"a wrong answer: {self._buffer!r}"
            return
        self._buffer = b""
        self._times.append(time.perf_counter() - self._began)
        self._ask()

    def connection_lost(self, error: Exception | None) -> None:
        self.problem = self.problem or "the connection ended"


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    head = len(payload).to_bytes(3) + bytes((kind, flags))
    return head + stream.to_bytes(4) + payload


class Http2(asyncio.Protocol):
    """Several streams at a time."""

    def __init__(self, times: list[float], in_flight: int) -> None:
        self._times = times
        self._in_flight = in_flight
        self._buffer = bytearray()
        self._began: dict[int, float] = {}
        self._next = 1
        self._bodies = self._ended = 0
        self.problem = ""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            + _frame(_SETTINGS, 0, 0, b"\x00\x01" + bytes(4))  # no table for header fields
            + _frame(8, 0, 0, _ROOM.to_bytes(4))
        )
        self._ask(self._in_flight)

    def _ask(self, count: int) -> None:
        frames = []
        now = time.perf_counter()
        for _ in range(count):
            self._began[self._next] = now
            frames.append(_frame(_HEADERS, _END_STREAM | _END_HEADERS, self._next, _BLOCK))
            self._next += 2
        self._transport.write(b"".join(frames))

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        at = ended = 0
        while len(buffer) - at >= 9:
            size = int.from_bytes(buffer[at : at + 3])
            if len(buffer) - at < 9 + size:
                break
            kind, flags = buffer[at + 3], buffer[at + 4]
            stream = int.from_bytes(buffer[at + 5 : at + 9])
            payload = bytes(buffer[at + 9 : at + 9 + size])
            at += 9 + size
            if kind == _SETTINGS and not flags & _ACK:
                self._transport.write(_frame(_SETTINGS, _ACK, 0))
            elif kind in (_RESET, _GOAWAY):
                self.problem = f"the server gives up: {payload!r}"
            elif kind == _DATA and payload:
                if payload != BODY:
                    self.problem = f"a wrong answer: {payload!r}"
                self._bodies += 1
            if kind in (_DATA, _HEADERS) and flags & _END_STREAM:
                self._times.append(time.perf_counter() - self._began.pop(stream))
                ended += 1
        del buffer[:at]
        if ended:
            self._ended += ended
            self._ask(ended)
        if self._bodies < self._ended:
            self.problem = "answers without a body"

    def connection_lost(self, error: Exception | None) -> None:
        self.problem = self.problem or "the connection ended"


async def requests(job: dict[str, Any]) -> dict[str, Any]:
    """The same small request all the time."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    version = job["version"]
    context.set_alpn_protocols(["h2" if version == "2" else "http/1.1"])
    times: list[float] = []
    kind = Http2 if version == "2" else Http1
    loop = asyncio.get_running_loop()
    opened = [
        await loop.create_connection(
            lambda: kind(times, job["in_flight"]),
            "127.0.0.1",
            job["port"],
            ssl=context,
            server_hostname="localhost",
        )
        for _ in range(job["connections"])
    ]
    await asyncio.sleep(job["warmup"])
    times.clear()
    before, started = processor_time(job["pids"]), time.perf_counter()
    await asyncio.sleep(job["seconds"])
    seconds = time.perf_counter() - started
    found = {**figures(list(times), seconds), "cpu": processor_time(job["pids"]) - before}
    problems = [protocol.problem for _, protocol in opened if protocol.problem]
    for transport, _ in opened:
        transport.abort()
    return {"error": problems[0]} if problems else found


def main() -> None:
    """Do a job and print its figures."""
    job = json.loads(sys.argv[1])
    os.sched_setaffinity(0, set(job["processors"]))
    factories = loop_factories()
    with asyncio.Runner(loop_factory=factories.get("uvloop", factories["asyncio"])) as runner:
        print(json.dumps(runner.run(requests(job))))


if __name__ == "__main__":
    main()
