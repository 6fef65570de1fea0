"""The measurements, seen from the client: every one warms up, then measures, and checks."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

from .control import Control
from .interface import Client, Connected
from .payload import Checker, ContentError, datagrams, message
from .server import send_blocks
from .usage import cpu_seconds, peak_memory

__all__ = ["MEASUREMENTS", "Measured"]

# Seconds without an answer after which a datagram counts as lost and is sent again.
_PATIENCE = 0.25
# Seconds without a further arrival after which what has not come will not come.
_SETTLED = 0.5
# Seconds that the server may take to learn of the last close.
_CLOSED = 5.0

Figures = dict[str, Any]


class Measured:
    """Time and CPU time of both ends around what is measured."""

    def __init__(self, control: Control) -> None:
        self._control = control

    async def begin(self) -> None:
        """Begin to measure."""
        self._server = (await self._control.ask("usage"))["cpu"]
        self._client = cpu_seconds()
        self.started = time.monotonic()

    async def end(self) -> Figures:
        """What was used since ``begin``."""
        seconds = time.monotonic() - self.started
        client = cpu_seconds() - self._client
        server = await self._control.ask("usage")
        return {
            "seconds": seconds,
            "client_cpu": client,
            "server_cpu": server["cpu"] - self._server,
            "client_peak": peak_memory(),
            "server_peak": server["peak"],
        }


async def upload(client: Client, control: Control, job: Figures) -> Figures:
    """Streams to the server, each as much as goes in the time."""
    session = await client.connect()

    async def one(seconds: float) -> int:
        stream = await session.open_stream()
        sent = await send_blocks(stream, job["size"], time.monotonic() + seconds)
        await stream.finish(b"")
        answer = json.loads(bytes(await stream.read_all()))
        if answer != {"bytes": sent}:
            raise ContentError(f"sent {sent} bytes, the server says {answer}")
        return sent

    return await _transfer(session, control, job, one)


async def download(client: Client, control: Control, job: Figures) -> Figures:
    """Streams from the server, each as much as goes in the time."""
    session = await client.connect()
    received = 0

    async def one(seconds: float) -> int:
        nonlocal received
        stream = await session.open_stream()
        await stream.finish(json.dumps({"size": job["size"], "seconds": seconds}).encode())
        checker = Checker()
        read = stream.read
        while data := await read():
            checker.feed(data)
        received += checker.size
        return checker.size

    figures = await _transfer(session, control, job, one)
    sent = (await control.ask("counts"))["sent"]
    if received != sent:
        raise ContentError(f"the server sent {sent} bytes, {received} arrived")
    return figures


async def _transfer(
    session: Connected, control: Control, job: Figures, one: Callable[[float], Awaitable[int]]
) -> Figures:
    parallel = job.get("parallel", 1)
    if job["warmup"]:
        await asyncio.gather(*(one(job["warmup"]) for _ in range(parallel)))
    measured = Measured(control)
    await measured.begin()
    moved = sum(await asyncio.gather(*(one(job["seconds"]) for _ in range(parallel))))
    figures = await measured.end()
    await session.close()
    cpu = figures["client_cpu"] + figures["server_cpu"]
    return {
        **figures,
        "bytes": moved,
        "rate": moved / figures["seconds"] / (1 << 20),
        "cpu_per_gib": cpu / (moved / (1 << 30)),
    }


async def ping_pong(client: Client, control: Control, job: Figures) -> Figures:
    """A message there and back on one stream, one after the other."""
    session = await client.connect()
    stream = await session.open_stream()
    text = message(job["size"])
    write, read, clock = stream.write, stream.read, time.monotonic

    async def play(seconds: float) -> list[float]:
        durations = []
        deadline = clock() + seconds
        while (start := clock()) < deadline:
            await write(text)
            answer = await read()
            while len(answer) < len(text):
                answer = b"".join((answer, await read()))
            durations.append(clock() - start)
            if not text.startswith(answer):
                raise ContentError(f"the answer of {len(answer)} bytes is not what was sent")
        return durations

    await play(job["warmup"])
    measured = Measured(control)
    await measured.begin()
    durations = await play(job["seconds"])
    figures = await measured.end()
    await stream.finish(b"")
    await session.close()
    return {**figures, **_rate_and_latency(durations, figures)}


async def streams(client: Client, control: Control, job: Figures) -> Figures:
    """A stream per request and answer, ``at_once`` of them at a time."""
    session = await client.connect()
    text = message(job["size"])

    async def worker(deadline: float, durations: list[float]) -> None:
        clock = time.monotonic
        while (start := clock()) < deadline:
            stream = await session.open_stream()
            await stream.finish(text)
            answer = await stream.read_all()
            durations.append(clock() - start)
            if len(answer) != len(text) or not text.startswith(answer):
                raise ContentError(f"sent {len(text)} bytes, got back {len(answer)} or others")

    return await _workers(worker, control, job, session)


async def connects(client: Client, control: Control, job: Figures) -> Figures:
    """Connection, session and close, ``at_once`` of them at a time."""
    closing: set[asyncio.Task[None]] = set()
    loop = asyncio.get_running_loop()

    async def worker(deadline: float, durations: list[float]) -> None:
        clock = time.monotonic
        while (start := clock()) < deadline:
            session = await client.connect()
            if job["await_close"]:
                await session.close()
            else:
                task = loop.create_task(session.close())
                closing.add(task)
                task.add_done_callback(closing.discard)
            durations.append(clock() - start)

    figures = await _workers(worker, control, job, None)
    await asyncio.gather(*closing)
    expected = figures["count"] + figures["warmups"]
    counts = await control.ask("counts")
    deadline = time.monotonic() + _CLOSED
    while counts["closed"] < expected and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
        counts = await control.ask("counts")
    if counts["sessions"] != expected or counts["closed"] != expected:
        raise ContentError(
            f"{expected} sessions were opened and closed, the server saw {counts['sessions']} "
            f"begin and {counts['closed']} end"
        )
    return figures


async def _workers(
    worker: Callable[[float, list[float]], Awaitable[None]],
    control: Control,
    job: Figures,
    session: Connected | None,
) -> Figures:
    async def play(seconds: float) -> list[float]:
        durations: list[float] = []
        deadline = time.monotonic() + seconds
        await asyncio.gather(*(worker(deadline, durations) for _ in range(job["at_once"])))
        return durations

    warmups = len(await play(job["warmup"]))
    measured = Measured(control)
    await measured.begin()
    durations = await play(job["seconds"])
    figures = await measured.end()
    if session is not None:
        await session.close()
    return {**figures, **_rate_and_latency(durations, figures), "warmups": warmups}


async def datagram_echo(client: Client, control: Control, job: Figures) -> Figures:
    """A datagram there and back, one after the other."""
    session = await client.connect()
    echo = _DatagramEcho(session, job["size"])
    await echo.play(job["warmup"])
    echo.durations, echo.lost = [], 0
    measured = Measured(control)
    await measured.begin()
    await echo.play(job["seconds"])
    figures = await measured.end()
    echo.close()
    await session.close()
    return {**figures, **_rate_and_latency(echo.durations, figures), "lost": echo.lost}


class _DatagramEcho:
    """Sends a datagram and waits for it; one that does not come is sent again."""

    def __init__(self, session: Connected, size: int) -> None:
        self._session = session
        self._payloads = datagrams(size)
        self._waiting = b""
        self._seen = b""
        self._again: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(_PATIENCE, self._look)
        self.durations: list[float] = []
        self.lost = 0

    async def play(self, seconds: float) -> None:
        send, receive = self._session.send_datagram, self._session.receive_datagram
        clock, durations = time.monotonic, self.durations
        deadline = clock() + seconds
        while (start := clock()) < deadline:
            payload = self._waiting = next(self._payloads)
            lost = self.lost
            await send(payload)
            while (answer := await receive()) != payload:
                if bytes(answer[4:]) != payload[4:]:
                    raise ContentError("a datagram came back changed")
            if self.lost == lost:
                durations.append(clock() - start)
        self._waiting = b""

    def close(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        """Every now and then: is it still the same one that we wait for?"""
        if self._waiting and self._waiting == self._seen:
            self.lost += 1
            task = self._loop.create_task(self._session.send_datagram(self._waiting))
            self._again.add(task)
            task.add_done_callback(self._again.discard)
        self._seen = self._waiting
        self._timer = self._loop.call_later(_PATIENCE, self._look)


async def datagrams_one_way(client: Client, control: Control, job: Figures) -> Figures:
    """Datagrams to the server, as many as the library lets its user send."""
    session = await client.connect()
    numbered = datagrams(job["size"])
    sent = 0

    def payloads(seconds: float) -> Any:
        nonlocal sent
        clock = time.monotonic
        deadline = clock() + seconds
        while clock() < deadline:
            sent += 1
            yield next(numbered)

    async def settle() -> Figures:
        """Wait for the last arrivals; what the server counted."""
        counts = await control.ask("counts")
        quiet = time.monotonic()
        while counts["arrived"] < sent and time.monotonic() - quiet < _SETTLED:
            await asyncio.sleep(0.02)
            before, counts = counts, await control.ask("counts")
            if counts["arrived"] != before["arrived"]:
                quiet = time.monotonic()
        return counts

    await session.send_datagrams(payloads(job["warmup"]))
    await settle()
    await control.ask("reset")
    sent = 0
    measured = Measured(control)
    await measured.begin()
    await session.send_datagrams(payloads(job["seconds"]))
    figures = await measured.end()
    counts = await settle()
    figures["server_cpu"] = (await measured.end())["server_cpu"]
    await session.close()
    if counts["wrong"] or counts["distinct"] != counts["arrived"]:
        raise ContentError(f"datagrams arrived changed or more than once: {counts}")
    seconds = max(counts["last"] - measured.started, 1e-9)
    cpu = figures["client_cpu"] + figures["server_cpu"]
    return {
        **figures,
        "cpu_per_operation": cpu / max(counts["arrived"], 1) * 1e6,
        "sent": sent,
        "delivered": counts["arrived"],
        "lost": sent - counts["arrived"],
        "loss": (sent - counts["arrived"]) / sent,
        "rate": counts["arrived"] / seconds,
    }


async def idle_sessions(client: Client, control: Control, job: Figures) -> Figures:
    """Memory that the server uses for each session that does nothing."""
    count, at_once = job["count"], job["at_once"]

    async def open_many(number: int) -> list[Connected]:
        sessions: list[Connected] = []
        while len(sessions) < number:
            part = min(at_once, number - len(sessions))
            sessions += await asyncio.gather(*(client.connect() for _ in range(part)))
        return sessions

    # What the first sessions cost once is not counted.
    sessions = await open_many(job["warmup_count"])
    await asyncio.sleep(job["settle"])
    before = await control.ask("memory")
    measured = Measured(control)
    await measured.begin()
    sessions += await open_many(count)
    figures = await measured.end()
    await asyncio.sleep(job["settle"])
    after = await control.ask("memory")
    if after["sessions"] - before["sessions"] != count:
        raise ContentError(f"{count} sessions were opened, the server says {before} {after}")
    return {
        **figures,
        "count": count,
        "pss": (after["pss"] - before["pss"]) / count / 1024,
        "rss": (after["rss"] - before["rss"]) / count / 1024,
    }


def _rate_and_latency(durations: list[float], figures: Figures) -> Figures:
    """Operations per second, and percentiles in microseconds."""
    if len(durations) < 2:
        raise ContentError(f"only {len(durations)} operations ended in time")
    percentiles = statistics.quantiles(durations, n=100, method="inclusive")
    return {
        "count": len(durations),
        "rate": len(durations) / figures["seconds"],
        "p50": percentiles[49] * 1e6,
        "p99": percentiles[98] * 1e6,
        "cpu_per_operation": (figures["client_cpu"] + figures["server_cpu"]) / len(durations) * 1e6,
    }


MEASUREMENTS: dict[str, Callable[[Client, Control, Figures], Awaitable[Figures]]] = {
    "upload": upload,
    "download": download,
    "ping_pong": ping_pong,
    "streams": streams,
    "connects": connects,
    "datagram_echo": datagram_echo,
    "datagrams": datagrams_one_way,
    "idle_sessions": idle_sessions,
}
