"""``pywebtransport bench``: puts load on a server that echoes, and prints what it took."""

from __future__ import annotations

import argparse
import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..client import connect
from ..config import ClientConfig
from ..exceptions import WebTransportError
from ..session import WebTransportSession
from ..stream import WebTransportStream
from .arguments import (
    add_client_options,
    add_json_option,
    add_verb_parser,
    client_config,
    configure_client_logging,
    count,
    seconds,
    size,
)
from .output import Output, print_json
from .running import run_coroutine
from .status import Status

__all__ = ["add_verb"]

_MIB = 1 << 20
# A datagram that has not come back after this time counts as lost; seconds.
_LOST_AFTER = 1.0
# Connections that are opened at the same time: more would measure each other.
_HANDSHAKES = 32
# Bytes of a datagram's number.
_NUMBER = 8
# Longer payloads are written and read at the same time: the echo may wait for its reader.
_LARGE = 65536


def add_verb(verbs: Any) -> None:
    """Add the parser of this verb."""
    parser = add_verb_parser(
        verbs,
        "bench",
        "put load on a server that echoes streams and datagrams",
        description=(
            "Put load on a server that echoes streams and datagrams, and print throughput and\n"
            "latency. Each stream sends its bytes, reads the answer to its end, and is replaced."
        ),
        epilog=(
            "A server to try it with:\n"
            "  pywebtransport serve pywebtransport.server:create_echo_server_app --factory"
        ),
    )
    load = parser.add_argument_group("load")
    load.add_argument(
        "--connections", metavar="N", type=count, default=1, help="connections (default: 1)"
    )
    load.add_argument(
        "--streams",
        metavar="N",
        type=count,
        default=10,
        help="streams at a time on each connection; 0: none (default: %(default)d)",
    )
    load.add_argument(
        "--size",
        metavar="BYTES",
        type=size,
        default=1024,
        help="bytes on each stream, such as 64KiB (default: 1024)",
    )
    load.add_argument(
        "--datagrams",
        metavar="N",
        type=count,
        default=10,
        help="datagrams in flight on each connection; 0: none (default: %(default)d)",
    )
    load.add_argument(
        "--datagram-size",
        metavar="BYTES",
        type=size,
        default=64,
        help="bytes of each datagram, at least 8 (default: %(default)d)",
    )
    load.add_argument(
        "--duration",
        metavar="SECONDS",
        type=seconds,
        default=5.0,
        help="time of the load (default: %(default)g)",
    )
    add_json_option(parser, "the result")
    add_client_options(parser)
    parser.set_defaults(run=run, fail=parser.error)


def run(arguments: argparse.Namespace) -> int:
    """Run the load."""
    if arguments.connections < 1:
        arguments.fail("--connections: expected at least 1")
    if arguments.datagram_size < _NUMBER:
        arguments.fail(f"--datagram-size: expected at least {_NUMBER} bytes")
    if arguments.streams + arguments.datagrams < 1:
        arguments.fail("--streams and --datagrams are both 0: there is nothing to measure")
    configure_client_logging(arguments)
    # Room for streams that are complete, and whose end is not acknowledged yet.
    config = client_config(arguments, max_streams=2 * arguments.streams + 16)
    bench = _Bench(arguments, config)
    return run_coroutine(bench.run)


