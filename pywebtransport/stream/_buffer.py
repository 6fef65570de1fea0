"""Compatibility name: a bounded buffer of bytes between coroutines."""

from __future__ import annotations

import asyncio
import sys

from .._states import Data
from ..exceptions import StreamError, TimeoutError
from ..utils._checks import check_count, check_data, check_integer, check_timeout
from ..utils._gates import ONLY, Gates, TooLate
from ..utils._waiters import Waiters

__all__ = ["StreamBuffer"]


class StreamBuffer:
    """A buffer that one coroutine writes and another one reads, at most ``max_size`` bytes.

    Use it to pass bytes between your own tasks; streams have their own buffers. Feeding waits
    while the buffer is full.
    """

    __slots__ = ("_data", "_eof", "_feeding", "_max_size", "_readers", "_taken")

    def __init__(self, *, max_size: int = 65536) -> None:
        """Create an empty buffer.

        Args:
            max_size: How many bytes it may hold.

        Raises:
            ConfigurationError: ``max_size`` is below 1.
        """
        check_count("max_size", max_size)
        self._max_size = max_size
        self._data = bytearray()
        self._eof = False
        self._readers = Gates()
        self._taken = Waiters()
        self._feeding = asyncio.Lock()  # the bytes of one call stay together

    @property
    def at_eof(self) -> bool:
        """The end was fed, and every byte was read."""
        return self._eof and not self._data

    @property
    def size(self) -> int:
        """Bytes that are waiting to be read."""
        return len(self._data)

    async def initialize(self) -> None:
        """Do nothing; kept for compatibility. A new buffer is ready to use."""

    async def feed_data(self, data: Data, *, eof: bool = False) -> None:
        """Append bytes; wait for a reader while there is no room for them.

        Args:
            data: May be longer than ``max_size``: it is then added piece by piece.
            eof: These are the last bytes.

        Raises:
            StreamError: The end was already fed.

        Cancellation: a part of ``data`` may be in the buffer; ``eof`` has no effect then.
        """
        view = memoryview(check_data("data", data))
        async with self._feeding:
            if self._eof:
                raise StreamError("the end of the buffer was already fed; no data can follow")
            while len(view):
                room = self._max_size - len(self._data)
                if not room:
                    await self._taken.wait()
                    continue
                self._data += view[:room]
                view = view[room:]
                self._readers.open(ONLY)
            if eof:
                self._eof = True
                self._readers.open(ONLY)

    async def read(self, size: int = -1, *, timeout: float | None = None) -> tuple[bytes, bool]:
        """Take bytes as soon as any are available; waiting readers are served in order.

        Args:
            size: How many bytes to take at most; -1: all that are available.
            timeout: Seconds to wait at most; None: no limit.

        Returns:
            The bytes, and whether they are the last ones. ``(b"", True)`` at the end.

        Raises:
            TimeoutError: Nothing was fed in time.

        Cancellation: safe, nothing is taken.
        """
        check_integer("size", size, -1, sys.maxsize)
        timeout = check_timeout("timeout", timeout)
        if size and (self._readers or not self._is_readable()):
            try:
                await self._readers.wait(ONLY, self, self._is_readable, timeout=timeout)
            except TooLate:
                raise TimeoutError(
                    f"nothing was fed within {timeout} s",
                    timeout_duration=timeout,
                    operation="read",
                ) from None
        count = len(self._data) if size < 0 else size
        taken = bytes(self._data[:count])
        del self._data[:count]
        if taken:
            self._taken.wake()
        return taken, self.at_eof

    def _is_readable(self) -> bool | None:
        return bool(self._data) or self._eof or None
