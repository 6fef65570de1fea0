"""The connection of a worker process to the other workers, through their supervisor."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections import deque
from collections.abc import Awaitable
from typing import Final, Protocol

from ..exceptions import ConnectionError
from ..utils._logs import shared_log
from ..utils._text import printable
from ..utils._turns import Turns
from ..utils._waiters import Waiters, require_loop
from ._worker_frames import (
    GAP,
    FrameKind,
    FrameSplitter,
    frame,
    message_frame,
    split_message,
)

__all__ = ["Member", "WorkerLink", "set_worker_link", "worker_link"]

_CHUNK: Final = 262_144
_MOST_UNSENT: Final = 1_048_576
"""Bytes that may wait for the supervisor; then publishers wait."""
_TIMEOUT: Final = 5.0
"""Seconds that the supervisor may take to read."""
_WELCOME_TIMEOUT: Final = 30.0
"""Seconds that it may take to answer; at first it starts all workers."""
_FLUSHING: Final = 1.0
"""Seconds to send what is left when the last backend of a worker is closed."""
_STEP: Final = 8
"""Messages between two readings of the clock."""

logger = logging.getLogger("pywebtransport.events")

_link: WorkerLink | None = None


def set_worker_link(sock: socket.socket | None) -> None:
    """Set the connection of this worker process, in which no event loop runs yet.

    Args:
        sock: A stream socket to the supervisor; None: there is no supervisor.
    """
    global _link
    _link = None if sock is None else WorkerLink(sock)


def worker_link() -> WorkerLink | None:
    """Return the connection of this process to the other workers.

    Returns:
        None if this process is no worker, or a fork of one: the connection belongs to the worker.
    """
    return _link if _link is not None and _link.pid == os.getpid() else None


class Member(Protocol):
    """What receives the messages of one name."""

    def receive(self, channel: str, payload: bytes, /) -> Awaitable[object] | None: ...

    def lost(self, seconds: float | None, count: int, /) -> None: ...


class WorkerLink:
    """Carries the messages of all backends of a worker.

    It is attached to the event loop while there is a member.

    Args:
        sock: To the supervisor, non-blocking.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.pid: Final = os.getpid()
        self._sock: Final = sock
        self._splitter = FrameSplitter()
        self._unsent: deque[bytes] = deque()
        self._unsent_size = 0
        self._members: dict[bytes, Member] = {}
        self._room: Waiters | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reader: asyncio.Task[None] | None = None
        self._welcome: asyncio.Future[None] | None = None
        self._ended = False

    @property
    def is_full(self) -> bool:
        """Whether publishers have to wait; see ``wait_room``."""
        return self._unsent_size > _MOST_UNSENT

    async def join(self, name: bytes, member: Member) -> None:
        """Receive the messages of a name that are published from now on.

        Raises:
            ConnectionError: The supervisor is gone, or does not answer.

        Cancellation: call ``leave``.
        """
        loop = asyncio.get_running_loop()
        self._check()
        if self._loop is None or self._loop.is_closed():
            self._attach(loop)
        require_loop(self._loop, loop)
        self._members[name] = member
        assert self._welcome is not None  # it is attached
        await asyncio.wait([self._welcome], timeout=_WELCOME_TIMEOUT)
        self._check()
        if not self._welcome.done():
            raise ConnectionError(
                f"the supervisor did not answer within {_WELCOME_TIMEOUT:g} seconds"
            )

    async def leave(self, name: bytes, member: Member) -> None:
        """Receive nothing any more. Idempotent.

        Cancellation: the member leaves anyway.
        """
        if self._members.get(name) is not member or os.getpid() != self.pid:
            return
        try:
            if len(self._members) == 1:
                # These may be the last messages of this process.
                await self._flush()
        finally:
            if self._members.get(name) is member:
                del self._members[name]
                if not self._members:
                    await asyncio.wait([self._detach()])

    def send(self, name: bytes, channel: str, payload: bytes) -> None:
        """Send a message to the members of this name in the other workers, without waiting.

        Raises:
            ConnectionError: The supervisor is gone, or this process is a fork of the worker.
        """
        self._check()
        self._put(message_frame(name, channel.encode(), bytes(payload)))

    async def wait_room(self) -> None:
        """Wait until the supervisor has read enough.

        Raises:
            ConnectionError: It is gone, or reads too slowly.

        Cancellation: safe.
        """
        self._check()
        if self._room is None:
            self._room = Waiters()
        while self.is_full and not self._ended:
            if not await self._room.wait(_TIMEOUT):
                raise ConnectionError(f"the supervisor read nothing for {_TIMEOUT:g} seconds")
        self._check()

    # ---------------------------------------------------------------- internal

    async def _flush(self) -> None:
        """Wait until the supervisor has everything, but not long."""
        if self._room is None:
            self._room = Waiters()
        deadline = asyncio.get_running_loop().time() + _FLUSHING
        while self._unsent and not self._ended:
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0 or not await self._room.wait(left):
                break

    def _check(self) -> None:
        if os.getpid() != self.pid:
            # Its frames would get in between those of the worker.
            raise ConnectionError(
                "this process is a fork of a worker: the connection to the other workers is the "
                "worker's"
            )
        if self._ended:
            raise ConnectionError("the supervisor of the workers is gone")

    def _attach(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._welcome = loop.create_future()
        self._reader = loop.create_task(self._read(loop, self._welcome), name="worker link")
        self._put(frame(FrameKind.LISTEN), now=True)

    def _detach(self) -> asyncio.Task[None]:
        loop, self._loop = self._loop, None
        reader, self._reader = self._reader, None
        # It had a member.
        assert loop is not None
        assert reader is not None
        reader.cancel()
        self._put(frame(FrameKind.DEAF), now=True)
        # What the supervisor does not take now is sent when there is a member again: half a
        # message must be completed.
        loop.remove_writer(self._sock.fileno())
        return reader

    # ----------------------------------------------------------------- sending

    def _put(self, data: bytes, *, now: bool = False) -> None:
        self._unsent.append(data)
        self._unsent_size += len(data)
        # Otherwise it is sent after those that wait.
        if now or len(self._unsent) == 1:
            self._send()

    def _send(self) -> None:
        unsent = self._unsent
        try:
            while unsent:
                first = unsent[0]
                sent = self._sock.send(first)
                self._unsent_size -= sent
                if sent == len(first):
                    unsent.popleft()
                else:
                    unsent[0] = first[sent:]
        except BlockingIOError:
            self._watch_room()
        except OSError as error:
            self._end(error)
        else:
            self._watch_room()

    def _watch_room(self) -> None:
        if self._room is not None and not self.is_full:
            self._room.wake()
        loop = self._loop
        if loop is None:
            return
        if self._unsent:
            loop.add_writer(self._sock.fileno(), self._send)
        else:
            loop.remove_writer(self._sock.fileno())

    # --------------------------------------------------------------- receiving

    async def _read(self, loop: asyncio.AbstractEventLoop, welcome: asyncio.Future[None]) -> None:
        """Pass on what arrives; the next message is handled when the one before has arrived."""
        turns = Turns.of(loop)
        count = 0
        while (data := await self._receive(loop)) is not None:
            for kind, whole in self._splitter.feed(data):
                count += 1
                if count % _STEP == 0:
                    await turns.pause()
                if kind == FrameKind.WELCOME and not welcome.done():
                    welcome.set_result(None)
                elif not welcome.done():
                    pass  # from the time before
                elif kind == FrameKind.MESSAGE:
                    name, channel, payload = split_message(whole)
                    member = self._members.get(name)
                    waiting = None if member is None else member.receive(channel.decode(), payload)
                    if waiting is not None:
                        await waiting
                elif kind == FrameKind.GAP:
                    self._tell_gap(*GAP.unpack(self._splitter.content(whole)))

    async def _receive(self, loop: asyncio.AbstractEventLoop) -> bytes | None:
        """Return the next bytes; None at the end."""
        sock = self._sock
        while not self._ended:
            try:
                data = sock.recv(_CHUNK)
            except BlockingIOError:
                readable: asyncio.Future[None] = loop.create_future()
                loop.add_reader(sock.fileno(), _resolve, readable)
                try:
                    await readable
                finally:
                    loop.remove_reader(sock.fileno())
                continue
            except OSError as error:
                self._end(error)
                continue
            if data:
                return data
            self._end(EOFError("the connection was closed"))
        return None

    def _tell_gap(self, seconds: float, lost: int) -> None:
        shared_log(logger).tell(
            "gap",
            logging.WARNING,
            "this worker was too slow: %d messages of other workers are lost",
            lost,
        )
        for member in tuple(self._members.values()):
            member.lost(None, lost)
            member.lost(seconds, 0)

    def _end(self, error: Exception) -> None:
        """The supervisor is gone: this process will end soon."""
        if self._ended:
            return
        self._ended = True
        logger.debug("the connection to the supervisor ended: %s", printable(error))
        self._unsent.clear()
        self._unsent_size = 0
        if self._welcome is not None and not self._welcome.done():
            self._welcome.set_result(None)
        self._watch_room()
        for member in tuple(self._members.values()):
            member.lost(None, 0)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
