"""The client of a long run: ``client.py OPTIONS``, a file to run, with JSON as argument.

Options: ``phase``, ``port``, ``hash`` of the certificate, ``count``, and for some phases
``seconds`` and ``seed``. Prints a line when it begins; the command ``figures`` tells how far it is
and what it holds, ``objects`` with a count of Python objects. What goes wrong is counted by its
words.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from pywebtransport import ClientConfig, WebTransportClient, WebTransportSession
from pywebtransport.exceptions import (
    ConnectionError,
    SessionError,
    StreamError,
    WebTransportError,
)

sys.path.insert(0, str(Path(__file__).parents[1] / "field"))
from commands import figures, say, serve_commands

DATA = bytes(100)
LARGE = bytes(range(256)) * 400
# A datagram is tiny: what is measured is the number.
DATAGRAM = bytes(16)
# Datagrams on their way; the rest waits here, so that few are dropped.
WINDOW = 512


class Work:
    """One phase.

    Attributes:
        done: Streams, sessions or datagrams so far.
        wanted: How many there will be.
        counts: What else is worth telling.
        finished: All is done.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.done = 0
        self.wanted = options["count"]
        self.counts: Counter[str] = Counter()
        self.finished = False
        self.url = f"https://127.0.0.1:{options['port']}/echo"
        self.config = ClientConfig.create(
            server_certificate_hashes=[bytes.fromhex(options["hash"])],
            max_connections=1 << 20,
            connect_timeout=60.0,
        )

    def left(self) -> bool:
        """Take one piece of work, if there is one."""
        if self.done >= self.wanted:
            return False
        self.done += 1
        return True

    def fault(self, error: BaseException) -> None:
        """Something went wrong that should not."""
        self.counts[f"fault: {type(error).__name__}: {str(error)[:80]}"] += 1

    async def answer(self, command: dict[str, Any]) -> dict[str, Any]:
        """The command ``figures``."""
        found = figures() if command.get("objects") else {}
        return {
            **found,
            "done": self.done,
            "wanted": self.wanted,
            "finished": self.finished,
            "counts": dict(self.counts),
        }


async def workers(count: int, work: Callable[[], Awaitable[None]]) -> None:
    """So many at a time."""
    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(work())  # type: ignore[arg-type]


async def streams(work: Work) -> None:
    """Echoes on bidirectional streams and bytes on unidirectional ones, over four connections."""
    async with WebTransportClient(config=work.config) as client:
        sessions = [await client.connect(work.url) for _ in range(4)]

        async def one(session: WebTransportSession) -> None:
            while work.left():
                try:
                    if work.done % 2:
                        async with await session.create_bidirectional_stream() as stream:
                            await stream.write_all(DATA)
                            if await stream.read_all(max_size=1000) != DATA:
                                raise WebTransportError("another answer came")
                    else:
                        async with await session.create_unidirectional_stream() as out:
                            await out.write(DATA)
                except WebTransportError as error:
                    work.fault(error)

        async with asyncio.TaskGroup() as group:
            for session in sessions:
                for _ in range(16):
                    group.create_task(one(session))


async def sessions(work: Work) -> None:
    """Sessions on connections of their own, each with an echo, 16 at a time."""
    async with WebTransportClient(config=work.config) as client:

        async def worker() -> None:
            while work.left():
                try:
                    async with await client.connect(work.url) as session:
                        await session.datagrams.send(DATAGRAM)
                        async with await session.create_bidirectional_stream() as stream:
                            await stream.write_all(DATA)
                            if await stream.read_all(max_size=1000) != DATA:
                                raise WebTransportError("another answer came")
                except WebTransportError as error:
                    work.fault(error)

        await workers(16, worker)


async def datagrams(work: Work) -> None:
    """Datagrams there and back on four sessions."""
    async with WebTransportClient(config=work.config) as client:

        async def worker() -> None:
            session = await client.connect(work.url)
            outstanding = 0
            back = asyncio.Event()

            async def receive() -> None:
                nonlocal outstanding
                while True:
                    await session.datagrams.receive()
                    outstanding = max(0, outstanding - 1)
                    work.counts["back"] += 1
                    back.set()

            reader = asyncio.ensure_future(receive())
            try:
                while work.left():
                    await session.datagrams.send(DATAGRAM)
                    outstanding += 1
                    if outstanding >= WINDOW:
                        back.clear()
                        try:
                            await asyncio.wait_for(back.wait(), 0.2)
                        except TimeoutError:
                            work.counts["lost or late"] += outstanding
                            outstanding = 0
                await asyncio.sleep(0.5)
            except WebTransportError as error:
                work.fault(error)
            finally:
                reader.cancel()
                await asyncio.gather(reader, return_exceptions=True)

        await workers(4, worker)


