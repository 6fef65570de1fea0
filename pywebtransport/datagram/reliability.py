"""Datagrams that arrive: numbered, acknowledged, sent again, each delivered once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from .._core.datagram_arguments import check_age, check_limit, check_payload, check_wait
from .._core.heartbeats import is_heartbeat_datagram
from ..exceptions import (
    DatagramError,
    DatagramTooLargeError,
    SessionClosedError,
    TimeoutError,
    WebTransportError,
)
from ..utils import _clock as clock
from ..utils._checks import NEVER, check_interface, check_timeout
from ..utils._closing import AsyncCloseable
from ..utils._gates import ONLY, Gates, TooLate
from ..utils._waiters import Waiters
from ._reliable_frames import (
    INITIAL_LIMIT,
    MAX_HEADER,
    MAX_WINDOW,
    Ack,
    Data,
    FrameError,
    decode,
)
from ._reliable_receiver import ReliableReceiver
from ._reliable_sender import ReliableSender

if TYPE_CHECKING:
    from .._core.datagram_transport import WebTransportDatagramTransport
    from .._states import Data as Payload

__all__ = ["DatagramReliabilityLayer"]

_BATCH = 64
# How many frames may wait in the outgoing queue of the transport: frames there can neither be
# overtaken nor removed when it turns out that they have arrived.
_QUEUED = 32
_MIN_DELAY = 0.001
_DATA_PRIORITY = 0
_ACK_PRIORITY = 2


class DatagramReliabilityLayer(AsyncCloseable):
    """Sends every datagram until the peer has received it; delivers each one once.

    Both sides wrap their ``session.datagrams``, which then belongs to the layer: do not read
    from it yourself. The peer's layer acknowledges datagrams that arrive. Each acknowledgement
    has its complete state, so losing one does no harm. A datagram that is not acknowledged in
    time is sent again; the time depends on measured round trips and doubles after each
    failure. If the peer acknowledges nothing at all for ``ack_timeout * (max_retries + 1)``
    seconds, the layer gives up: all waiting callers, and all later calls, get DatagramError.

    Memory is bounded on both sides: at most ``window`` datagrams are in flight (``send``
    waits), and at most ``window`` wait for ``receive`` (the peer is told to send no more).
    Frames that are malformed or not allowed are dropped and counted in ``stats``; heartbeats
    are ignored.

    The wire format is described in ``pywebtransport.datagram._reliable_frames``.
    """

    def __init__(
        self,
        datagram_transport: WebTransportDatagramTransport,
        *,
        ack_timeout: float = 2.0,
        max_retries: int = 5,
        ordered: bool = True,
        window: int = 256,
        close_timeout: float = 5.0,
    ) -> None:
        """Ready for use at once; entering the context starts receiving before the first call.

        Args:
            datagram_transport: The ``session.datagrams`` to use.
            ack_timeout: Seconds until the first retransmission, while no
                round-trip time is known, neither from QUIC nor from datagrams.
            max_retries: The peer may be silent for this many further ``ack_timeout`` periods
                after the first one.
            ordered: Deliver in the order of sending. If False, deliver as they arrive, so
                that a lost datagram does not delay later ones. Applies to received
                datagrams.
            window: Datagrams in flight, and datagrams that wait here: 32 to 1024.
            close_timeout: Seconds that ``close`` waits for acknowledgements at most.

        Raises:
            ConfigurationError: An argument is out of range.
        """
        check_interface(
            "datagram_transport",
            datagram_transport,
            "WebTransportDatagramTransport",
            "receive_many",
        )
        check_age("ack_timeout", ack_timeout)
        check_limit("max_retries", max_retries, 0)
        check_limit("window", window, 0)
        if not INITIAL_LIMIT <= window <= MAX_WINDOW:
            raise DatagramError(f"window must be {INITIAL_LIMIT} to {MAX_WINDOW}, got {window}")
        if close_timeout != 0:
            check_wait("close_timeout", close_timeout)
        ack_timeout, close_timeout = min(ack_timeout, NEVER), min(close_timeout, NEVER)
        self._transport = datagram_transport
        self._close_timeout = close_timeout
        self._sender = ReliableSender(
            window=window, ack_timeout=ack_timeout, max_retries=max_retries
        )
        self._receiver = ReliableReceiver(window=window, ordered=ordered)
        self._reader: asyncio.Task[None] | None = None
        self._resumer: asyncio.Future[bool] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._senders = Gates()
        self._readers = Gates()
        self._flushed = Waiters()
        self._ack_due = False
        self._bad_frames = 0
        self._mark: int | None = None
        # Creates the error of every call from now on; None: no error.
        self._over: Callable[[], WebTransportError] | None = None

    @classmethod
    def create(
        cls,
        datagram_transport: WebTransportDatagramTransport,
        *,
        ack_timeout: float = 1.0,
        max_retries: int = 3,
    ) -> Self:
        """Make one that gives up sooner than by default: after 4 seconds of silence."""
        return cls(datagram_transport, ack_timeout=ack_timeout, max_retries=max_retries)

    @property
    def is_closed(self) -> bool:
        """The layer was closed or has given up, or the session has ended."""
        return self._over is not None or self._transport.is_closed

    @property
    def max_datagram_size(self) -> int:
        """Most payload bytes of one datagram now; follows the path MTU."""
        return max(0, self._transport.max_datagram_size - MAX_HEADER)

    @property
    def stats(self) -> dict[str, Any]:
        """Statistics; ``rtt`` is in seconds, None before the first sample."""
        sender, receiver = self._sender, self._receiver
        return {
            "datagrams_sent": sender.submitted,
            "datagrams_acknowledged": sender.acknowledged,
            "unacknowledged": sender.unacknowledged,
            "retransmissions": sender.retransmitted,
            "timeouts": sender.timeouts,
            "rtt": sender.rtt,
            "datagrams_received": receiver.received,
            "waiting": receiver.waiting,
            "duplicates": receiver.duplicates,
            "beyond_window": receiver.beyond_window,
            "bad_frames": self._bad_frames,
        }

    async def send(self, data: Payload) -> None:
        """Send one datagram; wait while ``window`` datagrams are not acknowledged.

        Returns when the datagram was sent; ``flush`` waits until all have arrived. Waiting
        callers are served in the order in which they called.

        Args:
            data: At most ``max_datagram_size`` bytes; may be empty.

        Raises:
            DatagramTooLargeError: ``.max_size`` tells the limit; nothing was sent.
            DatagramError: The layer is closed, or the peer acknowledges nothing.
            SessionClosedError: The session is over.

        Cancellation: safe; a cancelled send was not queued.
        """
        payload = check_payload(data)
        self._start()
        self._check_payload(payload)
        if self._senders or not self._sender.has_room:
            await self._wait_room()
            self._check_payload(payload)
        self._sender.submit(payload)
        self._pump()
        self._check()

    async def receive(self, *, timeout: float | None = None) -> bytes:
        """Return the next datagram, waiting for one.

        Args:
            timeout: Seconds to wait; None waits as long as the session lives.

        Raises:
            TimeoutError: Nothing came in time.
            DatagramError: The layer is closed or has given up. Datagrams that had arrived are
                returned first.
            SessionClosedError: The session is over. Datagrams that had arrived are returned first.

        Cancellation: safe, no datagram is lost.
        """
        timeout = check_timeout("timeout", timeout)
        self._start()
        data = None if self._readers else self._take()
        if data is None:
            try:
                data = await self._readers.wait(ONLY, self, self._take, timeout=timeout)
            except TooLate:
                raise TimeoutError(
                    f"no datagram within timeout={timeout} s",
                    timeout_duration=timeout,
                    operation="receive",
                ) from None
        if self._receiver.should_announce:
            self._ack_due = True
            self._pump()
        return data

    async def flush(self, *, timeout: float | None = None) -> None:
        """Wait until the peer has acknowledged everything sent so far.

        Args:
            timeout: Seconds to wait; None waits until the layer gives up.

        Raises:
            TimeoutError: Not all was acknowledged in time.
            DatagramError, SessionClosedError: As ``send``.

        Cancellation: safe.
        """
        timeout = check_timeout("timeout", timeout)
        started = clock.monotonic()
        while self._sender.unacknowledged:
            self._check()
            left = _left(timeout, started)
            if not await self._flushed.wait(left):
                raise TimeoutError(
                    f"{self._sender.unacknowledged} datagrams not acknowledged "
                    f"within timeout={timeout} s",
                    timeout_duration=timeout,
                    operation="flush",
                )

    async def close(self) -> None:
        """Wait for acknowledgements, at most ``close_timeout`` seconds, then stop. Idempotent.

        The transport and its session stay open. What has arrived can still be
        received; datagrams that the peer has not acknowledged by then may or
        may not arrive: ``stats["unacknowledged"]`` says how many. The peer's
        own datagrams are no longer acknowledged: agree on who closes first.

        Cancellation: stops at once.
        """
        try:
            if self._close_timeout:
                await self.flush(timeout=self._close_timeout)
        except WebTransportError:
            pass  # counted in ``stats``
        finally:
            reader = self._reader
            self._finish(lambda: DatagramError("the reliability layer is closed"))
        if reader is not None:
            await asyncio.wait({reader})

    async def __aenter__(self) -> Self:
        self._start()
        return self

    async def _end_failed_block(self) -> None:
        self._close_timeout = 0
        await self.close()

    # --------------------------------------------------------------- internal

    def _start(self) -> None:
        """Start reading frames, once."""
        if self._reader is not None or self._over is not None:
            return
        transport = self._transport
        mark = transport.outgoing_high_water_mark
        if mark > _QUEUED and not transport.is_closed:
            transport.outgoing_high_water_mark = _QUEUED
            self._mark = mark
        rtt = transport.session.rtt
        if rtt is not None:
            self._sender.expect(rtt)
        self._reader = asyncio.get_running_loop().create_task(self._read())

    def _check(self) -> None:
        if self._over is not None:
            raise self._over()

    def _check_payload(self, payload: bytes) -> None:
        self._check()
        largest = self.max_datagram_size
        if len(payload) > largest:
            raise DatagramTooLargeError(datagram_size=len(payload), max_size=largest)

    async def _wait_room(self) -> None:
        """Return when one more datagram may be submitted, or the layer is over."""
        self._sender.wanted = True
        self._arm()
        try:
            await self._senders.wait(ONLY, self, self._has_turn)
        finally:
            self._sender.wanted = bool(self._senders)

    def _has_turn(self) -> bool | None:
        return self._over is not None or self._sender.has_room or None

    def _take(self) -> bytes | None:
        data = self._receiver.take()
        if data is None:
            self._check()
        return data

    async def _read(self) -> None:
        """Frames from the transport, as long as there are any."""
        turns = self._transport.session.turns
        try:
            while self._over is None:
                # What is here already is taken without a wait, and may be much.
                await turns.pause()
                frames = await self._transport.receive_many(_BATCH)
                now = clock.monotonic()
                for frame in frames:
                    self._arrived(frame, now)
                if self._receiver.waiting:
                    self._readers.open(ONLY)
                if not self._sender.unacknowledged:
                    self._flushed.wake()
                if self._sender.has_room:
                    self._senders.open(ONLY)
                self._pump()
        except WebTransportError as error:
            self._fail(error)

    def _arrived(self, frame: bytes, now: float) -> None:
        try:
            message = decode(frame)
            if isinstance(message, Data):
                self._receiver.accept(message.sequence, message.payload)
                self._ack_due = True
            elif isinstance(message, Ack):
                self._sender.acknowledge(message, now)
            else:
                self._ack_due = True
        except FrameError:
            if not is_heartbeat_datagram(data=frame):
                self._bad_frames += 1

    def _pump(self) -> None:
        """Send what is due; if the transport has no room, continue once it has."""
        if self._over is not None or self._resumer is not None:
            return
        try:
            if self._ack_due:
                self._ack_due = not self._transport.submit(
                    self._receiver.acknowledgement(), _ACK_PRIORITY, None
                )
            if self._ack_due or not self._sender.transmit(clock.monotonic(), self._submit):
                self._resumer = self._transport.writable_future()
                self._resumer.add_done_callback(self._resume)
        except WebTransportError as error:
            self._fail(error)
            return
        self._arm()

    def _submit(self, frame: bytes) -> bool:
        return self._transport.submit(frame, _DATA_PRIORITY, None)

    def _resume(self, future: asyncio.Future[bool]) -> None:
        self._resumer = None
        self._pump()

    def _arm(self) -> None:
        """Make sure that the timer fires in time. It may fire too early, which is cheaper."""
        now = clock.monotonic()
        deadline = self._sender.deadline(now)
        if deadline is None or self._over is not None:
            return
        if self._timer is not None:
            if self._timer_at <= deadline:
                return
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max(_MIN_DELAY, deadline - now), self._expired)
        self._timer_at = deadline

    def _expired(self) -> None:
        """The timer fired."""
        self._timer = None
        if self._sender.timeout(clock.monotonic()):
            self._pump()
            self._arm()
            return
        count, seconds = self._sender.unacknowledged, self._sender.silence
        self._finish(
            lambda: DatagramError(
                f"the peer has acknowledged nothing for {seconds:g} s: "
                f"{count} datagrams may not have arrived",
                details={"unacknowledged": count},
            )
        )

    def _fail(self, error: WebTransportError) -> None:
        """The transport refused to continue."""
        closed_error = self._transport.closed_error
        text = str(error)
        if isinstance(error, SessionClosedError):
            self._finish(lambda: closed_error("the reliability layer is over"))
        elif isinstance(error, DatagramTooLargeError):
            size, largest = error.datagram_size, error.max_size
            self._finish(
                lambda: DatagramTooLargeError(
                    f"a datagram cannot be sent again, the path has become too narrow: {text}",
                    datagram_size=size,
                    max_size=largest,
                )
            )
        else:
            self._finish(lambda: DatagramError(text))

    def _finish(self, reason: Callable[[], WebTransportError]) -> None:
        """Handle no more frames; all waiting callers get the error."""
        if self._over is None:
            self._over = reason
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._reader is not None and self._reader is not asyncio.current_task():
            self._reader.cancel()
        if self._resumer is not None:
            self._resumer.cancel()
        self._reader = self._resumer = None
        if self._mark is not None and not self._transport.is_closed:
            self._transport.outgoing_high_water_mark = self._mark
        self._mark = None
        for gates in (self._senders, self._readers):
            gates.fail(self, self._over)
        self._flushed.wake()


def _left(timeout: float | None, started: float) -> float | None:
    """Seconds of a timeout that are left; None: no limit."""
    return None if timeout is None else max(0.0, timeout - (clock.monotonic() - started))
