"""The bidirectional stream."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TypeAlias

from .._quic import StreamPort
from .._states import ErrorCode, StreamDirection
from ..exceptions import WebTransportError
from ..utils._awaitable import Awaited, awaited, compiled
from ..utils._checks import check_number, check_seconds
from ..utils._logs import shared_log
from .receive_stream import WebTransportReceiveStream
from .send_stream import WebTransportSendStream

__all__ = ["StreamType", "WebTransportStream", "finish_stream"]


class WebTransportStream(WebTransportReceiveStream, WebTransportSendStream):
    """A stream that both ends send on. The two halves end independently."""

    __slots__ = ()

    _direction = StreamDirection.BIDIRECTIONAL

    @property
    def is_reusable(self) -> bool:
        """Both halves are open, no read is waiting, and no byte from the peer is unread.

        A pool checks this before it lends the stream again.
        """
        quic = self._quic
        return (
            self.is_writable
            and not self._receive_done
            and self._read_waiter is None
            and not (quic.fin_received or quic.is_reset or quic.buffered)
        )

    @awaited
    @compiled(StreamPort)
    def close(self, *, code: ErrorCode | None = None, reason: str | None = None) -> Awaited[None]:
        """Finish the sending half (FIN); the receiving half stays open for the answer.

        Idempotent. ``abort`` ends both halves, ``stop_sending`` ends the receiving half.
        Arguments and errors are those of ``WebTransportSendStream.close``.
        """
        return self._close(code=code, reason=reason)

    async def abort(self, code: ErrorCode = 0) -> None:
        """Reset the sending half and stop the receiving half, both with ``code``."""
        self.reset(code)
        self.stop_sending(code)

    async def initialize(self) -> None:
        """Do nothing; kept for compatibility. A new stream is ready to use."""

    async def _end_block(self) -> None:
        """Finish the sending half and stop the receiving one.

        Nothing is left open, and the stream no longer counts towards the limits. Data that
        arrived but was not read is dropped.
        """
        await self.close()
        self.stop_sending(0)

    async def diagnose_issues(
        self,
        *,
        error_rate_threshold: float = 0.1,
        latency_threshold: float = 1.0,
        stale_threshold: float = 3600.0,
    ) -> list[str]:
        """Look for problems that the statistics of the stream show.

        Args:
            error_rate_threshold: Share of operations that may fail, 0 to 1.
            latency_threshold: Seconds that a read or write may wait on average.
            stale_threshold: Seconds that a stream may be open without transferring a byte.

        Returns:
            One sentence per problem; empty if there is none.
        """
        check_number("error_rate_threshold", error_rate_threshold)
        check_number("latency_threshold", latency_threshold)
        check_number("stale_threshold", stale_threshold)
        stats = self.stats
        issues = []
        operations = stats.reads_count + stats.writes_count
        errors = stats.read_errors + stats.write_errors
        if operations and errors / operations > error_rate_threshold:
            issues.append(f"{errors} of {operations} operations failed")
        if stats.avg_read_time > latency_threshold:
            issues.append(f"reads wait {stats.avg_read_time:.3f} s on average")
        if stats.avg_write_time > latency_threshold:
            issues.append(f"writes wait {stats.avg_write_time:.3f} s on average for room")
        if stats.uptime > stale_threshold and not stats.bytes_sent + stats.bytes_received:
            issues.append(f"no byte moved in {stats.uptime:.0f} s")
        return issues

    async def monitor_health(
        self, *, check_interval: float = 30.0, error_rate_threshold: float = 0.1
    ) -> None:
        """Log a warning whenever ``diagnose_issues`` finds something, until the stream ends.

        Args:
            check_interval: Seconds between checks.
            error_rate_threshold: As for ``diagnose_issues``.

        Cancellation: safe; cancel it to stop early.
        """
        interval = check_seconds("check_interval", check_interval)
        check_number("error_rate_threshold", error_rate_threshold)
        while not self.is_closed:
            for issue in await self.diagnose_issues(error_rate_threshold=error_rate_threshold):
                shared_log(self._session._logger).tell(
                    "stream health", logging.WARNING, "stream %d: %s", self.stream_id, issue
                )
            await asyncio.sleep(interval)


StreamType: TypeAlias = WebTransportStream | WebTransportReceiveStream | WebTransportSendStream
"""Any of the three stream classes."""


def finish_stream(stream: StreamType) -> None:
    """Close the sending side, so that written data still arrives; stop the receiving side."""
    if isinstance(stream, WebTransportSendStream):
        with suppress(WebTransportError):
            stream.finish()
    if isinstance(stream, WebTransportReceiveStream):
        stream.stop_sending(0)
