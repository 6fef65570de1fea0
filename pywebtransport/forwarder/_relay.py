"""Relays streams and datagrams between two sessions."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

from .._states import EventType, SessionState
from ..constants import ErrorCodes
from ..exceptions import (
    DatagramTooLargeError,
    StreamLimitError,
    StreamResetError,
    StreamStoppedError,
    TimeoutError,
    WebTransportError,
)
from ..stream import WebTransportReceiveStream, WebTransportSendStream, WebTransportStream
from ..utils._failures import is_normal_end, log_application_error
from ..utils._tasks import cancel_in_turns, is_being_cancelled

if TYPE_CHECKING:
    from ..events import Event
    from ..session import WebTransportSession

__all__ = ["Relay"]

_logger = logging.getLogger("pywebtransport.forwarder")

_CHUNK = 65536
# Bytes that may wait for the network in one direction of a relay: in all its streams together, and
# at least in each stream.
_WAITING = 16 * 1024 * 1024
_LEAST = 16 * 1024
# Seconds of each attempt to open a counterpart.
_PATIENCE = 60.0

_Receiver = WebTransportReceiveStream | WebTransportStream
_Sender = WebTransportSendStream | WebTransportStream


class Relay:
    """Copies between two open sessions until one ends; then the other ends the same way.

    Memory is bounded: each copy waits for its writer before it reads again, streams hold less the
    more of them there are, and a stream is accepted only after its counterpart was opened. Resets
    and stops are passed on with their wire codes, so even codes that are unknown here keep their
    meaning.

    Args:
        near: The session of the server.
        far: The session with the upstream.

    Attributes:
        streams: Streams relayed now, by direction: two for a bidirectional one.
        datagrams_dropped: Datagrams larger than what the other side can carry.
    """

    def __init__(self, near: WebTransportSession, far: WebTransportSession) -> None:
        self._sessions = (near, far)
        # Indexed by the session that is read from.
        self._tasks: tuple[set[asyncio.Task[None]], ...] = (set(), set())
        self._deadline = 0.0  # for closing, on the clock of the loop
        self._marks = tuple(session.write_high_water for session in self._sessions)
        self._share = _WAITING
        self.streams = 0
        self.datagrams_dropped = 0

    async def run(self) -> None:
        """Relay until a session ends, and close the other.

        Cancellation: both sessions are closed.
        """
        near, far = self._sessions
        drains = (partial(_drain, far), partial(_drain, near))
        ends = [asyncio.ensure_future(session.wait_closed()) for session in self._sessions]
        try:
            for side, drain in zip((0, 1), drains, strict=True):
                session = self._sessions[side]
                session.add_watcher(EventType.SESSION_DRAINING, drain)
                if session.state is SessionState.DRAINING:
                    drain()
                for bidirectional in (True, False):
                    self._start(side, self._take_streams(side, bidirectional))
                self._start(side, self._copy_datagrams(side))
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            await self._finish(0 if near.close_info is not None else 1)
        finally:
            for session, drain in zip(self._sessions, drains, strict=True):
                session.remove_watcher(EventType.SESSION_DRAINING, drain)
            tasks = [*ends, *self._tasks[0], *self._tasks[1]]
            cancel_in_turns(tasks)
            # Close the sessions now, in case a second cancellation interrupts the wait.
            for session in self._sessions:
                if not session.is_closed:
                    session.close_nowait(0, "the relay was stopped")
            await asyncio.gather(*tasks, return_exceptions=True)
            if is_being_cancelled():  # cancelled from outside: do not wait any longer
                far.release_connection()
            else:
                await far.close_until(self._deadline, 0, "", close_connection=True)

    async def _finish(self, ended: int) -> None:
        """One session ended: deliver the data that it sent, then end the other one the same way."""
        first, other = self._sessions[ended], self._sessions[1 - ended]
        cancel_in_turns(self._tasks[1 - ended])
        info = first.close_info
        assert info is not None
        seconds = other.config.close_timeout
        self._deadline = asyncio.get_running_loop().time() + seconds
        if info.code is None:
            if not other.is_closed:
                other.abort(ErrorCodes.H3_CONNECT_ERROR)
            return
        loop = asyncio.get_running_loop()
        tasks = self._tasks[ended]  # a stream that is accepted now adds its tasks
        copied = self._deadline - seconds / 4  # the rest of the time is for acknowledgements
        while tasks and not other.is_closed and (left := copied - loop.time()) > 0:
            await asyncio.wait(tasks, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        await other.close_until(self._deadline, info.code, info.reason)

    def _start(self, side: int, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[side].add(task)
        task.add_done_callback(partial(self._over, side))

    def _over(self, side: int, task: asyncio.Task[None]) -> None:
        """A task ended. If it failed, the sessions cannot continue."""
        self._tasks[side].discard(task)
        error = None if task.cancelled() else task.exception()
        session = self._sessions[side]
        if error is None or is_normal_end(error, session):
            return
        log_application_error(_logger, "relaying", error, session=session)
        if not session.is_closed:
            session.close_nowait(1, "internal error")

    # ------------------------------------------------------------------- streams

    async def _take_streams(self, side: int, bidirectional: bool) -> None:
        """Open a counterpart for each stream that the peer of one session opens."""
        source, sink = self._sessions[side], self._sessions[1 - side]
        incoming: AsyncIterator[_Receiver] = (
            source.incoming_bidirectional_streams()
            if bidirectional
            else source.incoming_unidirectional_streams()
        )
        async for stream in incoming:
            try:
                counterpart = await _open(sink, bidirectional)
            except BaseException:
                # The session or the relay has ended: nobody will read this stream.
                stream.stop_sending(0)
                if isinstance(stream, WebTransportStream):
                    stream.reset(0)
                if sink.is_closed:
                    return
                raise
            _watch(stream, counterpart)
            _watch(counterpart, stream)
            self._start(side, self._copy(stream, counterpart))
            if isinstance(stream, WebTransportStream) and isinstance(
                counterpart, WebTransportStream
            ):
                self._start(1 - side, self._copy(counterpart, stream))

    async def _copy(self, reader: _Receiver, writer: _Sender) -> None:
        """Copy one direction of a stream to its end."""
        self._count_stream(1)
        try:
            while data := await _read(reader, min(_CHUNK, self._share)):
                await _write(writer, data)
            await writer.close()
        except StreamResetError:
            reader.pass_reset_to(writer)
        except StreamStoppedError:
            writer.pass_stop_to(reader)
        except WebTransportError:
            pass  # ended by a reset or stop that was passed on, or a session has ended
        finally:
            self._count_stream(-1)

    def _count_stream(self, change: int) -> None:
        """Divide the bytes that may wait among the current streams."""
        self.streams += change
        self._share = max(_LEAST, _WAITING // max(1, self.streams))
        for session, high in zip(self._sessions, self._marks, strict=True):
            session.write_high_water = min(high, max(self._share, session.write_low_water))

    # ----------------------------------------------------------------- datagrams

    async def _copy_datagrams(self, side: int) -> None:
        source, sink = self._sessions[side].datagrams, self._sessions[1 - side].datagrams
        try:
            while True:
                for datagram in await source.receive_many():
                    try:
                        await sink.send(datagram)
                    except DatagramTooLargeError:
                        self.datagrams_dropped += 1
        except WebTransportError:
            return  # a session has ended


async def _open(sink: WebTransportSession, bidirectional: bool) -> _Sender:
    """Open a stream of the other session, however long its limits delay this."""
    while True:
        try:
            if bidirectional:
                return await sink.create_bidirectional_stream(timeout=_PATIENCE)
            return await sink.create_unidirectional_stream(timeout=_PATIENCE)
        except (TimeoutError, StreamLimitError):
            if sink.is_closed:
                raise


def _drain(session: WebTransportSession, event: Event | None = None) -> None:
    session.drain()


def _watch(stream: _Receiver | _Sender, counterpart: _Receiver | _Sender) -> None:
    """Pass on resets and stops of a stream immediately."""
    stream.pass_ends_to(counterpart)


async def _read(reader: _Receiver, size: int) -> bytes:
    """Read the next piece, however long it takes: idle timeouts are up to the two ends."""
    while True:
        try:
            return await reader.read(size)
        except TimeoutError:
            continue


async def _write(writer: _Sender, data: bytes) -> None:
    try:
        await writer.write(data)
    except TimeoutError:  # the bytes are queued
        while True:
            try:
                await writer.flush()
            except TimeoutError:
                continue
            return
