"""Bodies of any length take little memory, and so does a request that waits.

``make test-bodies`` runs the transfers with 1 GiB each.
"""

from __future__ import annotations

import asyncio
import gc
import os
from typing import Any

import pytest

from tests.support.asgi_http import answer, asgi_served, by_path, start
from tests.support.certificates import Certificates
from tests.support.memory import Memory
from tests.support.steps import until

MIB = 1 << 20
SIZE = int(os.environ.get("PYWEBTRANSPORT_BODY_MIB", "48")) * MIB
PIECE = bytes(256 * 1024)
# Both ends are in this process.
GROWTH = 10 * MIB

pytestmark = [pytest.mark.loops("asyncio"), pytest.mark.limit(60 + SIZE // MIB)]


class Peak:
    """The most memory that was in use beyond that at the beginning."""

    def __init__(self) -> None:
        self._before = Memory.now()
        self.most = 0

    def look(self) -> None:
        """Measure again."""
        now = Memory.now()
        self.most = max(self.most, now.resident - self._before.resident)


async def count(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the length of the body."""
    total = 0
    while True:
        event = await receive()
        total += len(event["body"])
        if not event["more_body"]:
            break
    await answer(send, str(total).encode())


async def fill(scope: Any, receive: Any, send: Any) -> None:
    """Sends as many bytes as the query says."""
    left = int(scope["query_string"])
    await send(start(200, (b"content-length", str(left).encode())))
    while left:
        piece = PIECE[:left]
        left -= len(piece)
        await send({"type": "http.response.body", "body": piece, "more_body": left > 0})


async def test_memory_of_large_bodies(certs: Certificates, record_figures: Any) -> None:
    async with asgi_served(certs, by_path(count=count, fill=fill)) as asgi:
        # Buffers and windows grow to their usual size first.
        for _ in range(2):
            warm = asgi.client.open("GET", f"/fill?{8 * MIB}")
            while await warm.read():
                pass
            warm = asgi.client.open("POST", "/count", fin=False)
            await warm.send_all(bytes(8 * MIB))
            await warm.finish()
        down = Peak()
        exchange = asgi.client.open("GET", f"/fill?{SIZE}")
        got = 0
        looked = 0
        while data := await exchange.read():
            got += len(data)
            if got - looked > SIZE / 16:
                looked = got
                down.look()
        assert got == SIZE
        up = Peak()
        exchange = asgi.client.open("POST", "/count", fin=False)
        for at in range(0, SIZE, len(PIECE)):
            await exchange.send_all(PIECE, at + len(PIECE) == SIZE)
            if at % (SIZE // 16) == 0:
                up.look()
        assert (await exchange.finish()).body == str(SIZE).encode()
        up.look()
    record_figures(download=f"{down.most // 1024} KiB", upload=f"{up.most // 1024} KiB")
    assert down.most < GROWTH
    assert up.most < GROWTH


async def test_memory_of_a_request_that_waits(certs: Certificates, record_figures: Any) -> None:
    """Scope, task, stream and all: about 6 KiB at the server."""
    go = asyncio.Event()

    async def wait(scope: Any, receive: Any, send: Any) -> None:
        await go.wait()
        await answer(send)

    amount = 1000
    fields = {"initial_max_streams_bidi": 2 * amount, "max_incoming_streams": 2 * amount}
    async with asgi_served(certs, wait, **fields) as asgi:
        tasks = asgi.server.http_requests.tasks
        raw = asgi.client.connection.h3
        assert raw is not None

        async def open_some() -> tuple[Any, Memory]:
            """Request so many; the memory of the streams alone is that of the client's end."""
            before = Memory.now()
            known = len(tasks)
            exchanges = [asgi.client.open("GET", "/") for _ in range(amount)]
            await until(lambda: len(tasks) == known + amount)
            return exchanges, before

        first, _ = await open_some()
        second, before = await open_some()
        now = Memory.now()
        grown = now.heap - before.heap
        record_figures(
            heap=f"{grown // amount} bytes", blocks=(now.blocks - before.blocks) / amount
        )
        go.set()
        for exchange in (*first, *second):
            assert (await exchange.finish()).status == 200


@pytest.mark.loops("asyncio", "uvloop")
async def test_requests_leave_no_cycles(certs: Certificates) -> None:
    """Their memory is free when they end, answered or cancelled, without the garbage collector."""

    async def whole(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await answer(send, b"x")

    async def half(scope: Any, receive: Any, send: Any) -> None:
        await send(start())
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await receive()
        assert (await receive())["type"] == "http.disconnect"

    async with asgi_served(certs, by_path(whole=whole, half=half)) as asgi:

        async def some(count: int) -> None:
            for _ in range(count):
                await asgi.client.get("/whole")
                exchange = asgi.client.open("GET", "/half")
                await exchange.read()
                exchange.cancel()
            await until(lambda: not asgi.server.http_requests.tasks)

        await some(5)
        gc.collect()
        gc.disable()
        try:
            await some(50)
            assert gc.collect() < 50
        finally:
            gc.enable()