async def idle(work: Work) -> None:
    """Sessions that do nothing, one to a connection, for a time."""
    loop = asyncio.get_running_loop()
    lost: list[WebTransportSession] = []
    async with WebTransportClient(config=work.config) as client:
        held: list[WebTransportSession] = []

        async def open_all() -> None:
            while work.left():
                try:
                    session = await client.connect(work.url)
                except WebTransportError as error:
                    work.fault(error)
                else:
                    held.append(session)

        await workers(32, open_all)
        work.counts["held"] = len(held)
        end = loop.time() + work.options["seconds"]
        while loop.time() < end:
            await asyncio.sleep(min(5.0, work.options["seconds"] / 4))
            lost = [session for session in held if session.is_closed]
            work.counts["lost"] = len(lost)
        work.counts["checking"] = 1  # what follows is no idling: it is not sampled
        # They are not only there: each one answers.
        for session in held:
            try:
                async with await session.create_bidirectional_stream() as stream:
                    await stream.write_all(b"x")
                    await stream.read_all(max_size=10)
                work.counts["answered"] += 1
            except WebTransportError as error:
                work.fault(error)


async def churn(work: Work) -> None:
    """Everything at once on a path that loses packets: resets, stops, half-read streams, closes.

    What an end does by itself to its own streams is no fault; a connection that is lost is.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + work.options["seconds"]
    chance = random.Random(work.options["seed"])
    work.wanted = int(work.options["seconds"])
    began = loop.time()
    async with WebTransportClient(config=work.config) as client:

        async def one_stream(session: WebTransportSession) -> None:
            kind = chance.randrange(6)
            work.counts["streams"] += 1
            if kind == 0:
                out = await session.create_unidirectional_stream()
                await out.write(DATA)
                await out.abort(code=1)
                return
            stream = await session.create_bidirectional_stream()
            if kind == 1:
                await stream.write(LARGE)
                await stream.abort(code=2)
            elif kind == 2:
                await stream.write(LARGE)
                await stream.read(size=1000)
                await stream.stop_sending(code=3)
                await stream.close()
            elif kind == 3:
                async with stream:
                    await stream.write(DATA)
                    await asyncio.wait_for(stream.read(size=10), 0.05)
            else:
                async with stream:
                    await stream.write_all(LARGE)
                    if await stream.read_all(max_size=1 << 20) != LARGE:
                        raise SessionError("another answer came")

        async def visit() -> None:
            while loop.time() < end:
                try:
                    session = await client.connect(work.url)
                except WebTransportError as error:
                    work.fault(error)
                    continue
                work.counts["sessions"] += 1
                try:
                    for _ in range(chance.randrange(5, 60)):
                        if loop.time() > end:
                            break
                        try:
                            await session.datagrams.send(DATAGRAM)
                            await asyncio.wait_for(one_stream(session), 10)
                        except TimeoutError:
                            work.counts["gave up"] += 1
                        except StreamError as error:
                            work.counts[f"stream ended: {type(error).__name__}"] += 1
                        work.done = int(loop.time() - began)
                    if session.is_closed:
                        work.fault(ConnectionError(f"lost: {session.close_info}"))
                    await session.close()
                except WebTransportError as error:
                    work.fault(error)

        await workers(12, visit)
        work.done = work.wanted


PHASES = {
    "streams": streams,
    "sessions": sessions,
    "datagrams": datagrams,
    "churn": churn,
    "idle": idle,
}


async def main(options: dict[str, Any]) -> None:
    """Work, and answer until standard input ends."""
    work = Work(options)
    task = asyncio.ensure_future(PHASES[options["phase"]](work))

    def ended(task: asyncio.Task[None]) -> None:
        work.finished = True
        if not task.cancelled() and (error := task.exception()) is not None:
            work.fault(error)

    task.add_done_callback(ended)
    say({"ready": True})
    await serve_commands(work.answer)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(main(json.loads(sys.argv[1])))