@dataclass
class _Figures:
    """What one kind of work took.

    Attributes:
        times: Seconds of each that was completed.
        failed: How many failed.
        wrong: How many had an answer that is not an echo.
        bytes: Bytes of all answers.
    """

    times: list[float] = field(default_factory=list)
    failed: int = 0
    wrong: int = 0
    bytes: int = 0

    def to_dict(self, duration: float) -> dict[str, Any]:
        """Return the result for JSON."""
        found: dict[str, Any] = {
            "completed": len(self.times),
            "failed": self.failed,
            "wrong": self.wrong,
            "per_second": round(len(self.times) / duration, 1) if duration else 0.0,
            "mib_per_second": round(self.bytes / _MIB / duration, 3) if duration else 0.0,
        }
        if self.times:
            ordered = sorted(self.times)
            for name, share in (("p50_ms", 0.5), ("p99_ms", 0.99), ("max_ms", 1.0)):
                found[name] = round(percentile(ordered, share) * 1000, 3)
        return found


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value that this share of an ordered, non-empty sequence does not exceed."""
    return ordered[max(math.ceil(share * len(ordered)), 1) - 1]


class _Bench:
    """One run.

    Args:
        arguments: The command line.
        config: Configuration of the clients.
    """

    def __init__(self, arguments: argparse.Namespace, config: ClientConfig) -> None:
        self._arguments = arguments
        self._config = config
        self._opened, self._streams, self._datagrams = _Figures(), _Figures(), _Figures()
        self._sessions: list[WebTransportSession] = []
        self._places = asyncio.Semaphore(_HANDSHAKES)
        self._first_error: WebTransportError | None = None
        self._output = Output(quiet=arguments.json)
        self._payload = bytes(number & 0xFF for number in range(arguments.size))

    async def run(self) -> int:
        """Open the connections, run the load, and report.

        Raises:
            WebTransportError: No connection could be opened.
        """
        try:
            await asyncio.gather(*(self._open() for _ in range(self._arguments.connections)))
            if not self._sessions:
                assert self._first_error is not None
                raise self._first_error
            self._check_size(self._sessions[0])
            duration = await self._load()
        finally:
            await asyncio.gather(*(session.close() for session in self._sessions))
        return self._report(duration)

    async def _open(self) -> None:
        """Open a session on a connection of its own."""
        arguments = self._arguments
        loop = asyncio.get_running_loop()
        async with self._places:
            started = loop.time()
            try:
                session = await connect(
                    arguments.url, config=self._config, timeout=arguments.timeout
                )
            except WebTransportError as error:
                self._opened.failed += 1
                self._first_error = self._first_error or error
            else:
                self._opened.times.append(loop.time() - started)
                self._sessions.append(session)

    def _check_size(self, session: WebTransportSession) -> None:
        limit = session.max_datagram_size
        if self._arguments.datagrams and self._arguments.datagram_size > limit:
            self._arguments.fail(
                f"--datagram-size: at most {limit} bytes fit into a datagram to this server"
            )

    async def _load(self) -> float:
        """Run the load; return how long it took, in seconds."""
        arguments = self._arguments
        duration: float = arguments.duration
        loop = asyncio.get_running_loop()
        started = loop.time()
        tasks: list[asyncio.Task[None]] = []
        for session in self._sessions:
            tasks += [
                asyncio.create_task(self._use_streams(session)) for _ in range(arguments.streams)
            ]
            if arguments.datagrams:
                tasks.append(asyncio.create_task(self._use_datagrams(session)))
        try:
            with self._output.progress("load", duration) as show:
                while (passed := loop.time() - started) < duration:
                    await asyncio.wait(tasks, timeout=min(1.0, duration - passed))
                    if all(task.done() for task in tasks):
                        break
                    show(min(loop.time() - started, duration), self._so_far())
            return loop.time() - started
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            for result in results:
                if isinstance(result, Exception) and not isinstance(result, WebTransportError):
                    raise result

    def _so_far(self) -> str:
        failed = self._streams.failed + self._datagrams.failed
        return (
            f"{len(self._streams.times)} streams, {len(self._datagrams.times)} datagrams, "
            f"{failed} failed or lost"
        )

    # ---------------------------------------------------------------------- streams

    async def _use_streams(self, session: WebTransportSession) -> None:
        loop = asyncio.get_running_loop()
        figures = self._streams
        while not session.is_closed:
            started = loop.time()
            try:
                async with await session.create_bidirectional_stream() as stream:
                    right, received = await self._exchange(stream)
            except WebTransportError as error:
                figures.failed += 1
                self._first_error = self._first_error or error
                await asyncio.sleep(0)  # an error that comes without waiting
                continue
            figures.times.append(loop.time() - started)
            figures.bytes += received
            figures.wrong += not right

    async def _exchange(self, stream: WebTransportStream) -> tuple[bool, int]:
        """Send the payload and read the answer: whether it is the same, and its size."""
        if len(self._payload) <= _LARGE:
            await stream.write_all(self._payload)
            return await self._compare(stream)
        writing = asyncio.ensure_future(stream.write_all(self._payload))
        try:
            found = await self._compare(stream)
            await writing
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
        return found

    async def _compare(self, stream: WebTransportStream) -> tuple[bool, int]:
        payload, position, right = memoryview(self._payload), 0, True
        while data := await stream.read(_LARGE):
            right = right and payload[position : position + len(data)] == data
            position += len(data)
        return right and position == len(payload), position

    # -------------------------------------------------------------------- datagrams

    async def _use_datagrams(self, session: WebTransportSession) -> None:
        waiting: dict[bytes, asyncio.Future[None]] = {}
        numbers = iter(range(1 << 62))
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._arguments.datagrams):
                tasks.create_task(self._echo_datagrams(session, numbers, waiting))
            async for data in session.datagrams:
                arrived = waiting.get(bytes(data[:_NUMBER]))
                if arrived is not None and not arrived.done():
                    self._datagrams.bytes += len(data)
                    arrived.set_result(None)

    async def _echo_datagrams(
        self,
        session: WebTransportSession,
        numbers: Any,
        waiting: dict[bytes, asyncio.Future[None]],
    ) -> None:
        """Send datagrams, each when the one before came back or is lost."""
        loop = asyncio.get_running_loop()
        figures = self._datagrams
        padding = bytes(self._arguments.datagram_size - _NUMBER)
        while not session.is_closed:
            number = next(numbers).to_bytes(_NUMBER, "big")
            arrived = waiting[number] = loop.create_future()
            timer = loop.call_later(_LOST_AFTER, arrived.cancel)
            started = loop.time()
            try:
                await session.datagrams.send(number + padding)
                await asyncio.wait({arrived})
                if arrived.cancelled():
                    figures.failed += 1
                else:
                    figures.times.append(loop.time() - started)
            except WebTransportError as error:
                if session.is_closed:
                    return
                figures.failed += 1
                self._first_error = self._first_error or error
                await asyncio.sleep(0)
            finally:
                timer.cancel()
                del waiting[number]

    # ----------------------------------------------------------------------- report

    def _report(self, duration: float) -> int:
        arguments = self._arguments
        kinds = {"connections": self._opened}
        if arguments.streams:
            kinds["streams"] = self._streams
        if arguments.datagrams:
            kinds["datagrams"] = self._datagrams
        results = {name: figures.to_dict(duration) for name, figures in kinds.items()}
        works = all(figures.times for figures in kinds.values())
        status = Status.OK if works and not self._opened.failed else Status.FAILED
        error = self._first_error
        if arguments.json:
            print_json(
                {
                    "url": arguments.url,
                    "status": int(status),
                    "duration_s": round(duration, 3),
                    **results,
                    "first_error": None if error is None else str(error),
                }
            )
            return status
        self._output.table(
            ("", "completed", "per second", "MiB/s", "p50 ms", "p99 ms", "max ms", "failed"),
            [_row(name, found) for name, found in results.items()],
        )
        if error is not None:
            self._output.error(f"the first error: {error}")
        for name, figures in kinds.items():
            if figures.wrong:
                self._output.error(f"{figures.wrong} answers on {name} are not what was sent")
            if not figures.times:
                self._output.error(f"no {name} came back: does the server echo at this path?")
        return status


def _row(name: str, found: dict[str, Any]) -> tuple[str, ...]:
    once = name == "connections"  # opened at the beginning, and carry no bytes by themselves

    def cell(key: str, form: str) -> str:
        return "" if key not in found else format(found[key], form)

    return (
        name,
        cell("completed", ",d"),
        "" if once else cell("per_second", ",.0f"),
        "" if once else cell("mib_per_second", ",.2f"),
        cell("p50_ms", ",.2f"),
        cell("p99_ms", ",.2f"),
        cell("max_ms", ",.2f"),
        cell("failed", ",d"),
    )
