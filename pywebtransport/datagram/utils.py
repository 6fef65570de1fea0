"""Compatibility names: heartbeats, and a throughput test for datagrams."""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
from typing import TYPE_CHECKING, Any

from .._core.datagram_arguments import check_age, check_limit
from .._core.heartbeats import create_heartbeat_datagram, is_heartbeat_datagram
from ..exceptions import DatagramTooLargeError, WebTransportError
from ..utils import _clock as clock
from ..utils._checks import check_interface

if TYPE_CHECKING:
    from .._core.datagram_transport import WebTransportDatagramTransport

__all__ = ["create_heartbeat_datagram", "datagram_throughput_test", "is_heartbeat_datagram"]

# A test datagram begins with a random number of the test and the time when it was sent.
_STAMP = struct.Struct("!8sQ")
_BURST = 32
_MAX_SAMPLES = 1 << 16
_MIN_GRACE = 0.2


async def datagram_throughput_test(
    datagram_transport: WebTransportDatagramTransport,
    *,
    duration: float = 10.0,
    datagram_size: int = 1000,
) -> dict[str, Any]:
    """Measure how many datagrams a path can carry by sending as fast as possible.

    The outgoing queue is kept full, so round-trip times include the wait in it. If the peer
    echoes datagrams (as ``echo_handler`` does), the echoes are measured, too. Use a separate
    session, because other datagrams that arrive meanwhile are discarded. Echoes of datagrams
    below 16 bytes cannot be recognized.

    Args:
        datagram_transport: The ``session.datagrams`` to use.
        duration: Seconds to send.
        datagram_size: Bytes of each datagram.

    Returns:
        ``duration`` (seconds of sending), ``datagrams_sent`` (put into
        packets), ``bytes_sent``, ``datagrams_dropped`` (queued but never put
        into packets), ``errors`` (errors of ``send``, which end the test),
        ``error_rate`` (share of errors and drops),
        ``throughput_dps`` (datagrams per second), ``throughput_bps`` (payload
        bits per second), ``datagrams_acknowledged`` and ``datagrams_lost``
        (known to QUIC at the end), ``datagrams_received`` (echoes),
        ``echo_lost`` (sent but not echoed; None if there were no echoes),
        ``rtt``: seconds as ``min``, ``p50``, ``p90``, ``p99``, ``max``; None
        without echoes.

    Raises:
        DatagramTooLargeError: ``datagram_size`` does not fit.
        ConfigurationError: An argument is not positive.
        SessionClosedError: The session had ended before the test began.

    Cancellation: safe; queued datagrams are still sent.
    """
    transport = datagram_transport
    check_interface(
        "datagram_transport", transport, "WebTransportDatagramTransport", "receive_many"
    )
    check_age("duration", duration)
    check_limit("datagram_size", datagram_size)
    if transport.is_closed:
        raise transport.closed_error("no datagram can be sent")
    if datagram_size > transport.max_datagram_size:
        raise DatagramTooLargeError(
            datagram_size=datagram_size, max_size=transport.max_datagram_size
        )
    before = transport.refresh_stats().to_dict()
    echoes = _Echoes()
    reader = asyncio.get_running_loop().create_task(echoes.read(transport))
    errors = 0
    started = clock.monotonic()
    try:
        try:
            await _send_for(transport, duration, datagram_size, echoes.nonce)
        except WebTransportError:
            errors = 1
        elapsed = clock.monotonic() - started
        await _settle(transport, before, echoes)
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
    after = transport.refresh_stats().to_dict()
    counted = {
        name: after[name] - before[name]
        for name in (
            "datagrams_sent",
            "send_drops",
            "datagrams_expired",
            "datagrams_acknowledged",
            "datagrams_lost",
        )
    }
    sent = counted["datagrams_sent"]
    dropped = counted["send_drops"]
    return {
        "duration": elapsed,
        "datagrams_sent": sent,
        "bytes_sent": sent * datagram_size,
        "datagrams_dropped": dropped,
        "errors": errors,
        "error_rate": (errors + dropped) / max(1, sent + errors + dropped),
        "throughput_dps": sent / elapsed,
        "throughput_bps": sent * datagram_size * 8 / elapsed,
        "datagrams_acknowledged": counted["datagrams_acknowledged"],
        "datagrams_lost": counted["datagrams_lost"],
        "datagrams_received": echoes.count,
        "echo_lost": sent - echoes.count if echoes.count else None,
        "rtt": echoes.percentiles(),
    }


class _Echoes:
    """Collects echoes of test datagrams."""

    def __init__(self) -> None:
        self.nonce = os.urandom(8)
        self.count = 0
        self._times: list[float] = []
        self._stride = 1

    async def read(self, transport: WebTransportDatagramTransport) -> None:
        """Read datagrams until cancelled or the session ends."""
        with contextlib.suppress(WebTransportError):
            while True:
                for data in await transport.receive_many():
                    self._arrived(data)

    def percentiles(self) -> dict[str, float] | None:
        """Return the round-trip times; None without echoes."""
        if not self._times:
            return None
        times = sorted(self._times)
        last = len(times) - 1
        shares = {"min": 0.0, "p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
        return {name: times[round(share * last)] for name, share in shares.items()}

    def _arrived(self, data: bytes) -> None:
        if len(data) < _STAMP.size or not data.startswith(self.nonce):
            return
        self.count += 1
        if self.count % self._stride:
            return
        self._times.append((clock.monotonic_ns() - _STAMP.unpack_from(data)[1]) / 1e9)
        if len(self._times) >= _MAX_SAMPLES:
            # Keep only every second sample from now on.
            del self._times[::2]
            self._stride *= 2


async def _send_for(
    transport: WebTransportDatagramTransport, duration: float, size: int, nonce: bytes
) -> None:
    end = clock.monotonic() + duration
    padding = bytes(max(0, size - _STAMP.size))
    while clock.monotonic() < end:
        for _ in range(_BURST):
            if size < _STAMP.size:
                await transport.send(bytes(size))
            else:
                await transport.send(_STAMP.pack(nonce, clock.monotonic_ns()) + padding)
        await asyncio.sleep(0)


async def _settle(
    transport: WebTransportDatagramTransport, before: dict[str, Any], echoes: _Echoes
) -> None:
    """Wait while datagrams leave the queue, are acknowledged or are echoed."""
    seen: tuple[int, ...] | None = None
    while not transport.is_closed:
        stats = transport.refresh_stats()
        fates = stats.datagrams_acknowledged + stats.datagrams_lost
        fates -= before["datagrams_acknowledged"] + before["datagrams_lost"]
        sent = stats.datagrams_sent - before["datagrams_sent"]
        waiting = transport.get_send_buffer_size()
        if not waiting and echoes.count >= sent:
            return
        now = (waiting, fates, echoes.count)
        if now == seen:
            return  # nothing has happened for a while, so nothing more will
        seen = now
        await asyncio.sleep(max(_MIN_GRACE, 4 * (transport.session.rtt or 0.0)))
