"""A client of HTTP/3 that costs little: our engine, and frames made beforehand.

``python -m tests.benchmark.asgi.load_h3 JOB`` (JSON) prints its figures as JSON.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from pywebtransport._quic import CloseInfo, QuicConnection, QuicEndpoint, QuicStream, QuicTls
from tests.integration import raw_h3 as h3

from .applications import BLOCK, BODY
from .processor import processor_time

__all__ = ["main"]

_SECOND = 1_000_000_000
_WINDOW = 16 << 20
_PATIENCE = 60.0


class Failed(Exception):
    """The server did not do what it should."""


class Connection:
    """One connection to the server; hears of its events."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self.quic: QuicConnection | None = None
        self.is_ready = False
        self.backlog = 0

    def handshake_completed(self) -> None:
        assert self.quic is not None
        control = self.quic.open_stream(True)
        assert control is not None
        control.write(b"\x00" + h3.settings_frame(h3.CHROME))
        self.is_ready = True
        self._load.ready += 1

    def connection_closed(self, info: CloseInfo) -> None:
        self._load.problem = f"the connection ended: {info.kind} {info.code:#x} {info.reason}"

    def stream_ready(self, stream: QuicStream) -> None:
        """Control and QPACK streams of the server: read, so that credit goes back."""
        while stream.read():
            pass

    def datagrams_received(self, datagrams: list[bytes]) -> None: ...
    def datagram_writable(self) -> None: ...
    def path_changed(self, validated: bool) -> None: ...
    def session_ticket(self, ticket: bytes) -> None: ...
    def new_token(self, token: bytes) -> None: ...

    def streams_available(self, unidirectional: bool) -> None:
        if not unidirectional:
            waiting, self.backlog = self.backlog, 0
            for _ in range(waiting):
                self._load.on_credit(self)

    def open(self, data: bytes, sink: Callable[[QuicStream], object], fin: bool) -> bool:
        """Open a stream; False if the server allows none now: ``on_credit`` follows."""
        assert self.quic is not None
        stream = self.quic.open_stream(False)
        if stream is None:
            self.backlog += 1
            return False
        stream.sink = sink
        stream.tag = time.perf_counter()
        stream.write(data, fin)
        return True


