"""Passes the messages of backends from each worker to the others, in their supervisor."""

from __future__ import annotations

import select
import socket
import time
from collections import deque
from typing import Final

from ..events._worker_frames import GAP, FrameKind, FrameSplitter, frame

__all__ = ["Hub", "HubLink"]

_CHUNK: Final = 262_144
_MOST_BUFFERS: Final = 64
"""Buffers of one system call."""
MOST_WAITING: Final = 16 * 1024 * 1024
"""Bytes that may wait for one worker."""


class HubLink:
    """The supervisor's end of the connection to one worker.

    What waits for a worker that does not read is bounded. Further messages are dropped until half
    of the room is free again; then the worker is told how many, and for how long.

    Args:
        sock: To the worker, non-blocking.
        limit: Bytes that may wait.

    Attributes:
        listens: Whether a backend was started in the worker.
        waiting: Bytes that wait.
    """

    __slots__ = (
        "_limit",
        "_lost",
        "_lost_since",
        "_queue",
        "listens",
        "sock",
        "splitter",
        "waiting",
    )

    def __init__(self, sock: socket.socket, limit: int) -> None:
        self.sock: Final = sock
        self.splitter: Final = FrameSplitter()
        self.listens = False
        self.waiting = 0
        self._limit: Final = limit
        self._queue: deque[memoryview] = deque()
        self._lost = 0
        self._lost_since = 0.0

    @property
    def wants_to_send(self) -> bool:
        """Whether something waits for room in the socket."""
        return bool(self._queue)

    def offer(self, data: bytes, count: int) -> None:
        """Send messages, or drop them if too much waits.

        Args:
            data: Whole frames.
            count: How many.
        """
        if self._lost or (self.waiting and self.waiting + len(data) > self._limit):
            if not self._lost:
                self._lost_since = time.monotonic()
            self._lost += count
            return
        self.put(data)

    def put(self, data: bytes) -> None:
        """Send a frame, however much waits."""
        self._queue.append(memoryview(data))
        self.waiting += len(data)
        if len(self._queue) == 1:
            self.send()

    def stop_listening(self) -> None:
        """Drop what waits, except for the rest of what was sent in part."""
        self.listens = False
        self._lost = 0
        while len(self._queue) > 1:
            self.waiting -= len(self._queue.pop())

    def send(self) -> None:
        """Send what fits into the socket."""
        queue = self._queue
        try:
            while queue:
                buffers = [queue[index] for index in range(min(len(queue), _MOST_BUFFERS))]
                sent = self.sock.sendmsg(buffers)
                self.waiting -= sent
                while sent and sent >= len(queue[0]):
                    sent -= len(queue.popleft())
                if sent:
                    queue[0] = queue[0][sent:]
        except BlockingIOError:
            pass
        except OSError:
            # It has ended, or is about to: reading shows it.
            queue.clear()
            self.waiting = self._lost = 0
        if self._lost and self.waiting <= self._limit // 2:
            lost, self._lost = self._lost, 0
            self.put(frame(FrameKind.GAP, GAP.pack(time.monotonic() - self._lost_since, lost)))


class Hub:
    """Connects the workers of a supervisor.

    Args:
        limit: Bytes that may wait for one worker.
    """

    def __init__(self, limit: int = MOST_WAITING) -> None:
        self._limit = limit
        self._links: dict[int, HubLink] = {}  # by descriptor

    def connect(self) -> tuple[HubLink, socket.socket]:
        """Create the connection of another worker; return it, and the worker's end.

        Raises:
            OSError: The system has no more descriptors.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        for sock in (ours, theirs):
            sock.setblocking(False)
        link = self._links[ours.fileno()] = HubLink(ours, self._limit)
        return link, theirs

    def end(self, link: HubLink) -> None:
        """Close the connection of a worker that has ended, once its last messages are passed on.

        Idempotent.
        """
        while link.sock.fileno() in self._links and self._receive(link):
            pass
        self.drop(link)

    def drop(self, link: HubLink) -> None:
        """Close the connection of a worker. Idempotent."""
        if self._links.pop(link.sock.fileno(), None) is not None:
            link.sock.close()

    def close(self) -> None:
        """Close all connections."""
        for link in tuple(self._links.values()):
            self.drop(link)

    def register(self, poll: select.poll) -> None:
        """Let a poll object watch all connections."""
        for descriptor, link in self._links.items():
            wanted = select.POLLIN | (select.POLLOUT if link.wants_to_send else 0)
            poll.register(descriptor, wanted)

    def serve(self) -> None:
        """Handle what there is now, without waiting."""
        poll = select.poll()
        self.register(poll)
        for descriptor, event in poll.poll(0):
            self.handle(descriptor, event)

    def handle(self, descriptor: int, event: int) -> bool:
        """Handle what a poll object found; return False if it is no connection of this hub."""
        link = self._links.get(descriptor)
        if link is None:
            return False
        if event & select.POLLOUT:
            link.send()
        if event & ~select.POLLOUT:
            self._receive(link)
        return True

    def _receive(self, link: HubLink) -> bool:
        """Pass on what a worker sent: one piece, since the supervisor has other work, too.

        Returns:
            False if there was nothing.
        """
        try:
            data = link.sock.recv(_CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self.drop(link)
            return False
        messages: list[bytes] = []
        for kind, whole in link.splitter.feed(data):
            if kind == FrameKind.MESSAGE:
                messages.append(whole)
            elif kind == FrameKind.LISTEN:
                link.listens = True
                link.put(frame(FrameKind.WELCOME))
            elif kind == FrameKind.DEAF:
                link.stop_listening()
        if messages:
            together = b"".join(messages)
            for other in self._links.values():
                if other.listens and other is not link:
                    other.offer(together, len(messages))
        return True
