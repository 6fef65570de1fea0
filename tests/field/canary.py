"""A well-behaved client: ``canary.py OPTIONS``, a file to run, with JSON as argument.

On one session it echoes 64 bytes, in turn on a new stream and in a datagram, at fixed times,
whether or not earlier answers have come: a server that stands still shows up in every echo that was
due meanwhile. Beside it, it opens a session on a new connection every now and then.

Options: ``port``, ``hash`` of the certificate, ``interval`` and ``connect_interval`` in seconds,
and ``hostile``: the port of another server, to which it has a session too, reading nothing. Prints
a line when all is open. Commands:

- ``window``: the figures since the last one, and a new window begins.
- ``subscribe``: whether a new client can subscribe at the broker of ``/pubsub``.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from pywebtransport import ClientConfig, WebTransportClient, WebTransportSession
from pywebtransport.exceptions import WebTransportError
from pywebtransport.pubsub import PubSubManager

sys.path.insert(0, str(Path(__file__).parent))
from commands import Turns, say, serve_commands

PAYLOAD = 64
# Seconds after which an echo or a connection has failed.
PATIENCE = 5.0
# Echoes under way; a good client goes no further either.
MOST_AT_ONCE = 200
# A datagram that is not back by then is lost.
LOST_AFTER = 1.0


class Canary:
    """The echoes and connections, and what became of them in this window."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        self._clock = asyncio.get_running_loop().time
        self._config = ClientConfig.create(
            server_certificate_hashes=[bytes.fromhex(options["hash"])],
            connect_timeout=PATIENCE,
            max_retries=0,
        )
        self._streams: dict[object, float] = {}
        self._datagrams: dict[bytes, float] = {}
        self._number = 0
        self._counts: Counter[str] = Counter()
        self._echoes: list[float] = []
        self._connects: list[float] = []
        self._errors: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._turns = Turns()

    async def run(self) -> None:
        """Until standard input ends."""
        url = f"https://127.0.0.1:{self._options['port']}/echo"
        self._spawn(self._turns.watch())
        async with WebTransportClient(config=self._config) as client:
            session = await client.connect(url)
            if "hostile" in self._options:
                self._spawn(self._visit(self._options["hostile"]))
            self._spawn(self._echo_for_ever(session))
            self._spawn(self._receive(session))
            self._spawn(self._connect_for_ever(url))
            say({"ready": True})
            await serve_commands(self._answer)
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- work

    async def _echo_for_ever(self, session: WebTransportSession) -> None:
        interval = self._options["interval"]
        due = self._clock()
        while True:
            self._number += 1
            if self._number % 2:
                if len(self._streams) < MOST_AT_ONCE:
                    self._spawn(self._echo(session, due))
                else:
                    self._fail("echo", "too many are under way")
            else:
                name = self._number.to_bytes(PAYLOAD, "big")
                self._datagrams[name] = due
                self._counts["datagrams_sent"] += 1
                try:
                    await session.datagrams.send(name)
                except WebTransportError as error:
                    self._fail("echo", str(error))
            due += interval
            await asyncio.sleep(max(0.0, due - self._clock()))

    async def _echo(self, session: WebTransportSession, due: float) -> None:
        key = object()
        self._streams[key] = due
        data = self._number.to_bytes(PAYLOAD, "big")
        try:
            async with asyncio.timeout(PATIENCE):
                async with await session.create_bidirectional_stream() as stream:
                    await stream.write_all(data)
                    if await stream.read_all(max_size=PAYLOAD) != data:
                        raise WebTransportError("another answer came")
        except (WebTransportError, TimeoutError) as error:
            self._fail("echo", str(error) or f"no answer in {PATIENCE:g} s")
        finally:
            if (begun := self._streams.pop(key, None)) is not None:
                self._echoes.append(self._clock() - begun)

    async def _receive(self, session: WebTransportSession) -> None:
        while True:
            name = await session.datagrams.receive()
            if (begun := self._datagrams.pop(name, None)) is not None:
                self._echoes.append(self._clock() - begun)

    async def _connect_for_ever(self, url: str) -> None:
        while True:
            begun = self._clock()
            try:
                async with asyncio.timeout(PATIENCE):
                    async with WebTransportClient(config=self._config) as client:
                        session = await client.connect(url)
                        self._connects.append(self._clock() - begun)
                        await session.close()
            except (WebTransportError, TimeoutError) as error:
                self._fail("connect", str(error) or f"no session in {PATIENCE:g} s")
            await asyncio.sleep(self._options["connect_interval"])

    async def _visit(self, port: int) -> None:
        """A session at a hostile server, again and again when it ends."""
        while True:
            try:
                async with WebTransportClient(config=self._config) as client:
                    session = await client.connect(f"https://127.0.0.1:{port}/")
                    await session.wait_closed()
            except WebTransportError as error:
                self._counts["visits_ended"] += 1
                self._errors[f"visit: {str(error)[:120]}"] += 1
            await asyncio.sleep(0.01)

    def _fail(self, kind: str, why: str) -> None:
        self._counts[f"{kind}_failed"] += 1
        self._errors[f"{kind}: {why[:120]}"] += 1

    # --- commands

    async def _answer(self, command: dict[str, Any]) -> dict[str, Any]:
        if command["do"] == "subscribe":
            return {"error": await self._subscribe()}
        longest_turn = await self._turns.take()
        now = self._clock()
        # What is under way has taken at least so long, and counts in this window only. An echo
        # that has just begun says nothing.
        for key, begun in list(self._streams.items()):
            if now - begun > 0.1:
                self._echoes.append(now - begun)
                del self._streams[key]
        for name, begun in list(self._datagrams.items()):
            if now - begun > LOST_AFTER:
                self._counts["datagrams_lost"] += 1
                del self._datagrams[name]
        found = {
            "echoes": len(self._echoes),
            "p50": quantile(self._echoes, 0.5),
            "p99": quantile(self._echoes, 0.99),
            "max": quantile(self._echoes, 1.0),
            "connects": len(self._connects),
            "connect_p50": quantile(self._connects, 0.5),
            "connect_max": quantile(self._connects, 1.0),
            "echo_failed": self._counts["echo_failed"],
            "connect_failed": self._counts["connect_failed"],
            "datagrams_sent": self._counts["datagrams_sent"],
            "datagrams_lost": self._counts["datagrams_lost"],
            "visits_ended": self._counts["visits_ended"],
            "longest_turn": longest_turn,
            "errors": dict(self._errors.most_common(5)),
        }
        self._echoes, self._connects = [], []
        self._counts.clear()
        self._errors.clear()
        return found

    async def _subscribe(self) -> str:
        url = f"https://127.0.0.1:{self._options['port']}/pubsub"
        try:
            async with (
                asyncio.timeout(PATIENCE),
                WebTransportClient(config=self._config) as client,
                PubSubManager(await client.connect(url)) as manager,
                manager.subscribe(f"canary.{self._number}"),
            ):
                return ""
        except (WebTransportError, TimeoutError) as error:
            return str(error) or f"no subscription in {PATIENCE:g} s"


def quantile(values: list[float], part: float) -> float | None:
    """In seconds; None when there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else None


async def main() -> None:
    """Run with the options of the command line."""
    await Canary(json.loads(sys.argv[1])).run()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(main())