class Load:
    """Connections to one server."""

    def __init__(self, port: int, connections: int) -> None:
        self.ready = 0
        self.problem = ""
        self.on_credit: Callable[[Connection], object] = lambda connection: None
        self._turn = False
        self._errors: list[BaseException] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._socket.bind(("127.0.0.1", 0))
        settings = {"initial_max_data": _WINDOW, "initial_max_stream_data": _WINDOW // 4}
        self._endpoint = QuicEndpoint(
            is_server=False,
            settings={**settings, "idle_timeout": 60 * _SECOND},
            tls=QuicTls(is_server=False, alpn=["h3"], verify=0),
            accept=None,
            schedule_flush=self._flush,
            on_error=self._errors.append,
        )
        self._quic_socket = self._endpoint.add_socket(self._socket.fileno())
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self.connections = []
        for _ in range(connections):
            one = Connection(self)
            one.quic = self._endpoint.connect(
                self._quic_socket,
                ("127.0.0.1", port),
                server_name="localhost",
                handler=one,
                now=time.monotonic_ns(),
            )
            self.connections.append(one)
        self.run(lambda: self.ready == connections)

    def run(self, until: Callable[[], object], patience: float = _PATIENCE) -> None:
        """Drive the connections until a condition holds.

        Raises:
            Failed: A connection ended, or it took too long.
        """
        end = time.monotonic() + patience
        endpoint = self._endpoint
        while not until():
            self._turn = False
            busy = endpoint.process(time.monotonic_ns()) or self._turn
            if self.problem or self._errors:
                raise Failed(self.problem or repr(self._errors[0]))
            if time.monotonic() > end:
                raise Failed("it took too long")
            tick = endpoint.next_tick()
            wait = 0.0 if busy else 1000.0
            if tick is not None:
                wait = min(wait, max(0.0, (tick - time.monotonic_ns()) / 1e6))
            if self._poll.poll(wait):
                endpoint.receive(self._quic_socket, time.monotonic_ns())

    def close(self) -> None:
        """Let go of everything."""
        self._endpoint.close()
        self._socket.close()

    def _flush(self) -> None:
        self._turn = True


def request(path: str, method: str = "GET", *fields: tuple[str, str]) -> bytes:
    """A HEADERS frame."""
    lines = [(":method", method), (":scheme", "https"), (":authority", "localhost")]
    return h3.encode_headers([*lines, (":path", path), *fields])


def requests(load: Load, job: dict[str, Any]) -> dict[str, Any]:
    """The same small request all the time; so many in flight on each connection."""
    wanted = request("/")
    times: list[float] = []
    end = h3.data(BODY)

    def begin(connection: Connection) -> None:
        body = b""

        def answered(stream: QuicStream) -> None:
            nonlocal body
            while data := stream.read():
                body += data
            if not stream.at_eof:
                return
            if end not in body:
                raise Failed(f"a wrong answer: {body!r}")
            times.append(time.perf_counter() - stream.tag)
            stream.release()
            begin(connection)

        connection.open(wanted, answered, True)

    load.on_credit = begin
    for connection in load.connections:
        for _ in range(job["in_flight"]):
            begin(connection)
    _for(load, job["warmup"])
    times.clear()
    before, started = processor_time(job["pids"]), time.perf_counter()
    _for(load, job["seconds"])
    seconds = time.perf_counter() - started
    return {**figures(times, seconds), "cpu": processor_time(job["pids"]) - before}


def figures(times: list[float], seconds: float) -> dict[str, Any]:
    """Count, rate and percentiles of some latencies."""
    times.sort()
    return {
        "count": len(times),
        "rate": len(times) / seconds,
        "p50": times[len(times) // 2] * 1e6,
        "p99": times[int(len(times) * 0.99)] * 1e6,
    }


def _for(load: Load, seconds: float) -> None:
    end = time.perf_counter() + seconds
    load.run(lambda: time.perf_counter() >= end, seconds + _PATIENCE)


def fetch(load: Load, path: str) -> bytes:
    """One request; the whole stream of its answer."""
    received: list[bytes] = []
    done = False

    def answered(stream: QuicStream) -> None:
        nonlocal done
        while data := stream.read():
            received.append(data)
        done = stream.at_eof

    load.connections[0].open(request(path), answered, True)
    load.run(lambda: done)
    return b"".join(received)


def body_of(answer: bytes) -> bytes:
    """The payload of the DATA frames."""
    return b"".join(frame.payload for frame in h3.read_frames(answer) if frame.type == h3.DATA)


def download(load: Load, job: dict[str, Any]) -> dict[str, Any]:
    """A large body from the server, in an answer or on a stream of a session."""
    size = job["size"]
    count = 0
    done = False

    def answered(stream: QuicStream) -> None:
        nonlocal count, done
        while data := stream.read():
            count += len(data)
        done = stream.at_eof

    header = _session(load) if job["session"] else b""
    first = b"download%16d" % size if header else request(f"/download/{size}")
    before, started = processor_time(job["pids"]), time.perf_counter()
    load.connections[0].open(header + first, answered, True)
    load.run(lambda: done)
    seconds = time.perf_counter() - started
    if not size <= count < size * 1.01:
        raise Failed(f"{count} bytes instead of {size}")
    return {"rate": size / seconds, "cpu": processor_time(job["pids"]) - before}


def upload(load: Load, job: dict[str, Any]) -> dict[str, Any]:
    """A large body to the server."""
    size = job["size"]
    header = _session(load) if job["session"] else b""
    left = size
    answer = b""
    done = False
    piece = BLOCK if header else h3.data(BLOCK)

    class Room:
        """Woken when the stream has room."""

        def done(self) -> bool:
            return False

        def set_result(self, result: None, /) -> None:
            write()

    def write() -> None:
        nonlocal left
        while left and stream.queued < _WINDOW // 16:
            left -= len(BLOCK)
            stream.write(piece, not left)
        if left:
            stream.set_write_waiter(Room())

    def answered(stream: QuicStream) -> None:
        nonlocal answer, done
        while data := stream.read():
            answer += data
        done = stream.at_eof

    connection = load.connections[0].quic
    assert connection is not None
    opened = connection.open_stream(False)
    assert opened is not None
    stream = opened
    stream.sink = answered
    before, started = processor_time(job["pids"]), time.perf_counter()
    stream.write(header or request("/upload", "POST"))
    write()
    load.run(lambda: done)
    seconds = time.perf_counter() - started
    told = answer if header else body_of(answer)
    if told != str(size).encode():
        raise Failed(f"the server counts {told!r} bytes instead of {size}")
    return {"rate": size / seconds, "cpu": processor_time(job["pids"]) - before}


def _session(load: Load) -> bytes:
    """Open a session; what its streams begin with."""
    answer = b""

    def answered(stream: QuicStream) -> None:
        nonlocal answer
        answer += stream.read() or b""

    lines = h3.connect(
        "/session", protocol="webtransport", fields=[("sec-webtransport-http3-draft02", "1")]
    )
    load.connections[0].open(lines, answered, False)
    load.run(lambda: answer)
    frame = next(h3.read_frames(answer))
    if h3.decode_headers(frame.payload)[":status"] != "200":
        raise Failed("no session")
    return h3.stream_header(0, unidirectional=False)


def waiting(load: Load, job: dict[str, Any]) -> dict[str, Any]:
    """Requests that the application leaves without an answer; what one takes of its memory."""

    def ignore(stream: QuicStream) -> None: ...

    def wait(count: int) -> dict[str, int]:
        each = -(-count // len(load.connections))
        for connection in load.connections:
            for _ in range(each):
                if not connection.open(request("/wait"), ignore, True):
                    raise Failed("the server allows fewer streams")
        while True:
            told: dict[str, int] = json.loads(body_of(fetch(load, "/memory")))
            if told["waiting"] >= expected + each * len(load.connections):
                return told

    expected = 0
    before = wait(len(load.connections))
    expected = before["waiting"]
    after = wait(job["count"])
    count = after["waiting"] - before["waiting"]
    return {"bytes": (after["resident"] - before["resident"]) / count, "count": count}


JOBS = {"requests": requests, "download": download, "upload": upload, "waiting": waiting}


def main() -> None:
    """Do a job and print its figures."""
    job = json.loads(sys.argv[1])
    os.sched_setaffinity(0, set(job["processors"]))
    try:
        load = Load(job["port"], job["connections"])
        try:
            found = JOBS[job["name"]](load, job)
        finally:
            load.close()
    except Failed as error:
        found = {"error": str(error)}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
