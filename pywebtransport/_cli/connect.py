"""``pywebtransport connect``: sends what you type, and prints what arrives."""

from __future__ import annotations

import argparse
import asyncio
import base64
import builtins
import contextlib
import sys
from typing import Any

from ..client import connect
from ..exceptions import WebTransportError
from ..session import WebTransportSession
from ..stream import WebTransportReceiveStream, WebTransportStream
from ..utils._text import printable
from .arguments import (
    add_client_options,
    add_json_option,
    add_verb_parser,
    client_config,
    configure_client_logging,
    seconds,
)
from .keyboard import read_lines
from .output import Output, print_json
from .running import run_coroutine
from .status import Status

__all__ = ["add_verb"]

_WAYS = {
    "stream": "a new bidirectional stream for each line, whose answer is printed",
    "lines": "one bidirectional stream for all lines, each with its line end",
    "uni": "a new unidirectional stream for each line",
    "datagram": "a datagram for each line",
}
_READ = 65536
_HELP = (
    "/stream, /lines, /uni, /datagram: send what follows, or from now on, that way; "
    "/info: state of the session; /close [CODE [REASON]]: end it; //text: send '/text'"
)


def add_verb(verbs: Any) -> None:
    """Add the parser of this verb."""
    ways = "\n".join(f"  {name:<9} {text}" for name, text in _WAYS.items())
    parser = add_verb_parser(
        verbs,
        "connect",
        "open a session, send what you type, print what arrives",
        epilog=(
            f"ways to send a line:\n{ways}\n\n"
            "On a terminal, lines that begin with a slash are commands; /help lists them.\n"
            "Ctrl-D ends the input. Then the program waits for the answers, and ends when\n"
            "none comes for as long as --wait says."
        ),
    )
    parser.add_argument(
        "--send",
        metavar="WAY",
        choices=tuple(_WAYS),
        default="stream",
        help="how to send a line: stream, lines, uni or datagram (default: stream)",
    )
    parser.add_argument(
        "--wait",
        metavar="SECONDS",
        type=seconds,
        default=2.0,
        help="how long to wait for each answer after the input has ended (default: %(default)g)",
    )
    add_json_option(parser, "each event")
    add_client_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Open the session."""
    configure_client_logging(arguments)
    config = client_config(arguments)

    async def talk() -> int:
        async with connect(arguments.url, config=config, timeout=arguments.timeout) as session:
            return await _Conversation(session, arguments).run()

    return run_coroutine(talk)


class _Conversation:
    """One session and what is typed.

    Args:
        session: The session.
        arguments: The command line.
    """

    def __init__(self, session: WebTransportSession, arguments: argparse.Namespace) -> None:
        self._session = session
        self._way: str = arguments.send
        self._wait: float = arguments.wait
        self._json: bool = arguments.json
        self._output = Output(quiet=arguments.json)
        self._commands = sys.stdin.isatty()
        self._lines: WebTransportStream | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._answers: set[asyncio.Task[None]] = set()
        # Answers that a server which echoes will send.
        self._expected = {"datagram": 0, "uni": 0}
        self._news = asyncio.Event()

    async def run(self) -> int:
        """Talk until the input or the session ends."""
        session = self._session
        over = {} if session.transport == "quic" else {"transport": session.transport}
        self._tell("open", path=session.path, draft=session.dialect, **over)
        if not self._json:
            hint = " (/help lists the commands)" if self._commands else ""
            self._output.error(f"connected, {_protocol(session)}{hint}", "green")
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            listening = [
                tasks.create_task(self._print_datagrams()),
                tasks.create_task(self._print_streams()),
            ]
            typing = tasks.create_task(self._send_lines())
            closed = tasks.create_task(session.wait_closed())
            closed.add_done_callback(lambda task: self._news.set())
            await asyncio.wait({typing, closed}, return_when=asyncio.FIRST_COMPLETED)
            if closed.done():
                # What came before the end is printed; then these end by themselves.
                await asyncio.wait({*listening, *self._answers}, timeout=self._wait)
            else:
                await self._wait_for_answers()
            for task in (*listening, typing, closed, *self._answers):
                task.cancel()
        info = session.close_info
        if info is None:
            return Status.OK
        self._tell("closed", code=info.code, reason=info.reason, remote=info.remote)
        if not self._json and info.remote:
            code = "without a code" if info.code is None else f"with code {info.code}"
            reason = f": {info.reason}" if info.reason else ""
            self._output.error(f"the server ended the session {code}{reason}", "yellow")
        return Status.FAILED if info.remote and info.code != 0 else Status.OK

    async def _wait_for_answers(self) -> None:
        """The input has ended: wait for what the server still sends."""
        with contextlib.suppress(builtins.TimeoutError, WebTransportError):
            if self._lines is not None:
                self._lines.finish()
            while not self._session.is_closed and (
                self._answers or max(self._expected.values()) > 0
            ):
                self._news.clear()
                async with asyncio.timeout(self._wait):
                    await self._news.wait()

    # -------------------------------------------------------------------- receiving

    async def _print_datagrams(self) -> None:
        async for data in self._session.datagrams:
            self._came("datagram")
            self._show("datagram", None, data)

    async def _print_streams(self) -> None:
        async for stream in self._session.incoming_streams():
            self._came("uni")
            self._print_later(stream)

    def _came(self, way: str) -> None:
        """Count an answer; what came before there was a question is none."""
        self._expected[way] = max(self._expected[way] - 1, 0)

    def _print_later(self, stream: WebTransportReceiveStream) -> None:
        assert self._tasks is not None
        task = self._tasks.create_task(self._print_stream(stream))
        self._answers.add(task)
        task.add_done_callback(self._answer_ended)

    def _answer_ended(self, task: asyncio.Task[None]) -> None:
        self._answers.discard(task)
        self._news.set()

    async def _print_stream(self, stream: WebTransportReceiveStream) -> None:
        number = stream.stream_id
        try:
            while data := await stream.read(_READ):
                self._show("stream", number, data)
            self._tell("stream ended", stream=number)
        except WebTransportError as error:
            if not self._session.is_closed:
                self._tell("stream failed", stream=number, error=str(error))
                if not self._json:
                    self._output.error(f"stream {number}: {error}")

    # ---------------------------------------------------------------------- sending

    async def _send_lines(self) -> None:
        async for line in read_lines(sys.stdin.fileno()):
            way, data = self._way, line
            if self._commands and line.startswith(b"/"):
                if line.startswith(b"//"):
                    data = line[1:]
                else:
                    name, _, rest = line[1:].decode("utf-8", "replace").partition(" ")
                    if name not in _WAYS:
                        if await self._command(name, rest.strip()):
                            return
                        continue
                    if not rest:
                        self._way = name
                        continue
                    way, data = name, line[len(name) + 2 :]
            try:
                await self._send(way, data)
            except WebTransportError as error:
                if self._session.is_closed:
                    return
                if way in self._expected:
                    self._came(way)  # there will be no answer
                self._output.error(str(error))
                self._tell("not sent", error=str(error))

    async def _send(self, way: str, data: bytes) -> None:
        session = self._session
        if way in self._expected:
            self._expected[way] += 1
        if way == "datagram":
            await session.datagrams.send(data)
        elif way == "uni":
            await (await session.create_unidirectional_stream()).write_all(data)
        elif way == "lines":
            if self._lines is None or not self._lines.is_writable:
                self._lines = await session.create_bidirectional_stream()
                self._print_later(self._lines)
            await self._lines.write(data + b"\n")
        else:
            stream = await session.create_bidirectional_stream()
            self._print_later(stream)
            await stream.write_all(data)

    async def _command(self, name: str, rest: str) -> bool:
        """Run a command of the terminal; True if it ends the session."""
        if name == "close":
            code, _, reason = rest.partition(" ")
            if code and not (code.isascii() and code.isdigit() and int(code[:11]) < 2**32):
                self._output.error(f"/close {printable(code)}: expected a code from 0 to 2**32 - 1")
                return False
            await self._session.close(code=int(code or 0), reason=reason)
            return True
        if name == "info":
            for key, value in self._facts().items():
                self._output.line(f"{key:<18}{value}")
        elif name == "help":
            self._output.line(_HELP)
        else:
            self._output.error(f"/{printable(name)} is no command; {_HELP}")
        return False

    def _facts(self) -> dict[str, str]:
        session = self._session
        rtt = session.rtt
        remote = session.remote_address
        return {
            "path": session.path,
            "server": "unknown" if remote is None else f"{remote[0]} port {remote[1]}",
            "draft": _protocol(session),
            "protocol": session.application_protocol or "none",
            "round trip": "unknown" if rtt is None else f"{rtt * 1000:.2f} ms",
            "datagrams": f"up to {session.max_datagram_size} bytes",
        }

    # --------------------------------------------------------------------- printing

    def _show(self, what: str, stream: int | None, data: bytes) -> None:
        self._news.set()
        if self._json:
            print_json(_event(what, data) if stream is None else _event(what, data, stream=stream))
            return
        name = what if stream is None else f"{what} {stream}"
        for line in data.decode("utf-8", "backslashreplace").splitlines() or [""]:
            self._output.line(f"{name:<12}{line}")

    def _tell(self, event: str, **facts: Any) -> None:
        if self._json:
            print_json({"event": event, **facts})


def _protocol(session: WebTransportSession) -> str:
    """What carries a session, for people."""
    if session.transport == "websocket":
        return "WebSocket over TCP"
    return f"draft-{session.dialect or 0:02}"


def _event(what: str, data: bytes, **facts: Any) -> dict[str, Any]:
    """Data that arrived, as text if it is UTF-8."""
    try:
        return {"event": what, **facts, "text": data.decode()}
    except UnicodeDecodeError:
        return {"event": what, **facts, "base64": base64.b64encode(data).decode()}
