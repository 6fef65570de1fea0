"""A UDP relay that loses and delays packets: ``relay.py SERVER_PORT --loss --delay --seed``.

What is lost is decided by a seeded generator for each direction. Packets come and go in trains
(GRO, GSO), so that the relay moves more than the ends can send. Standard library only; prints
its port, then, when its input ends, what it did.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import random
import select
import socket
import struct
import sys
import time
from collections import deque
from pathlib import Path

__all__ = ["DropSequence", "keep", "split"]

UDP_SEGMENT, UDP_GRO = 103, 104
_LARGEST = 65535
_SOCKET_BUFFER = 4 << 20
# Trains that are taken from one socket in a row.
_BURST = 64
# A path holds no more than this; what comes then is lost, and counted as overflow.
_MAX_QUEUED = 64 << 20


class DropSequence:
    """Decides which packets of one direction are lost, by counting from one to the next."""

    def __init__(self, loss: float, seed: str) -> None:
        if not 0 <= loss < 1:
            raise ValueError(f"loss must be in [0, 1), got {loss}")
        self._random = random.Random(seed)
        self._factor = 1 / math.log1p(-loss) if loss else 0.0
        self._left = self._next_gap()

    def take(self, count: int) -> list[int]:
        """Which of the next ``count`` packets are lost: their indices, ascending."""
        lost = []
        at = self._left
        while at < count:
            lost.append(at)
            at += 1 + self._next_gap()
        self._left = at - count
        return lost

    def _next_gap(self) -> int:
        if not self._factor:
            return sys.maxsize
        return int(math.log(1.0 - self._random.random()) * self._factor)


def keep(count: int, lost: list[int]) -> list[tuple[int, int]]:
    """The runs of packets between the lost ones, as pairs of start and end."""
    runs, start = [], 0
    for index in [*lost, count]:
        if index > start:
            runs.append((start, index))
        start = index + 1
    return runs


def split(data: bytes, segment: int, lost: list[int]) -> list[bytes]:
    """The trains that are left of one, without its lost packets."""
    if not lost:
        return [data]
    count = -(-len(data) // segment)
    return [data[start * segment : end * segment] for start, end in keep(count, lost)]


class Direction:
    """Packets that go one way."""

    def __init__(self, loss: float, delay: float, seed: str) -> None:
        self.drops = DropSequence(loss, seed)
        self.delay = delay
        self.queue: deque[tuple[float, bytes, int]] = deque()
        self.queued = 0
        self.counts = {"packets": 0, "lost": 0, "overflow": 0}

    def receive(self, source: socket.socket) -> object:
        """Take what is there; returns the address of its sender."""
        address = None
        for _ in range(_BURST):
            try:
                data, ancillary, _, address = source.recvmsg(_LARGEST, 64)
            except (BlockingIOError, ConnectionRefusedError):
                break
            segment = len(data)
            for level, kind, value in ancillary:
                if (level, kind) == (socket.IPPROTO_UDP, UDP_GRO):
                    segment = struct.unpack("i", value[:4])[0]
            self._take(data, max(segment, 1))
        return address

    def _take(self, data: bytes, segment: int) -> None:
        count = -(-len(data) // segment)
        lost = self.drops.take(count)
        self.counts["packets"] += count
        self.counts["lost"] += len(lost)
        if self.queued > _MAX_QUEUED:
            self.counts["overflow"] += count
            return
        due = time.monotonic() + self.delay
        for train in split(data, segment, lost):
            self.queue.append((due, train, segment))
            self.queued += len(train)

    def send(self, target: socket.socket, address: object) -> bool:
        """Send what is due; False when the socket has no room."""
        now = time.monotonic()
        queue = self.queue
        while queue and queue[0][0] <= now:
            _, train, segment = queue[0]
            ancillary = []
            if len(train) > segment:
                ancillary = [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("H", segment))]
            try:
                target.sendmsg([train], ancillary, 0, address)  # type: ignore[arg-type]
            except BlockingIOError:
                return False
            except ConnectionRefusedError:
                pass  # an end is gone; the other one will notice
            queue.popleft()
            self.queued -= len(train)
        return True


def relay(server_port: int, loss: float, delay: float, seed: str) -> None:
    """Relay between one client and the server until standard input ends."""
    front = _socket()
    back = _socket()
    back.connect(("127.0.0.1", server_port))
    up = Direction(loss, delay, f"{seed} up")
    down = Direction(loss, delay, f"{seed} down")
    print(json.dumps({"port": front.getsockname()[1]}), flush=True)
    client: object = None
    room = {front: True, back: True}
    while True:
        due = min((way.queue[0][0] for way in (up, down) if way.queue), default=None)
        wait = None if due is None else max(0.0, due - time.monotonic())
        full = [end for end, free in room.items() if not free]
        readable, _, _ = select.select([front, back, sys.stdin], full, [], wait)
        if sys.stdin in readable:
            break
        if front in readable:
            client = up.receive(front) or client
        if back in readable:
            down.receive(back)
        room[back] = up.send(back, None)
        if client is not None:
            room[front] = down.send(front, client)
    drops = sum(_kernel_drops(end.getsockname()[1]) for end in (front, back))
    counts = {"up": up.counts, "down": down.counts, "socket_overflow": drops}
    print(json.dumps(counts), flush=True)


def _socket() -> socket.socket:
    end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    end.setblocking(False)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_BUFFER)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER)
    with contextlib.suppress(OSError):  # kernels before 5.0
        end.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
    end.bind(("127.0.0.1", 0))
    return end


def _kernel_drops(port: int) -> int:
    """Packets that did not fit into the receive buffer of a socket of ours."""
    for line in Path("/proc/net/udp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1].endswith(f":{port:04X}"):
            return int(fields[-1])
    return 0


def main() -> None:
    """Parse the command line and relay."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int, help="of the server, on 127.0.0.1")
    parser.add_argument("--loss", type=float, default=0.0, help="probability, each way")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds, each way")
    parser.add_argument("--seed", default="0")
    arguments = parser.parse_args()
    relay(arguments.port, arguments.loss, arguments.delay, arguments.seed)


if __name__ == "__main__":
    main()
